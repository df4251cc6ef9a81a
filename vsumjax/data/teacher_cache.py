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

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from array_record.python import array_record_module

from vsumjax import files
from vsumjax.data import token_records
from vsumjax.data.record_files import RecordFile, decode_versioned, require_whole, shard_name
from vsumjax.data.token_records import AnswerForm, CachedAnswer
from vsumjax.types import InputError

SCHEMA_VERSION = 2
_RECORD_VERSION = 2
_RECORD_KINDS = {"": 1, token_records.TOPK: 2, token_records.SAMPLED: 3}  # by `text_kind`
_HEADER = struct.Struct("<BBHI8s")
_IDENTITY_FILE = "identity.json"
_MANIFEST_FILE = "MANIFEST.json"
# Records of a chunk, which is read as a whole: 16 score records are a few hundred bytes; of texts,
# which are a hundred times as long, four are read in a quarter of the time of 16.
_WRITER_OPTIONS = "group_size:{},uncompressed,max_parallelism:1"
_GROUP_SIZE, _TEXT_GROUP_SIZE = 16, 4
_DELETE = {
  _IDENTITY_FILE: "make the cache again in another folder",
  _MANIFEST_FILE: "delete it, and the same command goes on",
}
_REMAKE = "delete the shard and MANIFEST.json, and let the teacher write it again"


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
    self._shards = _cut_shards(identity.num_examples, shard_size)
    self.folder.mkdir(parents=True, exist_ok=True)
    _claim(self.folder, identity, shard_size)

  def pending_shards(self, process_index: int = 0, process_count: int = 1) -> list[Shard]:
    """The shards this process has yet to write: every `process_count`-th one."""
    mine = self._shards[process_index::process_count]
    return [shard for shard in mine if not self._path(shard).exists()]

  def write_shard(
    self, shard: Shard, keys: Sequence[bytes], answers: Sequence[CachedAnswer]
  ) -> None:
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
    options = _WRITER_OPTIONS.format(_TEXT_GROUP_SIZE if self._identity.text_kind else _GROUP_SIZE)
    with _writing(self._path(shard)) as temporary:
      writer = array_record_module.ArrayRecordWriter(str(temporary), options)
      for example, key, answer in zip(range(shard.start, shard.stop), keys, answers, strict=True):
        writer.write(self._record(example, key, answer))
      writer.close()

  def _record(self, example: int, key: bytes, answer: CachedAnswer) -> bytes:
    try:
      content = token_records.encode_answer(answer, self._identity.form)
    except ValueError as error:
      raise ValueError(f"example {example}: {error}") from None
    return _header(self._identity, example, key) + content

  def _path(self, shard: Shard) -> pathlib.Path:
    return self.folder / shard_name(shard.index, len(self._shards))

  def _check(self, shard: Shard, keys: Sequence[bytes], answers: Sequence[CachedAnswer]) -> None:
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
  shards = _cut_shards(identity.num_examples, shard_size)
  entries = []
  for shard in shards:
    path = folder / shard_name(shard.index, len(shards))
    if not path.exists():
      raise InputError(f"{path}: the shard is missing; let the teacher write it before sealing")
    RecordFile(path, _REMAKE).require_length(shard.stop - shard.start)
    entries.append(
      {"file": path.name, "bytes": path.stat().st_size, "digest": files.file_digest(path)}
    )
  content = _identity_content(identity, shard_size) | {"shards": entries}
  _write_json(folder / _MANIFEST_FILE, content)
  files.remove_leftovers(folder)


def is_sealed(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder holds a finished cache, of whatever teacher."""
  return (pathlib.Path(folder) / _MANIFEST_FILE).exists()


class CacheReader:
  """A sealed cache, read at random: `reader[example]` is what the teacher says, a `CachedAnswer`.

  Opening compares the identity with what is expected and looks for every shard at its full size. A
  shard's digest is compared when it is first read, and every record says whether it is the example
  asked for. Safe in threads, and picklable.

  Attributes:
    identity: whose answers these are.
    shards: all of them, in order.
    num_bytes: of the shards together.
  """

  def __init__(self, folder: str | os.PathLike[str], expected: Mapping[str, str | int | float]):
    """Opens a cache.

    Args:
      folder: the cache.
      expected: values that fields of `CacheIdentity` must have; fields left out may be anything.

    Raises:
      InputError: an unfinished cache, a missing or cut shard, or the name of a field that differs.
    """
    self._folder = pathlib.Path(folder).absolute()
    self._expected = dict(expected)
    content = _load_json(self._folder / _MANIFEST_FILE)
    self.identity = CacheIdentity(**content["identity"])
    self.require(self._expected)
    self._form = self.identity.form
    self._shard_size = content["shard_size"]
    self.shards = _cut_shards(self.identity.num_examples, self._shard_size)
    self._entries = content["shards"]
    for entry in self._entries:
      require_whole(self._folder / entry["file"], entry["bytes"], _REMAKE)
    self.num_bytes = sum(entry["bytes"] for entry in self._entries)
    self._open: dict[int, RecordFile] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self.identity.num_examples

  def __getitem__(self, example: int) -> CachedAnswer:
    """InputError if the shard's bytes changed or the record is another example's."""
    if not 0 <= example < len(self):
      raise IndexError(f"example {example} of a cache of {len(self)}")
    index, row = divmod(example, self._shard_size)
    record = self._shard_reader(index).read_bytes(row, row + 1)[0]
    key = example_key(self.identity.examples_digest, example)
    if record[: _HEADER.size] != _header(self.identity, example, key):
      raise self._broken(index, f"it holds no record of example {example}")
    try:
      return token_records.decode_answer(record[_HEADER.size :], self._form)
    except ValueError as error:
      raise self._broken(index, f"the record of example {example}: {error}") from None

  def _broken(self, index: int, reason: str) -> InputError:
    return InputError(f"{self._folder / self._entries[index]['file']}: {reason}; {_REMAKE}")

  def _shard_reader(self, index: int) -> RecordFile:
    reader = self._open.get(index)
    if reader is None:
      with self._lock:
        if index not in self._open:
          path = self._folder / self._entries[index]["file"]
          found, digest = files.file_digest(path), self._entries[index]["digest"]
          if found != digest:
            raise self._broken(index, f"the content changed (digest {found}, was {digest})")
          opened, shard = RecordFile(path, _REMAKE), self.shards[index]
          opened.require_length(shard.stop - shard.start)
          self._open[index] = opened
        reader = self._open[index]
    return reader

  def require(self, expected: Mapping[str, str | int | float]) -> None:
    """Raises InputError naming the first field of the identity that is not as expected."""
    _require_same(self._folder, dataclasses.asdict(self.identity), expected)

  def __reduce__(self):
    return CacheReader, (self._folder, self._expected)


def verify(
  folder: str | os.PathLike[str], on_progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
  """Reads a whole cache back and compares every size, digest and record.

  Raises:
    InputError: naming the shard that is missing, cut, changed or misplaced.
  """
  reader = CacheReader(folder, {})
  for example in range(len(reader)):
    reader[example]
    on_progress(example + 1, len(reader))


def _cut_shards(num_examples: int, shard_size: int) -> list[Shard]:
  if num_examples < 1 or shard_size < 1:
    raise ValueError(f"a cache needs examples and a shard size, not {num_examples}, {shard_size}")
  starts = range(0, num_examples, shard_size)
  return [Shard(k, s, min(s + shard_size, num_examples)) for k, s in enumerate(starts)]


def _header(identity: CacheIdentity, example: int, key: bytes) -> bytes:
  size = identity.window * identity.num_classes
  return _HEADER.pack(_RECORD_VERSION, _RECORD_KINDS[identity.text_kind], size, example, key)


def _require_same(
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


def _identity_content(identity: CacheIdentity, shard_size: int) -> dict:
  return {"shard_size": shard_size, "identity": dataclasses.asdict(identity)}


def _claim(folder: pathlib.Path, identity: CacheIdentity, shard_size: int) -> None:
  """Writes identity.json, or compares it if it is there."""
  path = folder / _IDENTITY_FILE
  if not path.exists():
    if any(folder.glob("shard-*.arrayrecord")):  # whose they are they do not say
      raise InputError(f"{path}: missing beside shards; make the cache again in another folder")
    _write_json(path, _identity_content(identity, shard_size))
  content = _load_json(path)
  found = content["identity"] | {"shard_size": content["shard_size"]}
  _require_same(folder, found, dataclasses.asdict(identity) | {"shard_size": shard_size})


def _load_json(path: pathlib.Path) -> dict:
  try:
    data = path.read_bytes()
  except FileNotFoundError as error:
    raise InputError(
      f"{path.parent}: not a finished teacher cache: {path.name} is missing; let the teacher finish"
    ) from error
  content = decode_versioned(path, data, SCHEMA_VERSION, "make the cache again")
  if content.pop("digest", None) != _content_digest(content):
    raise InputError(f"{path}: the content changed; {_DELETE[path.name]}")
  return content


def _write_json(path: pathlib.Path, content: Mapping[str, object]) -> None:
  content = {"schema_version": SCHEMA_VERSION, **content, "digest": _content_digest(content)}
  with _writing(path) as temporary:
    temporary.write_text(json.dumps(content, indent=2) + "\n")


def _content_digest(content: Mapping[str, object]) -> str:
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  try:
    with files.replacing_durably(path) as temporary:
      yield temporary
  except (OSError, RuntimeError) as error:  # ArrayRecord's are RuntimeErrors
    raise OSError(
      f"{path}: cannot be written: {error}; what is finished stays, and the same command goes on"
    ) from error
