"""Making one shard of prepared videos."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vsumjax.data import reading
from vsumjax.data.manifest import FILES
from vsumjax.data.prepared import records
from vsumjax.data.prepared.preparation import Done, Outcome, Settings, Skipped, Task
from vsumjax.data.prepared.storage import Folder, on_this_machine
from vsumjax.data.videos import Video
from vsumjax.host import files
from vsumjax.media import audio, segments, sound_codec
from vsumjax.types import InputError

_SPOOL_BYTES = 32 << 20  # of a video's records in memory; more lie in a temporary file
_LENGTH = struct.Struct("<Q")

Step = Callable[[int], None]


def run_task(
  task: Task, blocked: Mapping[int, Skipped], on_step: Step = lambda position: None
) -> Outcome:
  """Makes one shard and, last, its outcome. A video that breaks leaves no record in it.

  Memory grows neither with the number of videos nor with their length.

  Args:
    task: what to make.
    blocked: positions of videos that are not to be touched again, and why.
    on_step: called with the position of the video at work, when it begins and at every record, and
      with the number of videos when all are read.

  Raises:
    OSError, RuntimeError: the shard cannot be written; then the task is as if not begun.
  """
  folder = Folder(task.out)
  names = [task.shard] + [records.sound_name(task.shard)] * task.settings.sound
  with contextlib.ExitStack() as stack:
    paths = [stack.enter_context(folder.replacing(name)) for name in names]
    entries = _write_records(task, paths, blocked, on_step)
    on_step(len(task.videos))
    num_records = sum(entry.num_segments for entry in entries if isinstance(entry, Done))
    made = tuple(
      records.ShardFile(name, path.stat().st_size, num_records, files.file_digest(path))
      for name, path in zip(names, paths, strict=True)
    )
  outcome = Outcome(task.index, task.inputs_digest, made, entries)
  folder.write(task.sidecar, json.dumps(dataclasses.asdict(outcome), indent=1) + "\n")
  return outcome


def _write_records(
  task: Task, paths: Sequence[pathlib.Path], blocked: Mapping[int, Skipped], on_step: Step
) -> tuple[Done | Skipped, ...]:
  entries: list[Done | Skipped] = []
  first = 0
  with contextlib.ExitStack() as stack:
    writers = [stack.enter_context(records.writing(path)) for path in paths]
    for position, item in enumerate(task.videos):
      entry = blocked.get(position)
      if entry is None:
        on_step(position)
        entry = _add_video(item, task.settings, first, writers, lambda at=position: on_step(at))
      entries.append(entry)
      first += entry.num_segments if isinstance(entry, Done) else 0
  return tuple(entries)


def _add_video(
  item: Video, settings: Settings, first: int, writers: Sequence[Any], on_record: Callable[[], None]
) -> Done | Skipped:
  """Appends the records of a video to a shard, and to its sound if there is a second writer."""
  with contextlib.ExitStack() as stack:
    spools = [stack.enter_context(_Spool()) for _ in writers]
    try:
      duration_s, span_s_N2 = _read_video(item, settings, spools, on_record)
    except InputError as error:
      return Skipped(item.id, _kind(item, str(error)), str(error))
    except OSError:  # of our own files: of what is read, InputError speaks
      raise
    except Exception as error:  # nothing that is wrong with one video may stop the others
      return Skipped(item.id, "unexpected error", f"{item.media}: {error!r}")
    for writer, spool in zip(writers, spools, strict=True):
      for record in spool:
        writer.write(record)
  return Done(item.id, first, len(span_s_N2), duration_s, segments.edges_of(span_s_N2))


def _read_video(
  item: Video, settings: Settings, spools: Sequence[_Spool], on_record: Callable[[], None]
) -> tuple[float, np.ndarray]:
  """Fills the spools; returns the duration in seconds and f64[N, 2], the segments."""
  with contextlib.ExitStack() as stack:
    copies = {name: stack.enter_context(on_this_machine(getattr(item, name))) for name in FILES}
    local = dataclasses.replace(item, **copies)
    try:
      local = reading.with_length(local, settings.prompt)
      span_s_N2 = reading.spans_of(local, settings.prompt)
      contents = [_segment_records(local, span_s_N2, settings), _sounds(local.media, span_s_N2)]
      for spool, content in zip(spools, contents, strict=False):
        for record in content:
          spool.append(record)
          on_record()
    except InputError as error:
      raise InputError(_named_as_in_manifest(str(error), item, copies)) from None
  return local.duration_s, span_s_N2


def _segment_records(item: Video, span_s_N2: np.ndarray, settings: Settings) -> Iterator[bytes]:
  config = settings.prompt
  texts = reading.read_texts(item, span_s_N2, config)
  frames = reading.iter_frames(item, span_s_N2, config, settings.time_shifts)
  for segment, (text, pixels) in enumerate(zip(texts, frames, strict=True)):
    span_s = (float(span_s_N2[segment, 0]), float(span_s_N2[segment, 1]))
    coded = tuple(records.encode_jpeg(frame, settings.jpeg_quality) for frame in pixels)
    yield records.encode(records.SegmentRecord(item.id, segment, span_s, coded, text))


def _sounds(path: pathlib.Path, span_s_N2: np.ndarray) -> Iterator[bytes]:
  for samples in _sound_of_spans(audio.iter_audio(path), span_s_N2):
    yield sound_codec.encode_sound(samples)


def _sound_of_spans(chunks: Iterator[np.ndarray], span_s_N2: np.ndarray) -> Iterator[np.ndarray]:
  """Samples f32[n] of each span, zeros after the end of the sound; empty if there is no sound."""
  held, at = np.zeros(0, np.float32), 0  # samples from number `at` on
  has_sound = False
  for start, stop in np.round(span_s_N2 * audio.SAMPLE_RATE).astype(int):
    pieces, end = [held], at + len(held)
    while end < stop and (chunk := next(chunks, None)) is not None:
      pieces.append(chunk)
      end += len(chunk)
      has_sound = True
    joined = np.concatenate(pieces)
    samples = joined[start - at : stop - at]
    held, at = joined[stop - at :], stop
    yield np.pad(samples, (0, stop - start - len(samples))) if has_sound else samples


def _named_as_in_manifest(
  message: str, item: Video, copies: Mapping[str, pathlib.Path | None]
) -> str:
  for name, copy in copies.items():
    if copy is not None:
      message = message.replace(str(copy), str(getattr(item, name)))
  return message


def _kind(item: Video, message: str) -> str:
  """Which file is at fault, to count by."""
  for name in FILES:
    location = getattr(item, name)
    if location is not None and message.startswith(f"{location}:"):
      is_gone = isinstance(location, pathlib.Path) and not location.exists()
      return f"{name} missing" if is_gone else f"{name} unusable"
  return "other"


class _Spool:
  """Records of one video, in order, until it is known that the whole video is good."""

  def __init__(self):
    self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 (closed by __exit__)

  def append(self, record: bytes) -> None:
    self._file.write(_LENGTH.pack(len(record)))
    self._file.write(record)

  def __iter__(self) -> Iterator[bytes]:
    self._file.seek(0)
    while length := self._file.read(_LENGTH.size):
      yield self._file.read(*_LENGTH.unpack(length))

  def __enter__(self) -> _Spool:
    return self

  def __exit__(self, *_) -> None:
    self._file.close()
