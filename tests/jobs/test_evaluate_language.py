"""Captions, retrieval and answers from files to figures, a table and a JSON file."""

import json

import numpy as np
import pytest

from vsumjax.jobs import evaluate_language as job
from vsumjax.types import InputError


def written(folder, **contents):
  paths = {}
  for name, content in contents.items():
    paths[name] = folder / f"{name}.json"
    paths[name].write_text(json.dumps(content))
  return paths


def test_captions(tmp_path, capsys):
  files = written(
    tmp_path,
    candidates={"v1": "a dog runs", "v2": "a cat sleeps"},
    references={"v1": ["A dog runs.", "a dog"], "v2": ["the cat is asleep"]},
  )
  result = job.evaluate_captions(**files, out=tmp_path / "out")
  assert json.loads((tmp_path / "out" / "captions.json").read_text()) == result
  assert (result["num_videos"], result["num_references"]) == (2, 3)
  assert result["per_caption"]["v1"]["ROUGE-L"] == 1.0
  assert list(result["corpus"]) == [
    *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"),
    *("METEOR (exact, stem)", "ROUGE-L", "CIDEr-D"),
  ]
  table = capsys.readouterr().out
  assert "2 captions, 3 references" in table
  assert f"{result['corpus']['CIDEr-D']:.4f}" in table


def test_rarity_of_another_set(tmp_path):
  files = written(tmp_path, candidates={"v": "a dog"}, references={"v": ["a dog"]})
  rare = written(tmp_path, rare={"x": ["a dog"], "y": ["a cat"]})["rare"]
  alone = job.evaluate_captions(**files, out=None, show=False)
  assert "CIDEr-D is 0 by definition" in alone["warnings"][0]
  assert alone["corpus"]["CIDEr-D"] == 0.0
  assert job.evaluate_captions(**files, out=None, rarity_from=rare, show=False)["warnings"] == []


def test_a_warning_stands_under_the_table(tmp_path, capsys):
  files = written(tmp_path, candidates={"v": "a dog"}, references={"v": ["a dog"]})
  job.evaluate_captions(**files, out=None)
  assert "CIDEr-D is 0" in capsys.readouterr().out


def test_retrieval(tmp_path, capsys):
  np.save(tmp_path / "s.npy", np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.95], [0.2, 0.1]]))
  result = job.evaluate_retrieval(tmp_path / "s.npy", tmp_path, captions_per_video=2)
  content = json.loads((tmp_path / "retrieval.json").read_text())
  assert content["text_to_video"]["recall"] == {"1": 0.5, "5": 1.0, "10": 1.0}
  assert content["video_to_text"]["mean_rank"] == result["video_to_text"]["mean_rank"] == 1.0
  out = capsys.readouterr().out
  assert "4 texts, 2 videos" in out
  assert "50.0%" in out


def test_answers(tmp_path, capsys):
  files = written(
    tmp_path,
    predictions={"q1": "Dog", "q2": "red"},
    answers={"q1": {"answer": "dog", "type": "what"}, "q2": {"answer": "blue", "type": "colour"}},
  )
  result = job.evaluate_answers(**files, out=tmp_path)
  assert json.loads((tmp_path / "answers.json").read_text()) == result
  assert result["accuracy"] == 0.5
  assert result["by_type"]["what"] == {"accuracy": 1.0, "num_questions": 1}
  assert result["correct"] == {"q1": True, "q2": False}
  assert result["wups"] == {}
  assert "colour" in capsys.readouterr().out


def test_errors_name_the_files_and_nothing_is_written(tmp_path):
  files = written(
    tmp_path, candidates={"v1": "x"}, references={"v1": ["x"], "v2": ["y"]}, answers={"q": "a"}
  )
  out = tmp_path / "out"
  with pytest.raises(InputError, match=r"candidates\.json against .*video 'v2' has references"):
    job.evaluate_captions(files["candidates"], files["references"], out)
  with pytest.raises(InputError, match=r"candidates\.json against .*question 'q' has no pred"):
    job.evaluate_answers(files["candidates"], files["answers"], out)
  with pytest.raises(InputError, match=r"index\.noun: no such file"):
    job.evaluate_answers(files["answers"], files["answers"], out, wordnet=tmp_path)
  np.save(tmp_path / "s.npy", np.array([[1.0, np.nan], [0, 1]]))
  with pytest.raises(InputError, match=r"s\.npy: row 0 of the similarities holds NaN"):
    job.evaluate_retrieval(tmp_path / "s.npy", out)
  assert not out.exists()
