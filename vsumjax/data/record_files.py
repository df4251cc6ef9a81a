"""What folders of ArrayRecord files share: names, reading at random, the checks of a reader."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from array_record.python import array_record_module

from vsumjax.types import InputError

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access


def shard_name(index: int, num_shards: int) -> str:
  """shard-00000-of-00012.arrayrecord."""
  return f"shard-{index:05d}-of-{num_shards:05d}.arrayrecord"


class RecordFile:
  """The records of one file, read at random. Safe in threads, and picklable (it opens again)."""

  def __init__(self, path: str | pathlib.Path, remedy: str):
    """Opens a file.

    Args:
      path: of the file.
      remedy: what to do about a missing or broken one, as the end of an error.

    Raises:
      InputError: the file is missing or broken.
    """
    self.path, self._remedy = pathlib.Path(path).absolute(), remedy
    self._open()

  def _open(self) -> None:
    require_file(self.path, self._remedy)
    try:
      self._reader = array_record_module.ArrayRecordReader(str(self.path), _READER_OPTIONS)
      self._num_records = self._reader.num_records()
    except (RuntimeError, ValueError) as error:
      raise self._broken(error) from None
    if not self._reader.ok():
      raise self._broken("no end of an ArrayRecord file")

  def __len__(self) -> int:
    return self._num_records

  def read_bytes(self, first: int, stop: int) -> list[bytes]:
    """Records first .. stop - 1.

    Raises:
      InputError: naming the file, if it is broken.
      IndexError: there are no such records.
    """
    if not 0 <= first <= stop <= len(self):
      raise IndexError(f"{self.path}: records {first} to {stop} of {len(self)}")
    if first == stop:
      return []
    try:
      return self._reader.read(first, stop)
    except (RuntimeError, ValueError) as error:
      raise self._broken(error) from None

  def require_length(self, num_records: int) -> None:
    """Raises InputError unless it holds so many records."""
    if len(self) != num_records:
      raise self._broken(f"it holds {len(self)} records, not {num_records}")

  def _broken(self, reason: object) -> InputError:
    return InputError(f"{self.path}: the shard is broken: {reason}; {self._remedy}")

  def __getstate__(self):
    return {"path": self.path, "_remedy": self._remedy}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._open()


def require_file(path: pathlib.Path, remedy: str) -> None:
  """Raises InputError unless the file is there."""
  if not path.is_file():
    raise InputError(f"{path}: the shard is missing; {remedy}")


def require_whole(path: pathlib.Path, num_bytes: int, remedy: str) -> None:
  """Raises InputError unless the file is there with the size it was given."""
  require_file(path, remedy)
  if path.stat().st_size != num_bytes:
    raise InputError(f"{path}: has {path.stat().st_size} bytes, was {num_bytes}; {remedy}")


def decode_versioned(
  path: pathlib.Path, data: bytes, schema_version: int, remedy: str
) -> dict[str, Any]:
  """The JSON object of a file, without its `schema_version`.

  Raises:
    InputError: not a JSON object, or of another version.
  """
  try:
    content = json.loads(data)
  except ValueError as error:
    raise InputError(f"{path}: not JSON ({error}); {remedy}") from None
  if not isinstance(content, dict):
    raise InputError(f"{path}: not a JSON object; {remedy}")
  found = content.pop("schema_version", None)
  if found != schema_version:
    raise InputError(
      f"{path}: schema_version {found}, this program reads {schema_version}; {remedy}"
    )
  return content
