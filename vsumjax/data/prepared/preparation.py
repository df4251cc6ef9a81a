"""Preparing videos: which video goes to which shard, what is finished, and the final manifest.

A task is a run of consecutive videos of the manifest, and one shard (`shards.run_task`). Its
outcome lies beside the shard and is written last, so a task is finished or not begun.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from vsumjax.data import manifest, prompt, record_files
from vsumjax.data.prepared import records
from vsumjax.data.prepared.storage import Folder
from vsumjax.data.videos import Location, Manifest, Prepared, Video
from vsumjax.types import InputError

SETTINGS_FILE = "settings.json"
MANIFEST_FILE = "manifest.jsonl"


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the content of a folder of prepared videos.

  Attributes:
    prompt: what a segment is, how many frames it has and how large they are.
    time_shifts: odd; frames are kept at F * time_shifts times, so that training may shift them.
    jpeg_quality: 1 to 95.
    sound: whether the samples are kept, too.
    split: the only split to prepare; "" prepares all.
    videos_per_shard: consecutive videos that share a shard.
  """

  prompt: prompt.PromptConfig
  time_shifts: int = 1
  jpeg_quality: int = 90
  sound: bool = True
  split: str = ""
  videos_per_shard: int = 16

  def __post_init__(self):
    if self.time_shifts < 1 or self.time_shifts % 2 == 0:
      raise InputError(f"time_shifts: must be odd, 1 or more, is {self.time_shifts}")
    if not 1 <= self.jpeg_quality <= 95:
      raise InputError(f"jpeg_quality: must be from 1 to 95, is {self.jpeg_quality}")
    if self.videos_per_shard < 1:
      raise InputError(f"videos_per_shard: must be 1 or more, is {self.videos_per_shard}")

  def as_json(self) -> dict[str, Any]:
    """Every setting under its name, those of the prompt under `prompt.NAME`."""
    content = {f"prompt.{k}": v for k, v in records.content_of(self.prompt).items()}
    others = (field.name for field in dataclasses.fields(self) if field.name != "prompt")
    return content | {name: getattr(self, name) for name in others}


@dataclasses.dataclass(frozen=True)
class Task:
  """One shard to be made: a run of consecutive videos, without their labels.

  inputs_digest: blake2b-16 hex over the settings, the videos, and size and time of change of those
    files that are on the machine where the run was planned.
  """

  index: int
  num_tasks: int
  videos: tuple[Video, ...]
  settings: Settings
  out: str
  inputs_digest: str

  @property
  def shard(self) -> str:
    return record_files.shard_name(self.index, self.num_tasks)

  @property
  def sidecar(self) -> str:
    """The file that holds the outcome."""
    return pathlib.PurePath(self.shard).with_suffix(".json").name


@dataclasses.dataclass(frozen=True)
class Done:
  """A video whose segments are records first .. first + num_segments - 1 of its shard."""

  id: str
  first: int
  num_segments: int
  duration_s: float
  edges_s: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A video that was left out, what kind of fault it has, and the whole reason in one line."""

  id: str
  kind: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a task. `files` are the shard and, unless it was left out, its sound."""

  task: int
  inputs_digest: str
  files: tuple[records.ShardFile, ...]
  videos: tuple[Done | Skipped, ...]

  @property
  def skipped(self) -> tuple[Skipped, ...]:
    return tuple(entry for entry in self.videos if isinstance(entry, Skipped))

  @property
  def done(self) -> tuple[Done, ...]:
    return tuple(entry for entry in self.videos if isinstance(entry, Done))


def plan(source: Manifest, settings: Settings, folder: Folder) -> tuple[Task, ...]:
  """The tasks of a manifest, in its order.

  Raises:
    InputError: there is no video of the split.
  """
  videos = source.of_split(settings.split) if settings.split else source.videos
  # Labels go to the final manifest only; records are always made from the media.
  videos = [dataclasses.replace(item, labels=None, prepared=None) for item in videos]
  size = settings.videos_per_shard
  runs = [tuple(videos[start : start + size]) for start in range(0, len(videos), size)]
  return tuple(
    Task(index, len(runs), run, settings, str(folder), _digest_inputs(settings, run))
    for index, run in enumerate(runs)
  )


def claim(folder: Folder, tasks: Sequence[Task]) -> None:
  """Writes settings.json, or compares it if it is there. Clears what killed runs left half-written.

  Raises:
    InputError: naming the setting that differs, or a folder that is used for something else.
  """
  expected = {
    "schema_version": records.SCHEMA_VERSION,
    **tasks[0].settings.as_json(),
    "num_shards": len(tasks),
  }
  names = folder.sizes()
  if SETTINGS_FILE not in names:
    if names:
      raise InputError(f"{folder}: holds other files, as {min(names)}; give a new folder")
    folder.write(SETTINGS_FILE, json.dumps(expected, indent=2) + "\n")
  found = _read_json(folder, SETTINGS_FILE)
  for name in sorted({*found, *expected}):
    if found.get(name) != expected.get(name):
      raise InputError(
        f"{folder}: {name} is {found.get(name)} in this folder and {expected.get(name)} here;"
        " prepare into another folder"
      )
  folder.remove_leftovers()


def finished(folder: Folder, tasks: Sequence[Task]) -> dict[int, Outcome]:
  """The outcomes of the tasks that are finished and whose inputs are as they were."""
  sizes = folder.sizes()
  outcomes = {}
  for task in tasks:
    if task.sidecar in sizes:
      outcome = _to_outcome(_read_json(folder, task.sidecar))
      is_whole = all(sizes.get(entry.file) == entry.num_bytes for entry in outcome.files)
      if is_whole and outcome.inputs_digest == task.inputs_digest:
        outcomes[task.index] = outcome
  return outcomes


def begin(folder: Folder) -> None:
  """Says that the folder is unfinished, before a task changes it."""
  if records.PREPARED_FILE in folder.sizes():
    folder.remove(records.PREPARED_FILE)


def finish(
  folder: Folder, source: Manifest, tasks: Sequence[Task], outcomes: Mapping[int, Outcome]
) -> records.PreparedInfo:
  """Writes the manifest that training reads and, last, PREPARED.json.

  Args:
    folder: holds the shards.
    source: the manifest the tasks were planned from.
    tasks: all of them.
    outcomes: of every task, under its index.

  Raises:
    InputError: no video could be prepared.
  """
  done = {entry.id: (task, entry) for task in tasks for entry in outcomes[task.index].done}
  if not done:
    reason = outcomes[0].skipped[0].reason
    raise InputError(f"{folder}: no video could be prepared; the first: {reason}")
  videos = [_prepared_video(item, *done[item.id]) for item in source.videos if item.id in done]
  folder.write(MANIFEST_FILE, _manifest_bytes(videos))
  info = _summary(folder, source, tasks, outcomes)
  folder.write(records.PREPARED_FILE, records.encode_prepared(info))
  return info


def _prepared_video(item: Video, task: Task, entry: Done) -> Video:
  return dataclasses.replace(
    item,
    media=None,
    transcript=None,
    sounds=None,
    duration_s=entry.duration_s,
    edges_s=entry.edges_s,
    prepared=Prepared(pathlib.Path(task.shard), entry.first),
  )


def _manifest_bytes(videos: Sequence[Video]) -> bytes:
  """The content of a manifest beside the shards that its videos name."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    beside = []
    for item in videos:
      shard = folder / item.prepared.shard
      shard.touch()  # `save_manifest` looks for it; the real one may lie in a bucket
      prepared = dataclasses.replace(item.prepared, shard=shard)
      beside.append(dataclasses.replace(item, prepared=prepared))
    manifest.save_manifest(folder / MANIFEST_FILE, beside)
    return (folder / MANIFEST_FILE).read_bytes()


def _summary(
  folder: Folder, source: Manifest, tasks: Sequence[Task], outcomes: Mapping[int, Outcome]
) -> records.PreparedInfo:
  settings = tasks[0].settings
  ordered = [outcomes[task.index] for task in tasks]
  made = [entry for outcome in ordered for entry in outcome.files]
  num_segments = sum(entry.num_segments for outcome in ordered for entry in outcome.done)
  return records.PreparedInfo(
    folder=pathlib.Path(str(folder)),
    prompt=records.content_of(settings.prompt),
    time_shifts=settings.time_shifts,
    jpeg_quality=settings.jpeg_quality,
    manifest_digest=source.digest,
    num_videos=sum(len(outcome.done) for outcome in ordered),
    num_segments=num_segments,
    num_frames=num_segments * settings.prompt.frames_per_segment * settings.time_shifts,
    num_skipped=sum(len(outcome.skipped) for outcome in ordered),
    num_bytes=sum(entry.num_bytes for entry in made),
    shards=tuple(outcome.files[0] for outcome in ordered),
    sounds=tuple(entry for outcome in ordered for entry in outcome.files[1:]),
  )


def _digest_inputs(settings: Settings, videos: Sequence[Video]) -> str:
  content = [settings.as_json(), [_inputs_of(item) for item in videos]]
  return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _inputs_of(item: Video) -> list[Any]:
  named = [_state_of(getattr(item, name)) for name in manifest.FILES]
  return [item.id, item.duration_s, item.edges_s, *named]


def _state_of(location: Location | None) -> list[Any]:
  """Its name and, if it is on this machine, size and time of change: a repaired file differs."""
  if not isinstance(location, pathlib.Path):
    return [location]
  try:
    state = location.stat()
  except OSError:  # it is not there, or has an impossible name: reading it will tell
    return [str(location)]
  return [str(location.resolve()), state.st_size, state.st_mtime_ns]


def _read_json(folder: Folder, name: str) -> dict[str, Any]:
  try:
    return json.loads(folder.read(name))
  except ValueError as error:
    raise InputError(f"{folder}/{name}: not JSON ({error}); delete it") from None


def _to_outcome(fields: dict[str, Any]) -> Outcome:
  made = tuple(records.ShardFile(**entry) for entry in fields.pop("files"))
  videos = tuple(
    Skipped(**entry) if "reason" in entry else Done(**entry | {"edges_s": tuple(entry["edges_s"])})
    for entry in fields.pop("videos")
  )
  return Outcome(files=made, videos=videos, **fields)
