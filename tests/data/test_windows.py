"""Windows of videos as examples: what a window holds, its digest, its cache."""

import concurrent.futures
import dataclasses
import functools
import pathlib
import pickle

import numpy as np
import pytest
from three_videos import CONFIG, DURATIONS_S, NUM_EXAMPLES, WINDOW_BYTES, level_of

from vsumjax.contract import Draw
from vsumjax.data import reading, windows
from vsumjax.data.augment import Augmentation, AugmentConfig
from vsumjax.data.videos import Labels
from vsumjax.data.windows import WindowSource
from vsumjax.media import segments
from vsumjax.types import InputError


def words_of(tokenizer, tokens_T):
  return tokenizer.decode([i for i in tokens_T.tolist() if i < tokenizer.vocab_size])


def test_windows_run_through_the_videos_in_order(source):
  expected = [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (2, 0), (2, 2)]
  assert [source.window(example) for example in range(len(source))] == expected
  assert len(source) == NUM_EXAMPLES
  assert [source.examples_of(index) for index in range(3)] == [range(3), range(3, 5), range(5, 7)]
  with pytest.raises(IndexError):
    source.window(NUM_EXAMPLES)
  assert source.spans(1).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_an_example_holds_its_frames_words_and_labels(source, tokenizer, videos):
  row = source[1]
  for n in range(2):
    assert np.abs(row["frames"][n].astype(int) - level_of(0, 2 + n)).max() <= 6
  text = words_of(tokenizer, row["tokens"])
  assert "title: talk 0." in text and "said: word2<loc0001>" in text and "said: word3\n" in text
  assert "tone" in text
  share_C = np.bincount(videos[0].labels.levels_AN[:, 3] - 1, minlength=5) / 3
  assert np.allclose(row["targets"][1], share_C)
  assert row["weight"].tolist() == [1, 1]
  assert row["example"] == 1


def test_what_a_window_lacks_weighs_nothing(source):
  row = source[2]
  assert row["weight"].tolist() == [1, 0]
  assert not row["frames"][1].any() and not row["targets"][1].any()
  slots_and_marker = CONFIG.frames_per_segment * CONFIG.tokens_per_frame + 1
  assert not row["input_mask"][slots_and_marker : 2 * slots_and_marker].any()


def test_hard_targets_are_the_rounded_mean(videos, tokenizer):
  levels_AN = np.array([[1, 2, 5], [2, 2, 5], [2, 1, 3], [1, 5, 4]], np.int8)  # 1.5, 2.5, 4.25
  video = dataclasses.replace(videos[0], labels=Labels(1.0, levels_AN))
  source = WindowSource([video], CONFIG, tokenizer, targets="hard")
  targets = np.concatenate([source[i]["targets"] for i in range(3)])
  assert targets[:3].argmax(axis=1).tolist() == [1, 2, 3]
  assert targets.sum(axis=1).tolist() == [1, 1, 1, 0, 0, 0]
  # Five segments exist, whether a label covers them or not.
  assert np.concatenate([source[i]["weight"] for i in range(3)]).tolist() == [1, 1, 1, 1, 1, 0]


def test_without_targets_every_segment_weighs_and_labels_are_not_needed(videos, tokenizer):
  unlabelled = [dataclasses.replace(video, labels=None) for video in videos]
  source = WindowSource(unlabelled, CONFIG, tokenizer)
  weights = np.array([source[i]["weight"] for i in range(len(source))])
  assert weights.sum() == sum(DURATIONS_S)
  assert not any(source[i]["targets"].any() for i in range(len(source)))


def test_videos_without_labels_are_refused_with_the_reason_unless_their_set_weighs_nothing(
  videos, tokenizer
):
  some = [videos[0], *(dataclasses.replace(video, labels=None) for video in videos[1:])]
  make = functools.partial(WindowSource, some, CONFIG, tokenizer, targets="histogram")
  with pytest.raises(InputError, match=r"video 'v1' .*1\.mp4.* has no labels, and nobody teaches"):
    make(need_labels="nobody teaches", mixed=[(1, 1), (2, 3)])
  make(need_labels="nobody teaches", mixed=[(1, 1), (2, 0)])
  source = make(mixed=[(1, 1), (2, 3)])
  first, last = source[0], source[len(source) - 1]
  assert first["targets"].any() and not last["targets"].any()
  assert last["weight"].any()


def test_words_nobody_knows_are_refused(videos, tokenizer):
  with pytest.raises(InputError, match=r"without: .* 'audio'"):
    WindowSource(videos, CONFIG, tokenizer, without=frozenset({"audio"}))
  with pytest.raises(InputError, match=r"targets: .* 'soft'"):
    WindowSource(videos, CONFIG, tokenizer, targets="soft")


def test_an_input_left_out_is_as_if_the_file_lacked_it(videos, tokenizer, folder):
  video = videos[0]
  lacks = {
    "sound": dataclasses.replace(video, media=folder / "mute0.mp4"),
    "text": dataclasses.replace(video, title="", transcript=None),
  }
  full = WindowSource([video], CONFIG, tokenizer)[0]
  for name, lacking in lacks.items():
    without = WindowSource([video], CONFIG, tokenizer, without=frozenset({name}))[0]
    assert np.array_equal(
      without["tokens"], WindowSource([lacking], CONFIG, tokenizer)[0]["tokens"]
    )
    assert not np.array_equal(without["tokens"], full["tokens"])
    assert np.array_equal(without["frames"], full["frames"])
  blind = WindowSource([video], CONFIG, tokenizer, without=frozenset({"frames"}))[0]
  assert not blind["frames"].any() and full["frames"].any()
  assert np.array_equal(blind["tokens"], full["tokens"])


def test_the_digest_follows_what_a_teacher_sees(videos, tokenizer, folder, tmp_path):
  def digest(video=videos[0], config=CONFIG, **kwargs):
    return WindowSource([video], config, tokenizer, **kwargs).examples_digest

  padded = tmp_path / "padded.mp4"
  padded.write_bytes(videos[0].media.read_bytes() + b"\0\0\0\x10free" + bytes(8))
  other_words = tmp_path / "other.srt"
  other_words.write_text((folder / "0.srt").read_text().replace("word1", "WORD1"))
  changed = [
    digest(),
    digest(dataclasses.replace(videos[0], id="other")),
    digest(dataclasses.replace(videos[0], title="other")),
    digest(dataclasses.replace(videos[0], media=padded)),
    digest(dataclasses.replace(videos[0], transcript=other_words)),
    digest(dataclasses.replace(videos[0], transcript=None)),
    digest(config=dataclasses.replace(CONFIG, segment_s=2.5)),
    digest(config=dataclasses.replace(CONFIG, window=3)),
    digest(without=frozenset({"sound"})),
  ]
  assert len(set(changed)) == len(changed)
  moved = tmp_path / "moved.mp4"
  moved.write_bytes(videos[0].media.read_bytes())
  assert digest(dataclasses.replace(videos[0], media=moved, labels=None)) == digest()
  assert digest(targets="hard") == digest()


@pytest.fixture
def num_decoded(monkeypatch):
  """How often each media file was decoded."""
  counts = {}
  iter_frames = reading.video.iter_frames

  def counted(path, *args):
    counts[pathlib.Path(path).name] = counts.get(pathlib.Path(path).name, 0) + 1
    return iter_frames(path, *args)

  monkeypatch.setattr(reading.video, "iter_frames", counted)
  return counts


def test_a_video_is_decoded_once_whoever_asks(videos, tokenizer, num_decoded):
  source = WindowSource(videos, CONFIG, tokenizer)
  assert not num_decoded
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    rows = list(pool.map(source.__getitem__, list(range(NUM_EXAMPLES)) * 4))
  assert num_decoded == {"0.mp4": 1, "1.mp4": 1, "2.mp4": 1}
  assert [int(row["example"]) for row in rows] == list(range(NUM_EXAMPLES)) * 4


@pytest.mark.parametrize("cache_bytes", [0, 5 * WINDOW_BYTES])
def test_a_bounded_cache_changes_no_example(videos, tokenizer, source, num_decoded, cache_bytes):
  bounded = WindowSource(videos, CONFIG, tokenizer, targets="histogram", cache_bytes=cache_bytes)
  for example in np.random.default_rng(0).permutation(NUM_EXAMPLES).tolist() * 2:
    row = bounded[example]
    assert all(np.array_equal(row[name], source[example][name]) for name in row)
    assert 0 <= bounded._store.used_bytes <= cache_bytes
  assert num_decoded["0.mp4"] > 1


def test_a_pickled_source_is_the_same_and_decodes_nothing_again(videos, tokenizer, num_decoded):
  source = WindowSource(videos, CONFIG, tokenizer)
  expected = source[0]
  pickled = pickle.dumps(source)
  assert len(pickled) < 20_000
  copy = pickle.loads(pickled)
  assert copy.examples_digest == source.examples_digest
  assert all(np.array_equal(copy[1][name], source[1][name]) for name in expected)
  assert num_decoded == {"0.mp4": 1}


def test_frames_from_a_place_beside_their_own(videos, tokenizer, source, monkeypatch):
  class Shifted(Augmentation):
    def shifts(self, num_segments):
      return np.arange(num_segments) % 3

  augment = AugmentConfig(time_shifts=3)
  shifting = WindowSource(videos, CONFIG, tokenizer, targets="histogram", augment=augment)
  assert shifting.examples_digest == source.examples_digest
  own = shifting[1]
  assert all(np.array_equal(own[name], source[1][name]) for name in own)
  monkeypatch.setattr(windows, "Augmentation", Shifted)
  shifted = shifting.example(1, Draw(0, 0, 0))["frames"]
  times_FS = segments.frame_times(source.spans(0)[2:4], 6).reshape(2, 2, 3)
  expected = list(
    reading.video.iter_frames(videos[0].media, [*times_FS[0, :, 0], *times_FS[1, :, 1]], (16, 16))
  )
  assert np.array_equal(shifted.reshape(4, 16, 16, 3), expected)


def test_videos_without_media_are_for_models_that_see_no_frames(videos, tokenizer):
  bare = dataclasses.replace(videos[0], media=None, duration_s=5.0)
  with pytest.raises(InputError, match=r"video 'v0' has no media .*data\.without"):
    WindowSource([bare], CONFIG, tokenizer)
  source = WindowSource([bare], CONFIG, tokenizer, without=frozenset({"frames"}))
  assert len(source) == 3 and not source[0]["frames"].any()
  assert "said: word0" in words_of(tokenizer, source[0]["tokens"])


def test_segments_may_be_given_by_their_edges(videos, tokenizer):
  item = dataclasses.replace(videos[0], edges_s=(0.0, 0.5, 3.0, 5.0))
  assert len(WindowSource([item], CONFIG, tokenizer).spans(0)) == 5
  given = dataclasses.replace(CONFIG, segmentation="given")
  source = WindowSource([item], given, tokenizer, targets="histogram")
  assert source.spans(0).tolist() == [[0, 0.5], [0.5, 3], [3, 5]]
  assert len(source) == 2
  level_N = source[0]["frames"].reshape(2, 2, -1).mean(axis=2).astype(int)
  assert np.abs(level_N - [[20, 20], [level_of(0, 1), level_of(0, 2)]]).max() <= 6
  with pytest.raises(InputError, match=r"video 'v0' has no edges_s"):
    WindowSource(videos[:1], given, tokenizer)
  beyond = dataclasses.replace(item, edges_s=(0.0, 7.0))
  with pytest.raises(InputError, match=r"video 'v0': edges_s: extends to 7"):
    WindowSource([beyond], given, tokenizer)


@pytest.mark.parametrize("kind", ["shots", "kts"])
def test_segments_may_follow_what_is_seen(videos, tokenizer, kind):
  """The grey of these videos jumps every second."""
  config = dataclasses.replace(CONFIG, segmentation=kind, segment_s=3.0)
  source = WindowSource(videos, config, tokenizer)
  edges_s = source.spans(0)[:, 1]
  assert len(edges_s) >= 2 and edges_s[-1] == pytest.approx(5, abs=0.1)
  assert np.abs(edges_s - np.round(edges_s)).max() <= 0.26
  assert source[0]["frames"].any()


def test_an_example_cannot_change_the_cache(source):
  frames = source[0]["frames"]
  kept = frames.copy()
  frames[:] = 0
  assert np.array_equal(source[0]["frames"], kept) and kept.any()


def test_examples_that_are_kept_keep_no_file_open(source):
  def num_open():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))

  before = num_open()
  rows = [source[example % NUM_EXAMPLES] for example in range(50)]
  assert num_open() <= before + 2 and len(rows) == 50


def test_segments_are_told_where_they_lie_in_their_video(videos, tokenizer):
  config = dataclasses.replace(CONFIG, position=4, text_tokens=100)
  source = WindowSource(videos[:1], config, tokenizer)
  texts = [words_of(tokenizer, source[i]["tokens"]) for i in range(len(source))]
  bars = [part[:4] for text in texts for part in text.split(" at: ")[1:]]
  assert bars == ["0000", "1000", "1100", "1110", "1111"]  # 0.4, 1.2, 2.0, 2.8, 3.6 of 4


def test_a_prompt_without_frames_needs_no_media(videos, tokenizer):
  config = dataclasses.replace(CONFIG, frames_per_segment=0)
  silent = [dataclasses.replace(v, media=None, duration_s=5.0) for v in videos]
  row = WindowSource(silent, config, tokenizer)[0]
  assert row["frames"].shape == (2, 0, 16, 16, 3)
  assert "said: word1" in words_of(tokenizer, row["tokens"])
