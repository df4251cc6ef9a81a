"""The whole job on this machine: workers that crash or hang, failures, reports, the command."""

import dataclasses
import json
import multiprocessing
import os
import signal

import pytest

from vsumjax.data.manifest import load_manifest, save_manifest
from vsumjax.data.prepared import preparation, processes, records, report, shards
from vsumjax.data.prepared.preparation import Settings, Skipped
from vsumjax.data.prepared.records import ShardReader
from vsumjax.data.prepared.storage import Folder
from vsumjax.jobs import prepare
from vsumjax.types import InputError

REPORTS = ("report.json", "report.html")  # they tell the time


@pytest.fixture(scope="module")
def settings(make_config):
  return Settings(make_config().task.prompt, videos_per_shard=2)


@pytest.fixture(scope="module")
def manifest(corpus):
  return corpus / "manifest.jsonl"


def in_this_process(tasks, update):
  for task in tasks:
    yield shards.run_task(task, {})


def run(manifest, out, settings, *, run_tasks=in_this_process, max_failed_share=0.0):
  return prepare.prepare(
    manifest, str(out), settings, run_tasks=run_tasks, max_failed_share=max_failed_share
  )


def contents(out):
  return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in REPORTS}


@pytest.fixture(scope="module")
def straight(manifest, settings, tmp_path_factory):
  """A folder that one worker made of the whole corpus."""
  out = tmp_path_factory.mktemp("prepared") / "out"
  run(manifest, out, settings, run_tasks=prepare.on_this_machine(1, 60))
  return out


@pytest.fixture
def broken_manifest(corpus, tmp_path):
  """Six videos of which the second and the last are broken, and a missing transcript line."""
  videos = list(load_manifest(corpus / "manifest.jsonl").videos)
  (tmp_path / "broken.mp4").write_bytes(b"")
  (tmp_path / "words.srt").write_text("one\n")
  videos[1] = dataclasses.replace(videos[1], media=tmp_path / "broken.mp4")
  videos[5] = dataclasses.replace(videos[5], transcript=tmp_path / "words.srt")
  path = tmp_path / "manifest.jsonl"
  save_manifest(path, videos)
  return path


def test_two_workers_make_the_same_records_as_one(manifest, settings, straight, tmp_path):
  run(manifest, tmp_path / "out", settings, run_tasks=prepare.on_this_machine(2, 60))
  assert contents(tmp_path / "out") == contents(straight)


def test_a_finished_run_is_left_as_it_is(manifest, settings, straight, capfd):
  before = {path: path.stat().st_mtime_ns for path in straight.iterdir()}
  capfd.readouterr()
  info = run(manifest, straight, settings)
  assert info == records.load_prepared(straight)
  assert {path: path.stat().st_mtime_ns for path in straight.iterdir()} == before
  assert capfd.readouterr() == (f"{straight}: already prepared, 6 videos, 0 skipped\n", "")


def test_new_labels_need_no_new_shard(corpus, settings, tmp_path):
  videos = load_manifest(corpus / "manifest.jsonl").videos[:2]
  path, out = tmp_path / "manifest.jsonl", tmp_path / "out"
  save_manifest(path, videos)
  run(path, out, settings)
  shard = out / "shard-00000-of-00001.arrayrecord"
  made_ns = shard.stat().st_mtime_ns
  save_manifest(path, [dataclasses.replace(item, title="new", labels=None) for item in videos])
  run(path, out, settings)
  assert shard.stat().st_mtime_ns == made_ns
  assert [item.title for item in load_manifest(out / "manifest.jsonl").videos] == ["new", "new"]
  digest = load_manifest(path).digest
  assert records.load_prepared(out).manifest_digest == digest


def test_broken_videos_are_reported_and_left_out(broken_manifest, settings, tmp_path, capfd):
  out = tmp_path / "out"
  capfd.readouterr()
  info = run(broken_manifest, out, settings, max_failed_share=0.34)
  ids = [item.id for item in load_manifest(broken_manifest).videos]
  kept = [item.id for item in load_manifest(out / "manifest.jsonl").videos]
  assert kept == [ids[0], *ids[2:5]]
  assert (info.num_videos, info.num_skipped) == (4, 2)
  report = json.loads((out / "report.json").read_text())
  assert report["is_finished"] and report["num_done"] == 4 and report["num_videos"] == 6
  assert report["skipped_by_kind"] == {"media unusable": 1, "transcript unusable": 1}
  assert [entry["id"] for entry in report["skipped"]] == [ids[1], ids[5]]
  assert report["num_segments"] == info.num_segments and report["hours"] > 0.005
  shown = capfd.readouterr()
  page = (out / "report.html").read_text()
  for text in (shown.out, page):
    assert "broken.mp4: not a video or sound file" in text
    assert "words.srt:1: expected" in text
  assert "6/6" in shown.err and "2 skipped" in shown.err
  first = ShardReader(out / "shard-00000-of-00003.arrayrecord").read(0, 1)[0]
  assert first.video_id == ids[0]


def test_too_many_failures_stop_the_run_and_keep_what_is_finished(
  broken_manifest, settings, tmp_path
):
  out = tmp_path / "out"
  message = (
    "1 of 6 videos cannot be prepared, more than a share of 0.1: 1 media unusable; the first:"
    r" .*broken\.mp4: not a video"
  )
  with pytest.raises(InputError, match=message):
    run(broken_manifest, out, settings, max_failed_share=0.1)
  assert (out / "shard-00000-of-00003.json").exists()
  assert not (out / "shard-00001-of-00003.json").exists()
  assert not (out / records.PREPARED_FILE).exists()
  report = json.loads((out / "report.json").read_text())
  assert not report["is_finished"] and report["num_skipped"] == 1
  assert "(unfinished)" in (out / "report.html").read_text()
  with pytest.raises(InputError, match=message):  # without doing anything again
    run(broken_manifest, out, settings, max_failed_share=0.1)
  made_ns = (out / "shard-00000-of-00003.json").stat().st_mtime_ns
  assert run(broken_manifest, out, settings, max_failed_share=0.5).num_videos == 4
  assert (out / "shard-00000-of-00003.json").stat().st_mtime_ns == made_ns


def test_a_repaired_file_is_tried_again(broken_manifest, settings, straight, tmp_path):
  out = tmp_path / "out"
  run(broken_manifest, out, settings, max_failed_share=1)
  media = load_manifest(straight.parent / "out" / "manifest.jsonl").videos[1].id
  source = load_manifest(broken_manifest).videos[0].media.parent / f"{media}.mp4"
  (tmp_path / "broken.mp4").write_bytes(source.read_bytes())
  assert run(broken_manifest, out, settings, max_failed_share=1).num_skipped == 1


def tasks_of(manifest, settings, out):
  return preparation.plan(load_manifest(manifest), settings, Folder(out))


def killer(position_killed, num_kills):
  """An `update` that has the worker crash each time it is at a position."""
  kills = []

  def update(position):
    if position == position_killed and len(kills) < num_kills:
      [process] = multiprocessing.active_children()
      kills.append(process.pid)
      os.kill(process.pid, signal.SIGSEGV)

  return update, kills


@pytest.fixture
def held(corpus, tmp_path):
  """A manifest whose second video is a pipe into which nobody writes: opening it waits for ever."""
  videos = list(load_manifest(corpus / "manifest.jsonl").videos[:3])
  os.mkfifo(tmp_path / "pipe.mp4")
  videos[1] = dataclasses.replace(videos[1], media=tmp_path / "pipe.mp4", duration_s=4.0)
  return dataclasses.replace(load_manifest(corpus / "manifest.jsonl"), videos=tuple(videos))


def outcomes(source, settings, out, **options):
  tasks = preparation.plan(source, dataclasses.replace(settings, videos_per_shard=3), Folder(out))
  return list(processes.run_tasks(tasks, num_workers=1, **options))


def test_a_process_that_ends_twice_at_a_video_costs_that_video(held, settings, tmp_path):
  update, kills = killer(position_killed=1, num_kills=9)
  [outcome] = outcomes(held, settings, tmp_path / "out", stall_s=60, update=update)
  assert len(kills) == 2
  assert [entry.id for entry in outcome.done] == [held.videos[0].id, held.videos[2].id]
  [skipped] = outcome.skipped
  assert skipped.kind == "process ended"
  assert skipped.reason == f"{held.videos[1].media}: its process ended with status -11 (SIGSEGV)"
  assert multiprocessing.active_children() == []


def test_a_process_that_ends_once_costs_nothing(held, settings, tmp_path):
  update, kills = killer(position_killed=1, num_kills=1)

  def update_and_mend(position):
    update(position)
    if kills and held.videos[1].media.is_fifo():
      held.videos[1].media.unlink()
      held.videos[1].media.write_bytes(held.videos[0].media.read_bytes())

  [outcome] = outcomes(held, settings, tmp_path / "out", stall_s=60, update=update_and_mend)
  assert len(kills) == 1 and outcome.skipped == ()


def test_processes_that_end_before_they_begin_end_the_run(
  manifest, settings, tmp_path, monkeypatch
):
  monkeypatch.setattr(processes, "_serve", os._exit)  # given a connection, it fails
  tasks = tasks_of(manifest, settings, tmp_path / "out")
  message = "shard-00000-of-00003.arrayrecord: its process ended with status 1, 3 times"
  with pytest.raises(RuntimeError, match=message):
    list(processes.run_tasks(tasks[:1], num_workers=1, stall_s=60))


def test_a_video_that_hangs_is_left_out(held, settings, tmp_path):
  [outcome] = outcomes(held, settings, tmp_path / "out", stall_s=1.5)
  assert outcome.skipped == (
    Skipped(
      held.videos[1].id,
      "no progress",
      f"{held.videos[1].media}: no record was made of it for 1.5 s",
    ),
  )
  assert len(outcome.done) == 2


def test_what_a_task_raises_ends_the_run(manifest, settings, tmp_path):
  tasks = tasks_of(manifest, settings, tmp_path / "out")
  (tmp_path / "out" / tasks[0].sidecar).mkdir()  # a file cannot take its place
  with pytest.raises(OSError, match=r"shard-00000-of-00003\.json") as raised:
    list(processes.run_tasks(tasks, num_workers=1, stall_s=60))
  assert "in run_task" in raised.value.__notes__[0]
  assert multiprocessing.active_children() == []


def test_an_interrupted_run_goes_on(manifest, settings, straight, tmp_path):
  out = tmp_path / "out"

  def run_tasks(tasks, update):
    for number, outcome in enumerate(prepare.on_this_machine(2, 60)(tasks, update)):
      yield outcome
      if number == 0:
        raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    prepare.prepare(manifest, str(out), settings, run_tasks=run_tasks, max_failed_share=0)
  report = json.loads((out / "report.json").read_text())
  assert not report["is_finished"] and report["num_done"] == 2
  again = []

  def count(tasks, update):
    again.extend(tasks)
    return in_this_process(tasks, update)

  prepare.prepare(manifest, str(out), settings, run_tasks=count, max_failed_share=0)
  assert len(again) <= 2
  assert contents(out) == contents(straight)


def test_a_share_that_makes_no_sense_is_refused(manifest, settings, tmp_path):
  with pytest.raises(InputError, match="max_failed_share: must be from 0 to 1, is 5"):
    run(manifest, tmp_path / "out", settings, max_failed_share=5)
  assert not (tmp_path / "out").exists()


def test_kinds_are_counted_the_most_frequent_first():
  skipped = [Skipped(str(n), kind, "") for n, kind in enumerate("babcb")]
  assert list(report.count_kinds(skipped).items()) == [("b", 3), ("a", 1), ("c", 1)]


@pytest.fixture
def config_file(write_config, config_values, tmp_path):
  return write_config(tmp_path / "tiny.py", config_values())


def test_the_command(run_cli, manifest, straight, config_file, tmp_path):
  out = tmp_path / "out"
  options = ("--config", config_file, "--videos-per-shard", "2", "--num-workers", "1")
  status, shown, _ = run_cli("prepare", "--manifest", manifest, "--out", out, *options)
  assert status == 0 and "prepared videos in" in shown
  assert contents(out) == contents(straight)
  changed = (*options, "--jpeg-quality", "50")
  status, _, err = run_cli("prepare", "--manifest", manifest, "--out", out, *changed)
  assert status == 2 and err == (
    f"vsumjax prepare: {out}: jpeg_quality is 90 in this folder and 50 here; prepare into another"
    " folder\n"
  )


def test_every_flag_reaches_its_place(run_cli, manifest, config_file, tmp_path):
  options = ("--split", "test", "--time-shifts", "3", "--no-audio", "--num-workers", "1")
  out = tmp_path / "out"
  command = ("prepare", "--manifest", manifest, "--out", out, "--config", config_file)
  assert run_cli(*command, *options)[0] == 0
  info = records.load_prepared(out)
  assert (info.num_videos, info.time_shifts, info.sounds) == (2, 3, ())
  assert info.num_frames == 3 * info.num_segments


def test_too_many_failures_are_a_line_and_a_status(run_cli, broken_manifest, config_file, tmp_path):
  command = ("prepare", "--manifest", broken_manifest, "--out", tmp_path / "out", "--config")
  status, _, err = run_cli(*command, config_file, "--num-workers", "1")
  assert status == 2
  assert "more than a share of 0.05: " in err.splitlines()[-1]


def test_flags_of_beam_need_a_runner(run_cli, manifest, config_file, tmp_path):
  command = ("prepare", "--manifest", manifest, "--out", tmp_path / "out", "--config", config_file)
  status, _, err = run_cli(*command, "--", "--region=x")
  assert status == 2 and "--region=x: flags after -- go with --runner" in err
