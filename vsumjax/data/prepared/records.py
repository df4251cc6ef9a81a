"""What `launch/prepare.py` writes and training reads: frames, texts and sound, decoded beforehand.

A folder of prepared videos:

  settings.json                     written first: what decides the content (`preparation.Settings`)
  shard-00000-of-00012.arrayrecord  one record a segment, videos one after another
  sound-00000-of-00012.arrayrecord  the sound of the same segments under the same numbers
  shard-00000-of-00012.json         what became of each video of this shard
  manifest.jsonl                    the videos that could be prepared, in their order
  report.json, report.html          what was skipped, and why
  PREPARED.json                     written last (`PreparedInfo`)

A record is a msgpack map: `version`, the fields of `SegmentRecord`, and `text` as a map of the
fields of `prompt.SegmentText`. A folder without PREPARED.json is unfinished and is not read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
from array_record.python import array_record_module
from PIL import Image

from vsumjax.data import prompt
from vsumjax.data.record_files import RecordFile, decode_versioned, require_whole
from vsumjax.types import InputError

SCHEMA_VERSION = 1
PREPARED_FILE = "PREPARED.json"

_RECORD_VERSION = 1
# One record a chunk: a window is read without its neighbours' bytes. Of windows of 4 records of
# 60 kB, chunks of 4 take as long and chunks of 16 three times as long; JPEGs do not compress.
_WRITER_OPTIONS = "group_size:1,uncompressed,max_parallelism:1"
_REMAKE = "prepare the videos again"
# What else there is in a PromptConfig changes the frames or texts of a segment.
_NOT_CONTENT = (
  *("window", "tokens_per_frame", "text_tokens", "title_tokens", "score_tokens"),
  *("position", "length"),  # told by the spans, which are in the records
)


@dataclasses.dataclass(frozen=True)
class SegmentRecord:
  """One segment of one video.

  Attributes:
    video_id: `Video.id`.
    segment: its number in the video, from 0.
    span_s: start and end in seconds.
    frames: F * time_shifts JPEGs, in the order of time.
    text: what is said and heard.
  """

  video_id: str
  segment: int
  span_s: tuple[float, float]
  frames: tuple[bytes, ...]
  text: prompt.SegmentText


def encode(record: SegmentRecord) -> bytes:
  """The bytes of a record; the same record gives the same bytes."""
  fields = dataclasses.asdict(record)
  return msgpack.packb({"version": _RECORD_VERSION, **fields})


def decode(data: bytes) -> SegmentRecord:
  """Reads what `encode` made.

  Raises:
    InputError: bytes that are no record, or a record of another version of this program.
  """
  try:
    fields = msgpack.unpackb(data, use_list=False)
  except ValueError as error:  # what msgpack raises of broken data derives from it
    raise InputError(f"not a record of a segment ({error}); {_REMAKE}") from None
  version = fields.pop("version", None) if isinstance(fields, dict) else None
  if version != _RECORD_VERSION:
    raise InputError(
      f"a record of version {version}, this program reads {_RECORD_VERSION}; {_REMAKE}"
    )
  text = fields.pop("text")
  known = [field.name for field in dataclasses.fields(prompt.SegmentText)]
  if sorted(text) != sorted(known):
    raise InputError(
      f"a record with the texts {', '.join(text)}, this program reads {', '.join(known)}; {_REMAKE}"
    )
  return SegmentRecord(text=prompt.SegmentText(**text), **fields)


def encode_jpeg(frame: np.ndarray, quality: int) -> bytes:
  """Codes u8[h, w, 3], RGB, as JPEG with chroma at full resolution (4:4:4).

  The frames are scaled down already, so there is no redundant chroma to halve. On sampled frames of
  real video at 224 px, quality 90 gives 41.8 dB in 14.8 kB with 4:4:4; 4:2:0 needs quality 95 and
  16.7 kB for 41.7 dB, and at 48 px never gets there.
  """
  coded = io.BytesIO()
  Image.fromarray(frame).save(coded, "JPEG", quality=quality, subsampling=0, optimize=True)
  return coded.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
  """u8[h, w, 3], RGB, read-only. 0.3 ms at 224 px, a third of what FFmpeg's decoder takes."""
  return np.asarray(Image.open(io.BytesIO(data)))


def sound_name(shard: str) -> str:
  """The file with the sound of a shard's segments."""
  return "sound-" + shard.removeprefix("shard-")


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[Any]:
  """Yields what has `write(record_bytes)`, for a file that `ShardReader` reads."""
  writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
  try:
    yield writer
  finally:
    writer.close()


class ShardReader(RecordFile):
  """The segments of one file, or its sound by `read_bytes` and `decode_sound`."""

  def __init__(self, path: str | pathlib.Path):
    """Opens a shard; InputError if it is missing or broken."""
    super().__init__(path, _REMAKE)

  def read(self, first: int, stop: int) -> list[SegmentRecord]:
    """Records first .. stop - 1, decoded. For a file of segments, not of sound.

    Raises:
      InputError: naming the file, if it is broken or of another version.
      IndexError: there are no such records.
    """
    found = self.read_bytes(first, stop)
    try:
      return [decode(data) for data in found]
    except InputError as error:
      raise InputError(f"{self.path}: {error}") from None


@dataclasses.dataclass(frozen=True)
class ShardFile:
  """A finished file: its name, size, records in it, and blake2b-16 hex over it."""

  file: str
  num_bytes: int
  num_records: int
  digest: str


@dataclasses.dataclass(frozen=True)
class PreparedInfo:
  """What a finished folder of prepared videos holds.

  Attributes:
    folder: where it lies.
    prompt: the fields of `PromptConfig` that decide frames and texts (`content_of`).
    time_shifts: frames are taken at F * time_shifts times of each segment.
    jpeg_quality: of the frames.
    manifest_digest: of the manifest it was made from.
    num_videos, num_segments, num_frames: prepared.
    num_skipped: videos that could not be prepared; see report.json.
    num_bytes: of all shards.
    shards: the files with frames and texts, in order.
    sounds: the files with sound, in order; none if it was left out.
  """

  folder: pathlib.Path
  prompt: dict[str, Any]
  time_shifts: int
  jpeg_quality: int
  manifest_digest: str
  num_videos: int
  num_segments: int
  num_frames: int
  num_skipped: int
  num_bytes: int
  shards: tuple[ShardFile, ...]
  sounds: tuple[ShardFile, ...]

  def require(self, config: prompt.PromptConfig, time_shifts: int) -> None:
    """Raises InputError naming the first field in which these videos do not serve a config.

    One frame where there are `time_shifts` neighbours is always served: the middle one is read.
    """
    expected = content_of(config)
    for field in sorted({*expected, *self.prompt}):
      self._require_same(f"prompt.{field}", self.prompt.get(field), expected.get(field))
    if time_shifts != 1:
      self._require_same("time_shifts", self.time_shifts, time_shifts)

  def _require_same(self, field: str, found: Any, expected: Any) -> None:
    if found != expected:
      raise InputError(
        f"{self.folder}: {field} is {found} in the prepared videos and {expected} here;"
        " prepare them for this config in another folder"
      )


def content_of(config: prompt.PromptConfig) -> dict[str, Any]:
  """The fields of a prompt that decide the frames and texts of a segment, as JSON keeps them."""
  fields = dataclasses.asdict(config)
  content = {name: value for name, value in fields.items() if name not in _NOT_CONTENT}
  return json.loads(json.dumps(content))


def encode_prepared(info: PreparedInfo) -> bytes:
  """The content of PREPARED.json."""
  fields = {name: value for name, value in dataclasses.asdict(info).items() if name != "folder"}
  return (json.dumps({"schema_version": SCHEMA_VERSION, **fields}, indent=2) + "\n").encode()


def decode_prepared(folder: pathlib.Path, data: bytes) -> PreparedInfo:
  """Reads what `encode_prepared` made.

  Raises:
    InputError: not JSON, or of another version.
  """
  fields = decode_versioned(folder / PREPARED_FILE, data, SCHEMA_VERSION, _REMAKE)
  for name in ("shards", "sounds"):
    fields[name] = tuple(ShardFile(**entry) for entry in fields[name])
  return PreparedInfo(folder=folder, **fields)


def load_prepared(folder: str | pathlib.Path) -> PreparedInfo:
  """Reads PREPARED.json and looks for every file at its full size.

  Raises:
    InputError: the folder is unfinished, of another version, or a file is missing or cut.
  """
  folder = pathlib.Path(folder)
  path = folder / PREPARED_FILE
  if not path.is_file():
    raise InputError(
      f"{folder}: not a finished folder of prepared videos: {path.name} is missing; let"
      " launch/prepare.py finish"
    )
  info = decode_prepared(folder, path.read_bytes())
  for entry in (*info.shards, *info.sounds):
    require_whole(folder / entry.file, entry.num_bytes, f"copy the whole folder, or {_REMAKE}")
  return info
