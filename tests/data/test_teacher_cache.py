import concurrent.futures
import dataclasses
import json
import pickle

import numpy as np
import pytest

from vsumjax import files
from vsumjax.data import teacher_cache
from vsumjax.data.teacher_cache import CacheIdentity, CacheReader, CacheWriter, example_key
from vsumjax.types import InputError

IDENTITY = CacheIdentity(
  teacher_digest="teacher",
  tokenizer_digest="tokenizer",
  prompt_digest="prompt",
  examples_digest="examples",
  num_examples=10,
  window=2,
  num_classes=5,
)
SHARD_SIZE = 4
DIGESTS = ("teacher_digest", "tokenizer_digest", "prompt_digest", "examples_digest")


def logits(identity=IDENTITY):
  shape = (identity.num_examples, identity.window, identity.num_classes)
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def write(writer, shard, identity=IDENTITY):
  keys = [example_key(identity.examples_digest, i) for i in range(shard.start, shard.stop)]
  writer.write_shard(shard, keys, logits(identity)[shard.start : shard.stop])


def make_cache(folder, identity=IDENTITY, shard_size=SHARD_SIZE):
  writer = CacheWriter(folder, identity, shard_size)
  for shard in writer.pending_shards():
    write(writer, shard, identity)
  teacher_cache.seal(folder, identity, shard_size)
  return folder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def shard_paths(folder):
  return sorted(folder.glob("shard-*"))


@pytest.fixture
def cache(tmp_path):
  return make_cache(tmp_path / "cache")


def test_what_is_read_is_what_was_written(cache):
  reader = CacheReader(cache, dataclasses.asdict(IDENTITY))
  assert len(reader) == 10 and reader.identity == IDENTITY
  for example in np.random.default_rng(1).permutation(10):
    assert reader[example].dtype == np.float32
    assert np.array_equal(reader[example], logits()[example])
  teacher_cache.verify(cache)


@pytest.mark.parametrize("example", [-1, 10])
def test_there_is_nothing_beyond_the_examples(cache, example):
  with pytest.raises(IndexError):
    CacheReader(cache, {})[example]


def test_a_score_record_takes_at_most_64_bytes_on_disk(tmp_path):
  identity = dataclasses.replace(IDENTITY, window=1, num_examples=20_000)
  folder = make_cache(tmp_path / "cache", identity, shard_size=20_000)
  assert shard_paths(folder)[0].stat().st_size / 20_000 <= 64


def test_the_same_answers_give_the_same_bytes(tmp_path, cache):
  assert contents(cache) == contents(make_cache(tmp_path / "again"))


def test_processes_share_the_shards(tmp_path):
  writer = CacheWriter(tmp_path, IDENTITY, SHARD_SIZE)
  mine = [[shard.index for shard in writer.pending_shards(p, 2)] for p in range(2)]
  assert mine == [[0, 2], [1]]
  spans = [(shard.start, shard.stop) for shard in writer.pending_shards()]
  assert spans == [(0, 4), (4, 8), (8, 10)]


def test_finished_shards_are_not_redone(tmp_path, cache):
  folder = tmp_path / "resumed"
  writer = CacheWriter(folder, IDENTITY, SHARD_SIZE)
  write(writer, writer.pending_shards()[1])
  writer = CacheWriter(folder, IDENTITY, SHARD_SIZE)
  assert [shard.index for shard in writer.pending_shards()] == [0, 2]
  for shard in writer.pending_shards():
    write(writer, shard)
  assert CacheWriter(folder, IDENTITY, SHARD_SIZE).pending_shards() == []
  teacher_cache.seal(folder, IDENTITY, SHARD_SIZE)
  assert contents(folder) == contents(cache)
  teacher_cache.seal(folder, IDENTITY, SHARD_SIZE)
  assert contents(folder) == contents(cache)


def test_a_write_that_fails_leaves_the_shard_pending(tmp_path, monkeypatch):
  writer = CacheWriter(tmp_path, IDENTITY, SHARD_SIZE)
  first, *rest = writer.pending_shards()

  def fail(path):
    raise OSError("no space left on device")

  with monkeypatch.context() as patched:
    patched.setattr(files, "_flush", fail)
    with pytest.raises(OSError, match="no space"):
      write(writer, first)
  assert writer.pending_shards() == [first, *rest]
  assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


def test_leftovers_of_a_killed_writer_are_ignored_and_removed(tmp_path, cache):
  folder = tmp_path / "killed"
  CacheWriter(folder, IDENTITY, SHARD_SIZE)
  (folder / ".shard-00000-of-00003.123.tmp.arrayrecord").write_bytes(b"half")
  make_cache(folder)
  assert contents(folder) == contents(cache)


def test_rows_out_of_order_are_refused(tmp_path):
  writer = CacheWriter(tmp_path, IDENTITY, SHARD_SIZE)
  shard = writer.pending_shards()[0]
  keys = [example_key(IDENTITY.examples_digest, i) for i in (1, 0, 2, 3)]
  with pytest.raises(ValueError, match="not examples 0 to 3 in order"):
    writer.write_shard(shard, keys, logits()[:4])
  assert writer.pending_shards()[0] == shard


@pytest.mark.parametrize(
  ("rows", "message"),
  [(logits()[:3], "holds logits"), (np.full((4, 2, 5), np.nan, np.float32), "not finite")],
)
def test_unusable_logits_are_refused(tmp_path, rows, message):
  writer = CacheWriter(tmp_path, IDENTITY, SHARD_SIZE)
  shard = writer.pending_shards()[0]
  keys = [example_key(IDENTITY.examples_digest, i) for i in range(4)]
  with pytest.raises(ValueError, match=message):
    writer.write_shard(shard, keys, rows)


@pytest.mark.parametrize("field", DIGESTS)
def test_a_cache_of_something_else_is_refused_by_name(cache, field):
  other = dataclasses.replace(IDENTITY, **{field: "other"})
  with pytest.raises(InputError, match=rf"{field} is {getattr(IDENTITY, field)} .* and other here"):
    CacheReader(cache, dataclasses.asdict(other))
  with pytest.raises(InputError, match=field):
    CacheReader(cache, {}).require({field: "other"})
  with pytest.raises(InputError, match=field):
    CacheWriter(cache, other, SHARD_SIZE)
  with pytest.raises(InputError, match=field):
    teacher_cache.seal(cache, other, SHARD_SIZE)


def test_another_shard_size_is_refused(cache):
  with pytest.raises(InputError, match=r"shard_size is 4 .* and 5 here"):
    CacheWriter(cache, IDENTITY, 5)


def test_an_expectation_nobody_could_meet_is_an_error(cache):
  with pytest.raises(ValueError, match="no field 'teacher'"):
    CacheReader(cache, {"teacher": "teacher"})


def test_an_unfinished_cache_is_not_read(tmp_path):
  writer = CacheWriter(tmp_path, IDENTITY, SHARD_SIZE)
  write(writer, writer.pending_shards()[0])
  with pytest.raises(InputError, match=r"MANIFEST\.json is missing"):
    CacheReader(tmp_path, {})
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the shard is missing"):
    teacher_cache.seal(tmp_path, IDENTITY, SHARD_SIZE)
  assert not (tmp_path / "MANIFEST.json").exists()


def test_a_missing_shard_is_named(cache):
  shard_paths(cache)[1].unlink()
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the shard is missing"):
    CacheReader(cache, {})


def test_a_cut_shard_is_named(cache):
  path = shard_paths(cache)[2]
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(InputError, match=r"shard-00002-of-00003\.arrayrecord: has \d+ bytes"):
    CacheReader(cache, {})
  with pytest.raises(InputError, match=r"shard-00002-of-00003\.arrayrecord: the shard is broken"):
    teacher_cache.seal(cache, IDENTITY, SHARD_SIZE)


@pytest.mark.parametrize("position", [0, 300, -1])
def test_a_flipped_bit_is_named(cache, position):
  path = shard_paths(cache)[1]
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(content)
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the content changed"):
    teacher_cache.verify(cache)
  reader = CacheReader(cache, {})
  assert np.array_equal(reader[0], logits()[0])
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the content changed"):
    reader[5]


def test_a_record_in_the_place_of_another_is_found_out(cache):
  """Even when sizes and digests in the manifest agree with the files."""
  first, second, _ = shard_paths(cache)
  second.write_bytes(first.read_bytes())
  manifest = cache / "MANIFEST.json"
  content = json.loads(manifest.read_text())
  content["shards"][1] = content["shards"][0] | {"file": second.name}
  manifest.write_text(json.dumps(content))
  with pytest.raises(InputError, match=r"shard-00001.*no record of example 4"):
    teacher_cache.verify(cache)


def test_another_schema_is_refused(cache):
  manifest = cache / "MANIFEST.json"
  manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 9}))
  with pytest.raises(InputError, match="schema_version 9"):
    CacheReader(cache, {})


def test_a_reader_can_be_pickled_and_shared_by_threads(cache):
  reader = CacheReader(cache, {"window": 2})
  reader[0]
  copy = pickle.loads(pickle.dumps(reader))
  examples = list(range(10)) * 50
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    rows = list(pool.map(copy.__getitem__, examples))
  assert np.array_equal(np.stack(rows), logits()[examples])
