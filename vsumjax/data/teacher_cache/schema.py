"""What a teacher says about every example, on disk: schema, writer, sealer, reader and verifier.

A cache is a folder:

  identity.json                     written first: whose answers these are (`CacheIdentity`)
  shard-00000-of-00002.arrayrecord  examples 0 .. shard_size - 1, in order
  shard-00001-of-00002.arrayrecord
  MANIFEST.json                     written last: identity, and size and digest of every shard

A record is 16 bytes of header (little endian) and the answer as the task codes it, those of scores
by `token_records`:

  u8 record version | u8 kind | u16 size | u32 example | 8 bytes key

The key is `example_key` of the digest of all examples, so a record that was moved to another place,
or made for other data, gives itself away. Shards appear whole, by renaming; a folder without
MANIFEST.json is unfinished and is not read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from vsumjax.data.record_files import decode_versioned
from vsumjax.types import InputError

SCHEMA_VERSION = 2
_RECORD_VERSION = 2
HEADER = struct.Struct("<BBHI8s")
IDENTITY_FILE = "identity.json"
MANIFEST_FILE = "MANIFEST.json"
_DELETE = {
  IDENTITY_FILE: "make the cache again in another folder",
  MANIFEST_FILE: "delete it, and the same command resumes",
}
REMAKE = "delete the shard and MANIFEST.json, and let the teacher write it again"


@dataclasses.dataclass(frozen=True)
class CacheIdentity:
  """Whose answers a cache holds, to what, and how they are coded: the schema is the task's.

  A task extends it by fields of its own, all of JSON's types, and says how an answer is coded.

  Attributes:
    teacher_digest: of the teacher's parameters.
    examples_digest: of the source, over all that a teacher sees of its examples.
    num_examples: records in the cache.
  """

  teacher_digest: str
  examples_digest: str
  num_examples: int

  @property
  def kind(self) -> int:
    """Of the records, 0 .. 255: told in each of them, as is `size`."""
    raise NotImplementedError

  @property
  def size(self) -> int:
    """A number that records of other shapes differ in, 0 .. 65,535."""
    raise NotImplementedError

  @property
  def group_size(self) -> int:
    """Records of a chunk, which is read as a whole."""
    raise NotImplementedError

  def encode(self, answer: Any) -> bytes:
    """Raises ValueError for an answer of another shape or with a value that is not finite."""
    raise NotImplementedError

  def compared(self, answer: Any) -> Mapping[str, np.ndarray]:
    """What of an answer a teacher that is asked again gives within a tolerance, by name."""
    raise NotImplementedError

  def decode(self, content: bytes) -> Any:
    """What `encode` was given; ValueError for bytes that it did not write."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Shard:
  """Examples start .. stop - 1, kept in one file."""

  index: int
  start: int
  stop: int


def example_key(examples_digest: str, example: int) -> bytes:
  """8 bytes that stand for one example of one set of examples."""
  return hashlib.blake2b(f"{examples_digest}:{example}".encode(), digest_size=8).digest()


def is_sealed(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder holds a finished cache, of whatever teacher."""
  return (pathlib.Path(folder) / MANIFEST_FILE).exists()


def cut_shards(num_examples: int, shard_size: int) -> list[Shard]:
  if num_examples < 1 or shard_size < 1:
    raise ValueError(f"a cache needs examples and a shard size, not {num_examples}, {shard_size}")
  starts = range(0, num_examples, shard_size)
  return [Shard(k, s, min(s + shard_size, num_examples)) for k, s in enumerate(starts)]


def header(identity: CacheIdentity, example: int, key: bytes) -> bytes:
  return HEADER.pack(_RECORD_VERSION, identity.kind, identity.size, example, key)


def require_same(
  folder: pathlib.Path, found: Mapping[str, object], expected: Mapping[str, object]
) -> None:
  for field, value in expected.items():
    if field not in found:
      raise ValueError(f"a cache has no field {field!r}; it has {', '.join(found)}")
    if found[field] != value:
      raise InputError(
        f"{folder}: {field} is {found[field]} in this cache and {value} here;"
        " make a cache for this run in another folder"
      )


def identity_content(identity: CacheIdentity, shard_size: int) -> dict:
  return {"shard_size": shard_size, "identity": dataclasses.asdict(identity)}


def load_json(path: pathlib.Path) -> dict:
  try:
    data = path.read_bytes()
  except FileNotFoundError as error:
    raise InputError(
      f"{path.parent}: not a finished teacher cache: {path.name} is missing; let the teacher finish"
    ) from error
  content = decode_versioned(path, data, SCHEMA_VERSION, "make the cache again")
  if content.pop("digest", None) != content_digest(content):
    raise InputError(f"{path}: the content changed; {_DELETE[path.name]}")
  return content


def content_digest(content: Mapping[str, object]) -> str:
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
