"""Reading a sealed teacher cache: any example, by its number; and all of it, to check it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from vsumjax.data.record_files import RecordFile, require_whole
from vsumjax.data.teacher_cache.schema import (
  HEADER,
  MANIFEST_FILE,
  REMAKE,
  CacheIdentity,
  cut_shards,
  example_key,
  header,
  load_json,
  require_same,
)
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.host import files
from vsumjax.types import InputError


class CacheReader:
  """A sealed cache, read at random: `reader[example]` is what the teacher says.

  Opening compares the identity with what is expected and looks for every shard at its full size. A
  shard's digest is compared when it is first read, and every record says whether it is the example
  asked for. Safe in threads, and picklable.

  Attributes:
    identity: whose answers these are.
    shards: all of them, in order.
    num_bytes: of the shards together.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    expected: Mapping[str, str | int | float],
    schema: type[CacheIdentity] = ScoreIdentity,
  ):
    """Opens a cache.

    Args:
      folder: the cache.
      expected: values that fields of the identity must have; fields left out may be anything.
      schema: the task's identity.

    Raises:
      InputError: an unfinished cache, a missing or cut shard, or the name of a field that differs.
    """
    self._folder = pathlib.Path(folder).absolute()
    self._expected = dict(expected)
    content = load_json(self._folder / MANIFEST_FILE)
    self._schema = schema
    self.identity = _identity(self._folder, schema, content["identity"])
    self.require(self._expected)
    self._shard_size = content["shard_size"]
    self.shards = cut_shards(self.identity.num_examples, self._shard_size)
    self._entries = content["shards"]
    for entry in self._entries:
      require_whole(self._folder / entry["file"], entry["bytes"], REMAKE)
    self.num_bytes = sum(entry["bytes"] for entry in self._entries)
    self._open: dict[int, RecordFile] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self.identity.num_examples

  def __getitem__(self, example: int) -> Any:
    """InputError if the shard's bytes changed or the record is another example's."""
    if not 0 <= example < len(self):
      raise IndexError(f"example {example} of a cache of {len(self)}")
    index, row = divmod(example, self._shard_size)
    record = self._shard_reader(index).read_bytes(row, row + 1)[0]
    key = example_key(self.identity.examples_digest, example)
    if record[: HEADER.size] != header(self.identity, example, key):
      raise self._broken(index, f"it holds no record of example {example}")
    try:
      return self.identity.decode(record[HEADER.size :])
    except ValueError as error:
      raise self._broken(index, f"the record of example {example}: {error}") from None

  def _broken(self, index: int, reason: str) -> InputError:
    return InputError(f"{self._folder / self._entries[index]['file']}: {reason}; {REMAKE}")

  def _shard_reader(self, index: int) -> RecordFile:
    reader = self._open.get(index)
    if reader is None:
      with self._lock:
        if index not in self._open:
          path = self._folder / self._entries[index]["file"]
          found, digest = files.file_digest(path), self._entries[index]["digest"]
          if found != digest:
            raise self._broken(index, f"the content changed (digest {found}, was {digest})")
          opened, shard = RecordFile(path, REMAKE), self.shards[index]
          opened.require_length(shard.stop - shard.start)
          self._open[index] = opened
        reader = self._open[index]
    return reader

  def require(self, expected: Mapping[str, str | int | float]) -> None:
    """Raises InputError naming the first field of the identity that is not as expected."""
    require_same(self._folder, dataclasses.asdict(self.identity), expected)

  def __reduce__(self):
    return CacheReader, (self._folder, self._expected, self._schema)


def _identity(
  folder: pathlib.Path, schema: type[CacheIdentity], fields: Mapping[str, Any]
) -> CacheIdentity:
  known = {field.name for field in dataclasses.fields(schema)}
  if fields.keys() != known:
    raise InputError(
      f"{folder}: holds the answers of another task (its fields: {', '.join(fields)}); name a cache"
      " of this one"
    )
  return schema(**fields)


def verify(
  folder: str | os.PathLike[str],
  on_progress: Callable[[int, int], None] = lambda done, total: None,
  schema: type[CacheIdentity] = ScoreIdentity,
) -> None:
  """Reads a whole cache back and compares every size, digest and record.

  Raises:
    InputError: naming the shard that is missing, cut, changed or misplaced.
  """
  reader = CacheReader(folder, {}, schema)
  for example in range(len(reader)):
    reader[example]
    on_progress(example + 1, len(reader))
