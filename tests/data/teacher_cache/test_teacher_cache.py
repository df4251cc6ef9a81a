import concurrent.futures
import dataclasses
import json
import pickle

import numpy as np
import pytest

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.reader import CacheReader, verify
from vsumjax.data.teacher_cache.schema import example_key, load_json
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText
from vsumjax.data.teacher_cache.writer import CacheWriter, _write_json, seal
from vsumjax.host import files
from vsumjax.types import InputError

IDENTITY = ScoreIdentity(
  teacher_digest="teacher",
  tokenizer_digest="tokenizer",
  prompt_digest="prompt",
  examples_digest="examples",
  num_examples=10,
  window=2,
  num_classes=5,
)
TEXT_IDENTITY = dataclasses.replace(
  IDENTITY,
  text_kind="topk",
  text_source="writer",
  text_tokens=6,
  text_entries=3,
  text_temperature=2.0,
  vocab_size=700,
)
SAMPLED_IDENTITY = dataclasses.replace(TEXT_IDENTITY, text_kind="sampled")
SHARD_SIZE = 4
DIGESTS = ("teacher_digest", "tokenizer_digest", "prompt_digest", "examples_digest")


def logits(identity=IDENTITY):
  shape = (identity.num_examples, identity.window, identity.num_classes)
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def text(identity, example):
  """A text of 0 to Y tokens."""
  rng = np.random.default_rng(example)
  num_tokens = example % (identity.text_tokens + 1)
  tokens = rng.integers(identity.vocab_size, size=num_tokens).astype(np.int32)
  logits_yV = rng.normal(size=(num_tokens, identity.vocab_size)).astype(np.float32)
  of = (identity.text_entries, identity.text_temperature)
  if identity.text_kind == "topk":
    return CachedText(tokens, *token_records.top_entries(logits_yV, *of))
  return CachedText(tokens, *token_records.sample_entries(logits_yV, *of, rng))


def answer(identity, example):
  made = text(identity, example) if identity.text_kind else None
  return CachedAnswer(logits(identity)[example], made)


def keys_of(shard, identity=IDENTITY):
  return [example_key(identity.examples_digest, i) for i in range(shard.start, shard.stop)]


def write(writer, shard, identity=IDENTITY):
  answers = [answer(identity, example) for example in range(shard.start, shard.stop)]
  writer.write_shard(shard, keys_of(shard, identity), answers)


def make_cache(folder, identity=IDENTITY, shard_size=SHARD_SIZE):
  writer = CacheWriter(folder, identity, shard_size)
  for shard in writer.pending_shards():
    write(writer, shard, identity)
  seal(folder, identity, shard_size)
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
    found = reader[example]
    assert found.score_logits.dtype == np.float32
    assert np.array_equal(found.score_logits, logits()[example])
    assert found.text is None
  verify(cache)


@pytest.mark.parametrize("identity", [TEXT_IDENTITY, SAMPLED_IDENTITY], ids=["topk", "sampled"])
def test_texts_are_read_as_they_were_written(tmp_path, identity):
  reader = CacheReader(make_cache(tmp_path, identity), dataclasses.asdict(identity))
  assert reader.identity == identity
  for example in np.random.default_rng(1).permutation(10):
    found, written = reader[example], answer(identity, example)
    assert np.array_equal(found.score_logits, written.score_logits)
    for name, value in written.text._asdict().items():
      rtol = 2**-11 if name == "values" else 0  # float16
      np.testing.assert_allclose(getattr(found.text, name), value, rtol=rtol, err_msg=name)
  verify(tmp_path)


@pytest.mark.parametrize("example", [-1, 10])
def test_there_is_nothing_beyond_the_examples(cache, example):
  with pytest.raises(IndexError):
    CacheReader(cache, {})[example]


def test_a_score_record_takes_at_most_64_bytes_on_disk(tmp_path):
  identity = dataclasses.replace(IDENTITY, window=1, num_examples=8192)
  folder = make_cache(tmp_path / "cache", identity, shard_size=8192)
  assert shard_paths(folder)[0].stat().st_size / 8192 <= 64


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
  seal(folder, IDENTITY, SHARD_SIZE)
  assert contents(folder) == contents(cache)
  seal(folder, IDENTITY, SHARD_SIZE)
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
    writer.write_shard(shard, keys, [answer(IDENTITY, i) for i in range(4)])
  assert writer.pending_shards()[0] == shard


def _replaced(identity, **changes):
  good = answer(identity, 5)
  if "score_logits" in changes or changes.get("text", 0) is None:
    return good._replace(**changes)
  return good._replace(text=good.text._replace(**changes))


@pytest.mark.parametrize(
  ("identity", "bad", "message"),
  [
    (IDENTITY, _replaced(IDENTITY, score_logits=np.zeros((1, 5), np.float32)), "not of shape"),
    (IDENTITY, _replaced(IDENTITY, score_logits=np.full((2, 5), np.nan)), "not finite"),
    (IDENTITY, answer(TEXT_IDENTITY, 5), "text_kind is ''"),
    (TEXT_IDENTITY, _replaced(TEXT_IDENTITY, text=None), "text_kind is 'topk'"),
    (TEXT_IDENTITY, _replaced(TEXT_IDENTITY, ids=np.zeros((5, 2), int)), "where Y is 6 and J is 3"),
    (TEXT_IDENTITY, _replaced(TEXT_IDENTITY, tokens=np.zeros(7, int)), "where Y is 6"),
    (
      TEXT_IDENTITY,
      _replaced(TEXT_IDENTITY, tokens=np.full(5, 700)),
      "where the vocabulary has 700",
    ),
    (TEXT_IDENTITY, _replaced(TEXT_IDENTITY, values=np.ones((5, 3))), "above 0"),
  ],
)
def test_unusable_answers_are_refused(tmp_path, identity, bad, message):
  writer = CacheWriter(tmp_path, identity, SHARD_SIZE)
  shard = writer.pending_shards()[0]
  answers = [answer(identity, example) for example in range(3)]
  with pytest.raises(ValueError, match=message):
    writer.write_shard(shard, keys_of(shard), [*answers, bad])
  with pytest.raises(ValueError, match="holds 4 answers, not 3"):
    writer.write_shard(shard, keys_of(shard), answers)
  assert writer.pending_shards()[0] == shard
  assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


@pytest.mark.parametrize(
  "changes",
  [
    {"text_kind": "top"},
    {"text_tokens": 0},
    {"text_entries": 0},
    {"text_temperature": 0.0},
    {"vocab_size": (1 << 18) + 1},
  ],
)
def test_an_impossible_text_is_refused(changes):
  with pytest.raises(ValueError, match="text"):
    dataclasses.replace(TEXT_IDENTITY, **changes)


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
    seal(cache, other, SHARD_SIZE)


@pytest.mark.parametrize(
  ("field", "other"),
  [
    ("text_kind", "sampled"),
    ("text_source", "another"),
    ("text_tokens", 7),
    ("text_entries", 2),
    ("text_temperature", 1.0),
    ("vocab_size", 701),
  ],
)
def test_other_texts_are_refused_by_name(tmp_path, field, other):
  make_cache(tmp_path, TEXT_IDENTITY)
  with pytest.raises(InputError, match=f"{field} is .* in this cache and {other} here"):
    CacheReader(tmp_path, {field: other})
  with pytest.raises(InputError, match=field):
    CacheWriter(tmp_path, dataclasses.replace(TEXT_IDENTITY, **{field: other}), SHARD_SIZE)


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
    seal(tmp_path, IDENTITY, SHARD_SIZE)
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
    seal(cache, IDENTITY, SHARD_SIZE)


@pytest.mark.parametrize("position", [0, 300, -1])
def test_a_flipped_bit_is_named(cache, position):
  path = shard_paths(cache)[1]
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(content)
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the content changed"):
    verify(cache)
  reader = CacheReader(cache, {})
  assert np.array_equal(reader[0].score_logits, logits()[0])
  with pytest.raises(InputError, match=r"shard-00001-of-00003\.arrayrecord: the content changed"):
    reader[5]


def test_a_record_in_the_place_of_another_is_found_out(cache):
  """Even when sizes and digests in the manifest agree with the files."""
  first, second, _ = shard_paths(cache)
  second.write_bytes(first.read_bytes())
  manifest = cache / "MANIFEST.json"
  content = load_json(manifest)
  content["shards"][1] = content["shards"][0] | {"file": second.name}
  _write_json(manifest, content)
  with pytest.raises(InputError, match=r"shard-00001.*no record of example 4"):
    verify(cache)


@pytest.mark.parametrize("version", [1, 9])
def test_another_schema_is_refused(cache, version):
  for name in ("MANIFEST.json", "identity.json"):
    path = cache / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
  told = rf"json: schema_version {version}, this program reads 2; make the cache again"
  with pytest.raises(InputError, match=told):
    CacheReader(cache, {})
  with pytest.raises(InputError, match=told):
    CacheWriter(cache, IDENTITY, SHARD_SIZE)


@pytest.mark.parametrize("identity", [IDENTITY, TEXT_IDENTITY], ids=["scores", "texts"])
@pytest.mark.parametrize("resize", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_broken_record_is_named(tmp_path, monkeypatch, identity, resize):
  """As a writer with a fault would leave it: sizes, digests and headers agree."""
  encode = token_records.encode_answer
  with monkeypatch.context() as patched:
    patched.setattr(token_records, "encode_answer", lambda *args: resize(encode(*args)))
    make_cache(tmp_path, identity)
  with pytest.raises(InputError, match=r"shard-00000.*: the record of example 0: "):
    verify(tmp_path)


def says(content):
  try:
    return json.loads(content)
  except ValueError:
    return None


@pytest.mark.parametrize("name", ["MANIFEST.json", "identity.json"])
def test_a_flipped_bit_of_what_describes_a_cache_is_named(cache, name):
  """Every bit of the file, one by one: none goes unnoticed, and each is told in one line."""
  path = cache / name
  content = path.read_bytes()
  for bit in range(8 * len(content)):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    if says(changed) == says(content):
      continue  # one blank for another
    path.write_bytes(changed)
    with pytest.raises(InputError, match=rf"{name}: "):
      load_json(path)


def test_shards_that_do_not_say_whose_they_are_are_never_another_teachers(cache):
  (cache / "identity.json").unlink()
  other = dataclasses.replace(IDENTITY, teacher_digest="another")
  with pytest.raises(InputError, match=r"identity.json: missing beside shards; make the cache"):
    CacheWriter(cache, other, SHARD_SIZE)


def test_a_reader_can_be_pickled_and_shared_by_threads(cache):
  reader = CacheReader(cache, {"window": 2})
  reader[0]
  copy = pickle.loads(pickle.dumps(reader))
  examples = list(range(10)) * 50
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    rows = list(pool.map(copy.__getitem__, examples))
  assert np.array_equal(np.stack([row.score_logits for row in rows]), logits()[examples])
