"""Prepare videos: shards of sampled, coded frames with sound and text, that training reads."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from vsumjax.data.manifest import load_manifest
from vsumjax.data.prepared import beam, preparation, processes, records
from vsumjax.data.prepared.preparation import Outcome, Settings, Task
from vsumjax.data.prepared.report import Report, build_report, count_kinds
from vsumjax.data.prepared.storage import Folder
from vsumjax.data.videos import Manifest
from vsumjax.host.progress import progress
from vsumjax.types import InputError

Update = Callable[[int], None]
RunTasks = Callable[[Sequence[Task], Update], Generator[Outcome, None, None]]


def prepare(
  manifest: Path, out: str, settings: Settings, *, run_tasks: RunTasks, max_failed_share: float
) -> records.PreparedInfo:
  """Prepares the videos of a manifest into the folder `out`, or resumes where it was stopped.

  A finished folder is left as it is.

  Args:
    manifest: of the videos.
    out: a path, or a URL as gs://bucket/folder.
    settings: what decides the content.
    run_tasks: gives the outcome of each task, in any order; it may call its second argument with
      the number of videos that are done in unfinished tasks.
    max_failed_share: of the videos; if more of them cannot be prepared, the run stops.

  Raises:
    InputError: too many failures, or a folder that was begun with other settings.
  """
  if not 0 <= max_failed_share <= 1:
    raise InputError(f"max_failed_share: must be from 0 to 1, is {max_failed_share}")
  # Workers may be started in another folder, and on another machine.
  source = load_manifest(manifest.absolute(), check_files=False)
  folder = Folder(out)
  tasks = preparation.plan(source, settings, folder)
  preparation.claim(folder, tasks)
  outcomes = preparation.finished(folder, tasks)
  info = _already_prepared(folder, source, tasks, outcomes)
  if info is not None:
    print(f"{folder}: already prepared, {info.num_videos} videos, {info.num_skipped} skipped")
    return info
  report = _run(folder, tasks, outcomes, run_tasks, max_failed_share)
  info = preparation.finish(folder, source, tasks, outcomes)
  report.print()
  return info


def on_this_machine(num_workers: int, stall_s: float) -> RunTasks:
  """Runs tasks in processes of this machine; 0 workers stands for one a core."""
  if num_workers < 0 or not stall_s > 0:
    raise InputError(
      f"--num-workers {num_workers} must be 0 or more, --stall-s {stall_s:g} must be above 0"
    )
  num_workers = num_workers or os.cpu_count() or 1

  def run_tasks(tasks: Sequence[Task], update: Update) -> Generator[Outcome, None, None]:
    return processes.run_tasks(tasks, num_workers=num_workers, stall_s=stall_s, update=update)

  return run_tasks


def on_beam(runner: str, flags: Sequence[str], stall_s: float) -> RunTasks:
  """Runs tasks as an Apache Beam pipeline, which keeps its own count of what is done."""

  def run_tasks(tasks: Sequence[Task], update: Update) -> Generator[Outcome, None, None]:
    return beam.run_tasks(tasks, runner=runner, flags=flags, stall_s=stall_s)

  return run_tasks


def _already_prepared(
  folder: Folder, source: Manifest, tasks: Sequence[Task], outcomes: Mapping[int, Outcome]
) -> records.PreparedInfo | None:
  last_files = {preparation.MANIFEST_FILE, records.PREPARED_FILE}
  if len(outcomes) < len(tasks) or not last_files <= folder.sizes().keys():
    return None
  data = folder.read(records.PREPARED_FILE)
  info = records.decode_prepared(Path(str(folder)), data)
  return info if info.manifest_digest == source.digest else None


def _run(
  folder: Folder,
  tasks: Sequence[Task],
  outcomes: dict[int, Outcome],
  run_tasks: RunTasks,
  max_failed_share: float,
) -> Report:
  """Adds the outcomes of the tasks that lack one; writes the report, also of a run that stops."""
  started, earlier = time.monotonic(), frozenset(outcomes)
  pending = [task for task in tasks if task.index not in outcomes]
  total = sum(len(task.videos) for task in tasks)
  preparation.begin(folder)
  try:
    _check_failures(folder, outcomes, total, max_failed_share)
    with progress(f"prepare {folder}") as update:

      def show(in_flight: int) -> None:
        done = sum(len(outcome.videos) for outcome in outcomes.values())
        num_skipped = sum(len(outcome.skipped) for outcome in outcomes.values())
        update(done + in_flight, total, f"{num_skipped} skipped" if num_skipped else "")

      with contextlib.closing(run_tasks(pending, show)) as results:
        for outcome in results:
          outcomes[outcome.task] = outcome
          _check_failures(folder, outcomes, total, max_failed_share)
      show(0)
  finally:
    report = build_report(folder, tasks, outcomes, earlier, time.monotonic() - started)
    folder.write("report.json", report.as_json())
    folder.write("report.html", report.page())
  return report


def _check_failures(
  folder: Folder, outcomes: Mapping[int, Outcome], total: int, max_failed_share: float
) -> None:
  skipped = [entry for _, outcome in sorted(outcomes.items()) for entry in outcome.skipped]
  if len(skipped) <= max_failed_share * total:
    return
  counted = ", ".join(f"{count} {kind}" for kind, count in count_kinds(skipped).items())
  raise InputError(
    f"{folder}: {len(skipped)} of {total} videos cannot be prepared, more than a share of"
    f" {max_failed_share:g}: {counted}; the first: {skipped[0].reason}; all are in"
    f" {folder}/report.html, what is finished is kept"
  )
