import json

import numpy as np
import pytest

from vsumjax.summary import scores


def test_a_summary_adds_up(make_summary):
  summary = make_summary()
  assert summary.length_s == 7.5
  assert summary.share_reached == 7.5 / 11.5
  np.testing.assert_array_equal(summary.selected_span_s_K2, [[2, 4], [6, 8], [8, 11.5]])
  np.testing.assert_array_equal(summary.starts_in_summary_s_N, [np.nan, 0, np.nan, 2, 4])


def test_what_is_heard_is_told_without_repeats(make_summary):
  summary = make_summary(heard=("noise", "noise", "", "noise", "tone"))
  assert summary.sounds == {"noise": [(0, 4), (6, 8)], "tone": [(8, 11.5)]}


def test_lengths_must_agree(make_summary):
  with pytest.raises(ValueError, match="differ in length"):
    make_summary(said=("",))


def test_scores_json_holds_everything(tmp_path, make_summary):
  scores.save_scores(tmp_path / "scores.json", make_summary())
  content = json.loads((tmp_path / "scores.json").read_text())
  segments = content.pop("segments")
  assert content == {
    "schema": 1,
    "media": "talk.mp4",
    "title": "A talk",
    "duration_s": 11.5,
    "share_asked": 0.7,
    "share_reached": 7.5 / 11.5,
    "summary_s": 7.5,
    "model": {"parameters_digest": "9f0c"},
    "sounds": {
      "silence": [[0, 2], [4, 6], [8, 11.5]],
      "loud tone": [[2, 4]],
      "quiet noise": [[6, 8]],
    },
  }
  assert len(segments) == 5
  assert segments[1] == {
    "start_s": 2.0,
    "end_s": 4.0,
    "score": 4.31,
    "exit": 1,
    "selected": True,
    "said": "good morning",
    "heard": "loud tone",
  }


def test_scores_survive_the_file_bit_for_bit(tmp_path, make_summary):
  score_N = np.random.default_rng(0).uniform(1, 5, 5).astype(np.float32)
  summary = make_summary()
  summary = make_summary(scores=summary.scores.replace(score=score_N))
  scores.save_scores(tmp_path / "scores.json", summary)
  segments = json.loads((tmp_path / "scores.json").read_text())["segments"]
  read_N = np.array([segment["score"] for segment in segments], np.float32)
  np.testing.assert_array_equal(read_N, score_N)


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path, make_summary):
  with pytest.raises(ValueError):
    scores.save_scores(tmp_path / "scores.json", make_summary(duration_s=float("nan")))
  assert [path.name for path in tmp_path.iterdir()] == []
