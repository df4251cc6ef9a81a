"""Writing a teacher cache: shards from any number of processes, and the seal at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from array_record.python import array_record_module

from vsumjax.data.record_files import RecordFile, shard_name
from vsumjax.data.teacher_cache.schema import (
  IDENTITY_FILE,
  MANIFEST_FILE,
  REMAKE,
  SCHEMA_VERSION,
  CacheIdentity,
  Shard,
  content_digest,
  cut_shards,
  example_key,
  header,
  identity_content,
  load_json,
  require_same,
)
from vsumjax.host import files
from vsumjax.types import InputError

_WRITER_OPTIONS = "group_size:{},uncompressed,max_parallelism:1"


class CacheWriter:
  """Writes the shards of a cache, in any order and from any number of processes.

  What is written stays: after a restart, `pending_shards` leaves the finished shards out.

  Attributes:
    folder: of the cache.
  """

  def __init__(self, folder: str | os.PathLike[str], identity: CacheIdentity, shard_size: int):
    """Opens a cache to write it, or to go on writing it.

    Raises:
      InputError: the folder holds a cache of another teacher, prompt, data or shard size.
    """
    self.folder = pathlib.Path(folder)
    self._identity = identity
    self._shards = cut_shards(identity.num_examples, shard_size)
    self.folder.mkdir(parents=True, exist_ok=True)
    _claim(self.folder, identity, shard_size)

  def pending_shards(self, process_index: int = 0, process_count: int = 1) -> list[Shard]:
    """The shards this process has yet to write: every `process_count`-th one."""
    mine = self._shards[process_index::process_count]
    return [shard for shard in mine if not self._path(shard).exists()]

  def write_shard(self, shard: Shard, keys: Sequence[bytes], answers: Sequence[Any]) -> None:
    """Writes one shard; it appears under its name only when all of it is on disk.

    Args:
      shard: one of `pending_shards`.
      keys: `WindowSource.example_key` of each answer, a check on their order.
      answers: to examples shard.start .. shard.stop - 1.

    Raises:
      ValueError: answers to other examples, of another shape, or with a value that is not finite.
      OSError: the disk is full or failing; the shard is then still pending.
    """
    self._check(shard, keys, answers)
    options = _WRITER_OPTIONS.format(self._identity.group_size)
    with _writing(self._path(shard)) as temporary:
      writer = array_record_module.ArrayRecordWriter(str(temporary), options)
      for example, key, answer in zip(range(shard.start, shard.stop), keys, answers, strict=True):
        writer.write(self._record(example, key, answer))
      writer.close()

  def _record(self, example: int, key: bytes, answer: Any) -> bytes:
    try:
      content = self._identity.encode(answer)
    except ValueError as error:
      raise ValueError(f"example {example}: {error}") from None
    return header(self._identity, example, key) + content

  def _path(self, shard: Shard) -> pathlib.Path:
    return self.folder / shard_name(shard.index, len(self._shards))

  def _check(self, shard: Shard, keys: Sequence[bytes], answers: Sequence[Any]) -> None:
    digest = self._identity.examples_digest
    if list(keys) != [example_key(digest, i) for i in range(shard.start, shard.stop)]:
      raise ValueError(f"the rows are not examples {shard.start} to {shard.stop - 1} in order")
    if len(answers) != len(keys):
      raise ValueError(f"shard {shard.index} holds {len(keys)} answers, not {len(answers)}")


def seal(folder: str | os.PathLike[str], identity: CacheIdentity, shard_size: int) -> None:
  """Checks that every shard is there and whole, and writes MANIFEST.json.

  Call it once, in one process, after all have written. Sealing again changes nothing. What killed
  writers left half-written is removed.

  Raises:
    InputError: naming the shard that is missing or broken, or the field that differs.
  """
  folder = pathlib.Path(folder)
  _claim(folder, identity, shard_size)
  shards = cut_shards(identity.num_examples, shard_size)
  entries = []
  for shard in shards:
    path = folder / shard_name(shard.index, len(shards))
    if not path.exists():
      raise InputError(f"{path}: the shard is missing; let the teacher write it before sealing")
    RecordFile(path, REMAKE).require_length(shard.stop - shard.start)
    entries.append(
      {"file": path.name, "bytes": path.stat().st_size, "digest": files.file_digest(path)}
    )
  content = identity_content(identity, shard_size) | {"shards": entries}
  _write_json(folder / MANIFEST_FILE, content)
  files.remove_leftovers(folder)


def _claim(folder: pathlib.Path, identity: CacheIdentity, shard_size: int) -> None:
  """Writes identity.json, or compares it if it is there."""
  path = folder / IDENTITY_FILE
  if not path.exists():
    if any(folder.glob("shard-*.arrayrecord")):  # whose they are they do not say
      raise InputError(f"{path}: missing beside shards; make the cache again in another folder")
    _write_json(path, identity_content(identity, shard_size))
  content = load_json(path)
  found = content["identity"] | {"shard_size": content["shard_size"]}
  require_same(folder, found, dataclasses.asdict(identity) | {"shard_size": shard_size})


def _write_json(path: pathlib.Path, content: Mapping[str, object]) -> None:
  content = {"schema_version": SCHEMA_VERSION, **content, "digest": content_digest(content)}
  with _writing(path) as temporary:
    temporary.write_text(json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  try:
    with files.replacing_durably(path) as temporary:
      yield temporary
  except (OSError, RuntimeError) as error:  # ArrayRecord's are RuntimeErrors
    raise OSError(
      f"{path}: cannot be written: {error}; what is finished stays, and the same command resumes"
    ) from error
