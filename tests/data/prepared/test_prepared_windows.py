"""Windows read from prepared shards are those that decoding gives."""

import dataclasses
import pickle

import numpy as np
import pytest
from three_videos import CONFIG

from vsumjax.contract import Draw
from vsumjax.data import manifest, reading
from vsumjax.data.augment import Augmentation, AugmentConfig
from vsumjax.data.order import GlobalOrder
from vsumjax.data.pipeline import training_batches
from vsumjax.data.prepared import preparation, shards
from vsumjax.data.windows import WindowSource
from vsumjax.types import InputError


def prepare(videos, folder, **settings):
  """A folder of prepared videos, made in this process."""
  manifest.save_manifest(folder / "source.jsonl", videos)
  source = manifest.load_manifest(folder / "source.jsonl")
  target = preparation.Folder(str(folder / "prepared"))
  settings = {"jpeg_quality": 95, "videos_per_shard": 2, "sound": False} | settings
  tasks = preparation.plan(source, preparation.Settings(CONFIG, **settings), target)
  preparation.claim(target, tasks)
  outcomes = {task.index: shards.run_task(task, {}) for task in tasks}
  preparation.finish(target, source, tasks, outcomes)
  return folder / "prepared"


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
  return prepare(videos, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def from_shards(prepared, tokenizer):
  return WindowSource(
    manifest.load_manifest(prepared).videos, CONFIG, tokenizer, targets="histogram"
  )


def test_examples_are_those_of_decoding(source, from_shards):
  assert len(from_shards) == len(source)
  for example in range(len(source)):
    decoded, read = source[example], from_shards[example]
    assert np.abs(decoded["frames"].astype(int) - read["frames"]).max() <= 4
    for name in decoded.keys() - {"frames", "teachers"}:
      assert np.array_equal(decoded[name], read[name]), name
  assert from_shards.examples_digest != source.examples_digest  # a teacher saw other pixels


def test_no_video_is_opened(from_shards, monkeypatch):
  def forbidden(*args):
    raise AssertionError("a video was opened")

  monkeypatch.setattr(reading.video, "iter_frames", forbidden)
  monkeypatch.setattr(reading.video, "probe", forbidden)
  copy = pickle.loads(pickle.dumps(from_shards))
  assert all(np.array_equal(copy[2][name], from_shards[2][name]) for name in ("frames", "tokens"))


def test_inputs_can_be_left_out(prepared, tokenizer, videos):
  items = manifest.load_manifest(prepared).videos
  for name in reading.INPUTS:
    without = frozenset({name})
    ours = WindowSource(items, CONFIG, tokenizer, without=without)[1]
    decoded = WindowSource(videos, CONFIG, tokenizer, without=without)[1]
    assert np.array_equal(ours["tokens"], decoded["tokens"])
    assert ours["frames"].any() == decoded["frames"].any() == (name != "frames")


def test_frames_beside_their_own_place(videos, tokenizer, tmp_path):
  items = manifest.load_manifest(prepare(videos, tmp_path, time_shifts=3)).videos
  augment = AugmentConfig(time_shifts=3)
  ours = WindowSource(items, CONFIG, tokenizer, augment=augment)
  decoded = WindowSource(videos, CONFIG, tokenizer, augment=augment)
  for row in range(6):
    frames = [each.example(row, Draw(0, 0, row))["frames"].astype(int) for each in (ours, decoded)]
    assert np.abs(frames[0] - frames[1]).max() <= 4
  middle = WindowSource(items, CONFIG, tokenizer)
  assert np.array_equal(middle[1]["frames"], ours[1]["frames"])


def test_shards_of_another_prompt_or_cut_are_refused(prepared, tokenizer, tmp_path):
  items = manifest.load_manifest(prepared).videos
  with pytest.raises(InputError, match=r"prompt\.image_size is 16 in the prepared videos and 32"):
    WindowSource(items, dataclasses.replace(CONFIG, image_size=32), tokenizer)
  with pytest.raises(InputError, match="time_shifts is 1 in the prepared videos and 3"):
    WindowSource(items, CONFIG, tokenizer, augment=AugmentConfig(time_shifts=3))
  WindowSource(items, dataclasses.replace(CONFIG, window=1, text_tokens=70), tokenizer)
  moved = [dataclasses.replace(items[0], prepared=items[1].prepared)]
  with pytest.raises(InputError, match=r"shard-00000.*is segment 0 of video 'v1' at .* of 'v0'"):
    WindowSource(moved, CONFIG, tokenizer)[0]
  halved = dataclasses.replace(items[0], edges_s=(0.0, 0.5, 5.0))
  with pytest.raises(InputError, match=r"at \(0\.0, 1\.0\), not .* at \(0\.0, 0\.5\)"):
    WindowSource([halved], CONFIG, tokenizer)[0]
  beyond = dataclasses.replace(items[0].prepared, first=10**6)
  with pytest.raises(InputError, match="the manifest is not that of the shards"):
    WindowSource([dataclasses.replace(items[0], prepared=beyond)], CONFIG, tokenizer)[0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_from_shards_in_any_number_of_workers(from_shards, num_workers):
  order = GlobalOrder(len(from_shards), 3)
  batches = list(
    training_batches(
      from_shards,
      order,
      4,
      start_step=2,
      num_steps=3,
      num_workers=num_workers,
    )
  )
  assert (
    np.concatenate([b.example for b in batches]).tolist()
    == order.examples(np.arange(8, 20)).tolist()
  )
  for step, batch in enumerate(batches, start=2):
    for row, example in enumerate(batch.example.tolist()):
      change = Augmentation(AugmentConfig(crop=0.7, flip=0.5, jitter=0.2), 0, step, row)
      assert np.array_equal(batch.frames[row], from_shards.example(example, change)["frames"])
