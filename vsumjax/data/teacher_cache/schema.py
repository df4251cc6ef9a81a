"""What a teacher says about every example, on disk: schema, writer, sealer, reader and verifier.

A cache is a folder:

  identity.json                     written first: whose answers these are (`CacheIdentity`)
  shard-00000-of-00002.arrayrecord  examples 0 .. shard_size - 1, in order
  shard-00001-of-00002.arrayrecord
  MANIFEST.json                     written last: identity, and size and digest of every shard

A record is 16 bytes of header (little endian) and the answer as `token_records` codes it:

  u8 record version | u8 kind (1 score, 2 topk, 3 sampled) | u16 N * C | u32 example | 8 bytes key

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

from vsumjax.data.record_files import decode_versioned
from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.token_records import AnswerForm
from vsumjax.types import InputError

SCHEMA_VERSION = 2
_RECORD_VERSION = 2
_RECORD_KINDS = {"": 1, token_records.TOPK: 2, token_records.SAMPLED: 3}  # by `text_kind`
HEADER = struct.Struct("<BBHI8s")
IDENTITY_FILE = "identity.json"
MANIFEST_FILE = "MANIFEST.json"
_DELETE = {
  IDENTITY_FILE: "make the cache again in another folder",
  MANIFEST_FILE: "delete it, and the same command goes on",
}
REMAKE = "delete the shard and MANIFEST.json, and let the teacher write it again"


@dataclasses.dataclass(frozen=True)
class CacheIdentity:
  """Whose answers a cache holds, and to what.

  Attributes:
    teacher_digest: of the teacher's parameters.
    tokenizer_digest: `Tokenizer.digest`.
    prompt_digest: `prompt.prompt_digest`.
    examples_digest: `WindowSource.examples_digest`.
    num_examples: records in the cache.
    window: N, segments an example.
    num_classes: C, logits a segment.
    text_kind: of the records of tokens, `topk` or `sampled`; "" in a cache without text.
    text_source: `teacher_digest` of the teacher that wrote the texts.
    text_tokens: Y, the most tokens of a text.
    text_entries: J, likeliest tokens or draws for each token of a text.
    text_temperature: T, of the distributions that entries, logsumexp and entropy are of.
    vocab_size: V, of the logits that these were made of.
  """

  teacher_digest: str
  tokenizer_digest: str
  prompt_digest: str
  examples_digest: str
  num_examples: int
  window: int
  num_classes: int
  text_kind: str = ""
  text_source: str = ""
  text_tokens: int = 0
  text_entries: int = 0
  text_temperature: float = 1.0
  vocab_size: int = 0

  def __post_init__(self):
    if self.text_kind not in _RECORD_KINDS:
      raise ValueError(f"text_kind {self.text_kind!r} is none of {', '.join(_RECORD_KINDS)}")
    if self.text_kind and not (
      0 < self.text_tokens <= token_records.MAX_TOKENS
      and 0 < self.vocab_size <= token_records.MAX_VOCAB_SIZE
      and self.text_entries > 0
      and self.text_temperature > 0
    ):
      raise ValueError(f"a text needs tokens, entries, a temperature and a vocabulary: {self}")

  @property
  def form(self) -> AnswerForm:
    """What its records have in common."""
    shape = (self.window, self.num_classes)
    return AnswerForm(shape, self.text_kind, self.text_tokens, self.text_entries, self.vocab_size)


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
  size = identity.window * identity.num_classes
  return HEADER.pack(_RECORD_VERSION, _RECORD_KINDS[identity.text_kind], size, example, key)


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
