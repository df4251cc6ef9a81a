"""`cache-teacher --verify`: what is in order passes, and whatever is not is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import cut_shards, example_key
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.jobs import verify_cache as module
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.cached_text import TextConfig
from vsumjax.jobs.verify_cache import verify_cache
from vsumjax.types import InputError

SHARD_SIZE = 3


@pytest.fixture(scope="module")
def cache(trained, tmp_path_factory):
  return cache_teacher(
    trained, tmp_path_factory.mktemp("cache"), batch_size=8, shard_size=SHARD_SIZE
  )


@pytest.fixture
def copy(cache, tmp_path):
  return shutil.copytree(cache, tmp_path / "copy")


def _made_again(cache, folder, change=lambda example, answer: answer, **identity):
  """A cache that is whole, with other answers or another identity."""
  reader = CacheReader(cache, {})
  changed = dataclasses.replace(reader.identity, **identity)
  writer = CacheWriter(folder, changed, SHARD_SIZE)
  for shard in writer.pending_shards():
    examples = range(shard.start, shard.stop)
    keys = [example_key(changed.examples_digest, example) for example in examples]
    writer.write_shard(shard, keys, [change(example, reader[example]) for example in examples])
  seal(folder, changed, SHARD_SIZE)
  return folder


def test_what_is_in_order_passes(trained, cache, run_cli):
  before = {path.name: path.read_bytes() for path in cache.iterdir()}
  status, out, err = run_cli("cache-teacher", "--checkpoint", trained, "--out", cache, "--verify")
  assert status == 0, err
  reader = CacheReader(cache, {})
  assert f"{len(reader.shards)} ({reader.num_bytes:,} bytes)" in out
  assert f"{len(reader)} examples; differ by" in out  # fewer than 64, so all
  assert "tolerance 0.001" in out
  assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_a_damaged_shard_ends_with_status_2(trained, copy, run_cli):
  path = sorted(copy.glob("shard-*"))[-1]
  content = bytearray(path.read_bytes())
  content[200] ^= 1
  path.write_bytes(content)
  status, out, err = run_cli("cache-teacher", "--checkpoint", trained, "--out", copy, "--verify")
  assert (status, out) == (2, "")
  assert f"vsumjax cache-teacher: {path}: the content changed" in err.splitlines()[-1]


def test_an_answer_that_the_teacher_does_not_give_is_named(trained, cache, tmp_path):
  def change(example, answer):
    return answer._replace(score_logits=answer.score_logits + 0.01 * (example == 5))

  _made_again(cache, tmp_path / "same")
  verify_cache(trained, tmp_path / "same", batch_size=8)
  _made_again(cache, tmp_path / "other", change)
  told = r"example 5 \(video 'train_\d+', segment \d+\): score logits .* by up to 0\.01, .* 0\.001"
  with pytest.raises(InputError, match=told):
    verify_cache(trained, tmp_path / "other", batch_size=8)


@pytest.fixture(scope="module", params=token_records.KINDS)
def texts(trained, tmp_path_factory, request):
  """A cache of texts."""
  text = TextConfig(request.param, entries=4, max_new_tokens=3, temperature=2.0)
  out = tmp_path_factory.mktemp(request.param)
  return cache_teacher(trained, out, batch_size=8, shard_size=SHARD_SIZE, text=text)


def test_texts_that_are_in_order_pass(trained, texts):
  assert sum(len(CacheReader(texts, {})[i].text.tokens) for i in range(8)) > 0
  checked = verify_cache(trained, texts, batch_size=8)
  assert checked.num_recomputed == 8
  assert 0 <= checked.largest_difference < 0.01


@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
def test_what_the_teacher_does_not_say_of_a_text_is_named(trained, texts, tmp_path, name):
  def change(example, answer):
    changed = getattr(answer.text, name) + np.float32(0.1 * (example == 6))
    return answer._replace(text=answer.text._replace(**{name: changed}))

  _made_again(texts, tmp_path, change)
  with pytest.raises(InputError, match=rf"example 6 .*: {name} .* by up to 0\.1, "):
    verify_cache(trained, tmp_path, batch_size=8)


@pytest.mark.parametrize(
  "field", ["teacher_digest", "tokenizer_digest", "prompt_digest", "examples_digest"]
)
def test_the_cache_of_something_else_is_named(trained, cache, tmp_path, field):
  _made_again(cache, tmp_path, **{field: "0" * 32})
  with pytest.raises(InputError, match=f"{field} is 0{{32}} in this cache"):
    verify_cache(trained, tmp_path)


def test_parameters_other_than_the_finished_ones_are_found_out(trained, cache, tmp_path):
  """FINISHED.json says whose the cache is; only the checkpoint says whether that is true."""
  workdir = shutil.copytree(trained, tmp_path / "teacher")
  finished = json.loads((workdir / "FINISHED.json").read_text())
  finished["params_digest"] = "0" * 32
  (workdir / "FINISHED.json").write_text(json.dumps(finished))
  with pytest.raises(InputError, match="teacher: the parameters of its checkpoint have digest"):
    verify_cache(workdir, cache)


def test_another_split_is_named(trained, cache):
  with pytest.raises(InputError, match="examples_digest"):
    verify_cache(trained, cache, split="test")


def test_an_unfinished_cache_is_refused(trained, copy):
  (copy / "MANIFEST.json").unlink()
  with pytest.raises(InputError, match="not a finished teacher cache"):
    verify_cache(trained, copy)


@pytest.mark.parametrize(("num_examples", "shard_size"), [(10, 3), (640, 10), (100_000, 1024)])
def test_the_sample_is_of_all_shards(num_examples, shard_size):
  shards = cut_shards(num_examples, shard_size)
  sample = module._sample(shards)
  assert len(set(sample)) == len(sample) >= min(64, num_examples)
  assert {example // shard_size for example in sample} == set(range(len(shards)))
  assert max(sample) < num_examples
  assert sample == module._sample(shards)


def test_rows_hold_the_sample_once():
  rows = np.concatenate([module._rows(list(range(10)), 4, index) for index in range(3)])
  assert rows.tolist() == [*range(10), -1, -1]


@pytest.mark.parametrize("option", [("--text", "topk"), ("--shard-size", "7")])
def test_options_of_writing_are_refused(option, trained, tmp_path, run_cli):
  command = ("cache-teacher", "--checkpoint", trained, "--out", tmp_path, "--verify")
  status, _, err = run_cli(*command, *option)
  assert status == 2
  assert f"{option[0]}: is for writing, and --verify writes nothing" in err
