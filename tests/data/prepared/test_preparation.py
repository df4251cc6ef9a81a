import dataclasses
import os

import numpy as np
import pytest
import three_videos

from vsumjax.data.manifest import load_manifest, save_manifest
from vsumjax.data.prepared import preparation, records, shards
from vsumjax.data.prepared.preparation import Settings
from vsumjax.data.prepared.storage import Folder
from vsumjax.types import InputError

SETTINGS = Settings(three_videos.CONFIG, videos_per_shard=2)


@pytest.fixture
def source(tmp_path, videos):
  """The manifest of three videos, in a folder of its own."""
  path = tmp_path / "source" / "manifest.jsonl"
  path.parent.mkdir()
  save_manifest(path, videos)
  return load_manifest(path)


@pytest.fixture
def out(tmp_path):
  return Folder(tmp_path / "out")


def plan(source, out, settings=SETTINGS):
  return preparation.plan(source, settings, out)


def run(out, tasks):
  return {task.index: shards.run_task(task, {}) for task in tasks}


def test_consecutive_videos_share_a_shard(source, out):
  tasks = plan(source, out)
  assert [[item.id for item in task.videos] for task in tasks] == [["v0", "v1"], ["v2"]]
  assert [task.shard for task in tasks] == [
    "shard-00000-of-00002.arrayrecord",
    "shard-00001-of-00002.arrayrecord",
  ]
  assert all(item.labels is None for task in tasks for item in task.videos)


def test_one_split_can_be_prepared(tmp_path, videos, out):
  splits = ("test", "train", "test")
  path = tmp_path / "manifest.jsonl"
  save_manifest(
    path, [dataclasses.replace(v, split=s) for v, s in zip(videos, splits, strict=True)]
  )
  source = load_manifest(path)
  [task] = plan(source, out, dataclasses.replace(SETTINGS, split="test"))
  assert [item.id for item in task.videos] == ["v0", "v2"]
  info = preparation.finish(out, source, [task], run(out, [task]))
  assert info.num_videos == 2
  with pytest.raises(InputError, match="no video of split 'holiday'"):
    plan(source, out, dataclasses.replace(SETTINGS, split="holiday"))


def test_the_manifest_that_training_reads(source, out, videos, tmp_path):
  (videos[1].media.parent / "gone.mp4").unlink(missing_ok=True)
  broken = dataclasses.replace(videos[1], id="bad", media=videos[1].media.parent / "gone.mp4")
  source = dataclasses.replace(source, videos=(videos[0], broken, *videos[1:]))
  tasks = plan(source, out)
  info = preparation.finish(out, source, tasks, run(out, tasks))
  found = load_manifest(tmp_path / "out" / "manifest.jsonl")
  assert [item.id for item in found.videos] == ["v0", "v1", "v2"]
  firsts = [(item.prepared.shard.name, item.prepared.first) for item in found.videos]
  assert firsts == [(tasks[0].shard, 0), (tasks[1].shard, 0), (tasks[1].shard, 3)]
  for item, given, seconds in zip(found.videos, videos, three_videos.DURATIONS_S, strict=True):
    assert (item.title, item.split) == (given.title, given.split)
    assert np.array_equal(item.labels.levels_AN, given.labels.levels_AN)
    assert item.media is item.transcript is item.sounds is None
    assert item.duration_s == pytest.approx(seconds, abs=0.1)
    assert item.edges_s[:-1] == tuple(range(seconds)) and item.edges_s[-1] == item.duration_s
    assert item.prepared.shard.is_file()
  assert records.load_prepared(tmp_path / "out") == info
  assert (info.num_videos, info.num_skipped, info.num_segments, info.num_frames) == (3, 1, 12, 24)
  assert info.manifest_digest == source.digest
  names = [entry.file for entry in (*info.shards, *info.sounds)]
  assert info.num_bytes == sum((tmp_path / "out" / name).stat().st_size for name in names)
  info.require(three_videos.CONFIG, 1)


def test_finished_tasks_are_found_again(source, out):
  tasks = plan(source, out)
  assert preparation.finished(out, tasks) == {}
  outcomes = run(out, tasks[:1])
  assert preparation.finished(out, tasks) == outcomes
  assert preparation.finished(out, plan(source, out)) == outcomes


@pytest.mark.parametrize("suffix", [".arrayrecord", ".json"])
def test_a_task_without_one_of_its_files_is_not_finished(source, out, suffix, tmp_path):
  tasks = plan(source, out)
  run(out, tasks)
  path = (tmp_path / "out" / tasks[1].shard).with_suffix(suffix)
  path.unlink()
  assert preparation.finished(out, tasks).keys() == {0}


@pytest.mark.parametrize("size", [0, -1])
def test_a_task_with_a_cut_shard_is_not_finished(source, out, size, tmp_path):
  tasks = plan(source, out)
  run(out, tasks)
  path = tmp_path / "out" / records.sound_name(tasks[0].shard)
  path.write_bytes(path.read_bytes()[:size])
  assert preparation.finished(out, tasks).keys() == {1}


def test_a_task_is_done_again_when_its_videos_change(source, out, videos, tmp_path):
  tasks = plan(source, out)
  run(out, tasks)
  words = tmp_path / "words.srt"
  words.write_bytes(videos[2].transcript.read_bytes())
  other = dataclasses.replace(videos[2], transcript=words)
  changed = dataclasses.replace(source, videos=(*videos[:2], other))
  tasks = plan(changed, out)
  assert preparation.finished(out, tasks).keys() == {0}
  run(out, tasks)
  assert preparation.finished(out, plan(changed, out)).keys() == {0, 1}
  os.utime(words, (1, 1))  # as a repaired file has another time
  assert preparation.finished(out, plan(changed, out)).keys() == {0}


def test_labels_and_titles_change_no_shard(source, out, videos):
  run(out, plan(source, out))
  other = [dataclasses.replace(item, title="x", labels=None) for item in videos]
  changed = dataclasses.replace(source, videos=tuple(other))
  assert preparation.finished(out, plan(changed, out)).keys() == {0, 1}


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"jpeg_quality": 80}, "jpeg_quality is 90 in this folder and 80 here"),
    ({"time_shifts": 3}, "time_shifts is 1 in this folder and 3 here"),
    ({"sound": False}, "sound is True in this folder and False here"),
    ({"split": "train"}, "split is  in this folder and train here"),
    ({"videos_per_shard": 1}, "num_shards is 2 in this folder and 3 here"),
    (
      {"prompt": dataclasses.replace(three_videos.CONFIG, image_size=8)},
      r"prompt\.image_size is 16 in this folder and 8 here",
    ),
  ],
)
def test_other_settings_are_refused_by_field(source, out, settings, message):
  preparation.claim(out, plan(source, out))
  preparation.claim(out, plan(source, out))
  with pytest.raises(InputError, match=message):
    preparation.claim(out, plan(source, out, dataclasses.replace(SETTINGS, **settings)))


def test_what_a_prompt_says_of_windows_and_tokens_is_no_matter(source, out):
  preparation.claim(out, plan(source, out))
  prompt = dataclasses.replace(three_videos.CONFIG, window=1, text_tokens=99)
  preparation.claim(out, plan(source, out, dataclasses.replace(SETTINGS, prompt=prompt)))


def test_a_folder_of_other_things_is_not_touched(source):
  folder = Folder(source.path.parent)
  with pytest.raises(InputError, match=r"holds other files, as manifest\.jsonl; give a new folder"):
    preparation.claim(folder, plan(source, folder))
  assert folder.sizes().keys() == {"manifest.jsonl"}


def test_broken_settings_are_named(source, out):
  out.write("settings.json", "{")
  with pytest.raises(InputError, match=r"settings\.json: not JSON"):
    preparation.claim(out, plan(source, out))


def test_what_killed_runs_left_is_cleared(source, out, tmp_path):
  preparation.claim(out, plan(source, out))
  left = tmp_path / "out" / ".shard-00000-of-00002.77.tmp.arrayrecord"
  left.write_bytes(b"half")
  preparation.claim(out, plan(source, out))
  assert not left.exists()


def test_a_folder_is_unfinished_while_it_is_changed(source, out, tmp_path):
  tasks = plan(source, out)
  preparation.finish(out, source, tasks, run(out, tasks))
  preparation.begin(out)
  with pytest.raises(InputError, match="not a finished folder"):
    records.load_prepared(tmp_path / "out")
  preparation.begin(out)


def test_without_a_single_good_video_there_is_no_manifest(source, out, videos):
  gone = dataclasses.replace(videos[0], media=videos[0].media.parent / "gone.mp4")
  source = dataclasses.replace(source, videos=(gone,))
  tasks = plan(source, out)
  with pytest.raises(InputError, match=r"no video could be prepared; the first: .*gone\.mp4"):
    preparation.finish(out, source, tasks, run(out, tasks))
  assert "manifest.jsonl" not in out.sizes()
