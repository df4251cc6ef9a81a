"""The manifest: one JSON object a line, one line a video. Users write it, and so do our tools.

  {"id": "talk_1", "media": "media/talk_1.mp4", "title": "A talk", "split": "train",
   "transcript": "media/talk_1.srt", "labels": {"unit_s": 2.0, "levels": [[1, 5, 3], [2, 4, 3]]}}

What else a line may hold, and what it may leave out:

  media       absolute or relative to the manifest's folder, or a URL as gs://bucket/talk.mp4; left
              out where only annotations are at hand: `duration_s` must be given then
  transcript  what is said: .srt, .vtt, Whisper's .json, .ass, .ssa, .sbv or .ttml
  sounds      what is heard in words of your own, in the same formats; else it is told from the
              signal
  labels      `levels` has one row an annotator; each level covers `unit_s` seconds, from 0 on
  duration_s  seconds; else it is looked up in the media
  edges_s     edges of the segments in seconds, ascending, for the segmentation "given"
  prepared    {"shard": "shard-00000.arrayrecord", "first": 0}: where `launch/prepare.py` put its
              segments
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vsumjax.data.videos import NUM_LEVELS, Labels, Location, Manifest, Prepared, Video
from vsumjax.host.files import write_atomically
from vsumjax.media.demux import is_url
from vsumjax.types import InputError

_REQUIRED = ("id", "title", "split")
FILES = ("media", "transcript", "sounds")  # fields that name files
_FIELDS = (*_REQUIRED, *FILES, "labels", "duration_s", "edges_s", "prepared")
_LABEL_FIELDS = ("unit_s", "levels")
_PREPARED_FIELDS = ("shard", "first")
_LARGEST = sys.float_info.max
_TFDS_INFO = "dataset_info.json"
_IN_FOLDER = "manifest.jsonl"


def load_manifest(path: str | os.PathLike[str], *, check_files: bool = True) -> Manifest:
  """Reads and checks a manifest. Files are looked for and not opened; URLs are not looked for.

  Args:
    path: of the manifest, or of the folder of a data set that `launch/build_dataset.py` built or
      of videos that `launch/prepare.py` prepared.
    check_files: whether a file that is not there is an error.

  Raises:
    InputError: naming file, line and field.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    return _load_folder(path, check_files)
  try:
    lines = path.read_bytes().split(b"\n")
  except OSError as error:
    raise InputError(f"{path}: cannot read the manifest: {error.strerror}") from None
  return _parse(path, lines, check_files)


def _load_folder(folder: pathlib.Path, check_files: bool) -> Manifest:
  if (folder / _IN_FOLDER).is_file():
    return load_manifest(folder / _IN_FOLDER, check_files=check_files)
  if not (folder / _TFDS_INFO).is_file():
    found = itertools.chain(*(folder.glob(f"{depth}/{_TFDS_INFO}") for depth in ("*", "*/*")))
    versions = sorted(str(file.parent) for file in found)
    advice = f"did you mean {versions[-1]}?" if versions else "give the path of a manifest"
    raise InputError(f"{folder}: is a folder without {_IN_FOLDER} and no built data set; {advice}")
  from vsumjax.data.builders import stored  # TFDS takes long to import

  return stored.load_manifest(folder, check_files=check_files)


def save_manifest(path: str | os.PathLike[str], videos: Iterable[Video]) -> None:
  """Writes a manifest that `load_manifest` accepts, with paths relative to its folder.

  Raises:
    InputError: as `load_manifest` would on the result; then nothing is written.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)  # ".." leads nowhere from a folder that is not
  lines = [json.dumps(_to_record(video, path.parent)).encode() for video in videos]
  _parse(path, lines)
  write_atomically(path, b"".join(line + b"\n" for line in lines))


def _to_record(video: Video, folder: pathlib.Path) -> dict[str, Any]:
  record: dict[str, Any] = {"id": video.id, "title": video.title, "split": video.split}
  for field in FILES:
    file = getattr(video, field)
    if file is not None:
      record[field] = _relative(file, folder)
  if video.labels is not None:
    levels = np.asarray(video.labels.levels_AN).tolist()
    record["labels"] = {"unit_s": float(video.labels.unit_s), "levels": levels}
  if video.duration_s is not None:
    record["duration_s"] = float(video.duration_s)
  if video.edges_s is not None:
    record["edges_s"] = [float(edge_s) for edge_s in video.edges_s]
  if video.prepared is not None:
    shard = _relative(video.prepared.shard, folder)
    record["prepared"] = {"shard": shard, "first": int(video.prepared.first)}
  return record


def _relative(file: Location, folder: pathlib.Path) -> str:
  if is_url(file):
    return str(file)
  file = pathlib.Path(file)
  # Folders are resolved because ".." does not undo a symbolic link; the file's own name is kept.
  target = file.parent.resolve() / file.name
  return pathlib.Path(os.path.relpath(target, folder.resolve())).as_posix()


def _parse(path: pathlib.Path, lines: Iterable[bytes], check_files: bool = True) -> Manifest:
  digest = hashlib.blake2b(digest_size=16)
  videos: list[Video] = []
  line_of_id: dict[str, int] = {}
  for number, record in _records(path, lines):
    where = f"{path}:{number}"
    video = _parse_video(where, record, path.parent, check_files)
    if video.id in line_of_id:
      raise InputError(
        f"{where}: id: {video.id!r} is already the id of line {line_of_id[video.id]}; rename one"
      )
    line_of_id[video.id] = number
    videos.append(video)
    digest.update(json.dumps(_canonical(record), sort_keys=True).encode() + b"\n")
  if not videos:
    raise InputError(f"{path}: the manifest holds no video; write one JSON object a line")
  return Manifest(path, tuple(videos), digest.hexdigest())


def _records(path: pathlib.Path, lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
      raise InputError(f"{path}:{number}: not JSON: {error}") from None
    _check_fields(f"{path}:{number}", record, _FIELDS, _REQUIRED)
    yield number, record


def _check_fields(where: str, record: Any, known: tuple[str, ...], required: tuple[str, ...]):
  if not isinstance(record, dict):
    raise InputError(f"{where}: must be a JSON object, is {_short(record)}")
  for field in record:
    if field not in known:
      near = difflib.get_close_matches(field, known, n=1)
      advice = f"did you mean {near[0]!r}?" if near else f"the fields are: {', '.join(known)}"
      raise InputError(f"{where}: unknown field {field!r}; {advice}")
  for field in required:
    if field not in record:
      raise InputError(f"{where}: lacks the field {field!r}")


def _parse_video(
  where: str, record: Mapping[str, Any], folder: pathlib.Path, check_files: bool
) -> Video:
  for field in (*_REQUIRED, *FILES):
    value = record.get(field, "-")
    if not isinstance(value, str) or (field != "title" and not value.strip()):
      raise InputError(f"{where}: {field}: must be a non-empty string, is {_short(value)}")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
      raise InputError(f"{where}: {field}: half a character, {_short(value)}; write it whole")
  files = {
    field: _locate(f"{where}: {field}", record[field], folder, check_files)
    for field in FILES
    if field in record
  }
  video = Video(
    id=record["id"],
    media=files.get("media"),
    title=record["title"],
    split=record["split"],
    transcript=files.get("transcript"),
    sounds=files.get("sounds"),
    labels=parse_labels(f"{where}: labels", record["labels"]) if "labels" in record else None,
    duration_s=_parse_duration(f"{where}: duration_s", record.get("duration_s")),
    edges_s=_parse_edges(f"{where}: edges_s", record.get("edges_s")),
    prepared=_parse_prepared(f"{where}: prepared", record.get("prepared"), folder, check_files),
  )
  if video.media is None and video.duration_s is None:
    raise InputError(f"{where}: lacks the field 'media', and without it 'duration_s' is needed")
  return video


def _locate(where: str, name: str, folder: pathlib.Path, check_files: bool) -> Location:
  if is_url(name):
    return name
  file = folder / name
  if check_files and not file.is_file():
    raise InputError(f"{where}: there is no file {file}")
  return file


def _is_number(value: Any) -> bool:
  # An integer of any length is JSON, and may be too large for a float.
  return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _parse_duration(where: str, value: Any) -> float | None:
  if value is None:
    return None
  if not _is_number(value) or value <= 0:
    raise InputError(f"{where}: must be a number of seconds above 0, is {_short(value)}")
  return float(value)


def _parse_edges(where: str, values: Any) -> tuple[float, ...] | None:
  if values is None:
    return None
  if not isinstance(values, list) or len(values) < 2 or not all(map(_is_number, values)):
    raise InputError(f"{where}: must be a list of two or more numbers, is {_short(values)}")
  if values[0] < 0 or any(b <= a for a, b in itertools.pairwise(values)):
    raise InputError(f"{where}: must ascend from 0 or later, is {_short(values)}")
  return tuple(map(float, values))


def _parse_prepared(
  where: str, record: Any, folder: pathlib.Path, check_files: bool
) -> Prepared | None:
  if record is None:
    return None
  _check_fields(where, record, _PREPARED_FIELDS, _PREPARED_FIELDS)
  shard, first = record["shard"], record["first"]
  if not isinstance(shard, str) or not shard:
    raise InputError(f"{where}.shard: must be the name of a file, is {_short(shard)}")
  if type(first) is not int or first < 0:
    raise InputError(f"{where}.first: must be a whole number from 0, is {_short(first)}")
  return Prepared(pathlib.Path(_locate(f"{where}.shard", shard, folder, check_files)), first)


def parse_labels(where: str, record: Any) -> Labels:
  """The labels that a line's `labels` holds. Raises InputError that starts with `where`."""
  _check_fields(where, record, _LABEL_FIELDS, _LABEL_FIELDS)
  unit_s, rows = record["unit_s"], record["levels"]
  if not _is_number(unit_s) or unit_s <= 0:
    raise InputError(f"{where}.unit_s: must be a number of seconds above 0, is {_short(unit_s)}")
  if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
    raise InputError(f"{where}.levels: must be a list with one list of levels an annotator")
  for index, row in enumerate(rows):
    if not row or len(row) != len(rows[0]):
      raise InputError(
        f"{where}.levels: row {index + 1} has {len(row)} levels, row 1 has {len(rows[0])};"
        " every row needs the same number, at least one"
      )
    bad = [level for level in row if type(level) is not int or not 1 <= level <= NUM_LEVELS]
    if bad:
      raise InputError(
        f"{where}.levels: row {index + 1} holds {_short(bad[0])};"
        f" a level is a whole number from 1 to {NUM_LEVELS}"
      )
  return Labels(float(unit_s), np.array(rows, dtype=np.int8))


def _canonical(record: Mapping[str, Any]) -> dict[str, Any]:
  """A checked record with the spellings that mean the same made the same."""
  record = dict(record)
  for field in FILES:
    if field in record and not is_url(record[field]):
      record[field] = pathlib.PurePath(record[field]).as_posix()
  for field in ("duration_s", "edges_s"):
    if field in record:
      record[field] = np.asarray(record[field], np.float64).tolist()
  if "labels" in record:
    record["labels"] = record["labels"] | {"unit_s": float(record["labels"]["unit_s"])}
  return record


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 40 else text[:37] + "..."
