"""`vsumjax cache-teacher`: the whole split, once, for one teacher."""

import re
import shutil

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.teacher_cache.reader import CacheReader, verify
from vsumjax.data.teacher_cache.schema import cut_shards
from vsumjax.experiment.workdir import load_student, load_trained
from vsumjax.inference.teach import Teacher
from vsumjax.jobs import cache_teacher as module
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.sharding import MeshConfig
from vsumjax.types import InputError

BATCH = {"batch_size": 8, "shard_size": 3}


@pytest.fixture(scope="module")
def cache(trained, tmp_path_factory):
  return cache_teacher(trained, tmp_path_factory.mktemp("cache"), **BATCH)


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_cache_holds_the_teachers_last_exit(trained, cache):
  student = load_student(trained)
  source = student.experiment.task.source("train")
  readouts = student.scorer(8).read(source, lambda *update: None)
  verify(cache)
  reader = CacheReader(cache, {"teacher_digest": student.params_digest})
  assert len(reader) == len(source) > 3
  for example in range(len(source)):
    video, first = source.window(example)
    logits_ENC = readouts[video].logits_ENC[:, first : first + 2]
    cached = reader[example].score_logits[: logits_ENC.shape[1]]
    np.testing.assert_allclose(cached, logits_ENC[-1], atol=1e-4)
    assert np.abs(cached - logits_ENC[0]).max() > 1e-2  # not another exit's


def test_an_interrupted_cache_goes_on_where_it_stopped(
  trained, cache, tmp_path, interrupted_writer
):
  out = tmp_path / "cache"
  with interrupted_writer():
    cache_teacher(trained, out, **BATCH)
  assert not (out / "MANIFEST.json").exists()
  with pytest.raises(InputError, match="not a finished teacher cache"):
    CacheReader(out, {})
  finished = {path: path.stat().st_mtime_ns for path in out.glob("*.arrayrecord")}
  assert len(finished) == 1
  cache_teacher(trained, out, **BATCH)
  assert finished.items() <= {p: p.stat().st_mtime_ns for p in out.glob("*.arrayrecord")}.items()
  assert _files(out) == _files(cache)


def test_a_finished_cache_asks_the_teacher_nothing(trained, cache, monkeypatch):
  before = _files(cache)
  monkeypatch.setattr(Teacher, "answers", lambda *args: pytest.fail("scored again"))
  cache_teacher(trained, cache, **BATCH)
  assert _files(cache) == before


def test_another_teachers_folder_is_refused(trained, cache, monkeypatch):
  student = load_trained(trained)
  other = type(student)(student.experiment, student.params, "0" * 32)
  monkeypatch.setattr(module, "load_trained", lambda checkpoint, mesh: other)
  before = _files(cache)
  with pytest.raises(InputError, match=r"teacher_digest is \w+ in this cache and 0{32} here"):
    cache_teacher(trained, cache, **BATCH)
  assert _files(cache) == before


def test_another_split_is_cached_elsewhere(trained, cache, tmp_path):
  with pytest.raises(InputError, match="examples_digest"):
    cache_teacher(trained, cache, split="test", **BATCH)
  cache_teacher(trained, tmp_path / "test", split="test", **BATCH)
  source = load_student(trained).experiment.task.source("test")
  assert len(CacheReader(tmp_path / "test", {})) == len(source)


def test_bad_input_is_one_line_and_leaves_nothing(trained, run_cli, tmp_path):
  out = tmp_path / "cache"
  for checkpoint, options, named in (
    (tmp_path / "none", (), "none: no such folder"),
    (tmp_path, (), "training has not finished there"),
    (trained, ("--split", "tarin"), "no video of split 'tarin'; the splits are: test, train"),
  ):
    status, stdout, err = run_cli(
      "cache-teacher", "--checkpoint", checkpoint, "--out", out, *options
    )
    assert (status, stdout) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert not out.exists()


def test_the_command_writes_a_cache(trained, run_cli, tmp_path):
  out = tmp_path / "cache"
  status, _, err = run_cli("cache-teacher", "--checkpoint", trained, "--out", out)
  assert status == 0
  assert err.startswith(f"cache {out}: ")
  verify(out)
  shutil.rmtree(out)


@pytest.mark.parametrize(
  ("num_examples", "shard_size"),
  [(1, 1024), (11_750, 1024), (65_537, 1025), (524_288, 8192), (10**7, 8192)],
)
def test_shards_grow_with_the_cache_up_to_a_size(num_examples, shard_size):
  assert module.default_shard_size(num_examples) == shard_size


@given(
  num_examples=st.integers(1, 60), shard_size=st.integers(1, 20), num_rows=st.integers(1, 9),
  finished=st.sets(st.integers(0, 59)), place=st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 3)]),
)  # fmt: skip
def test_pending_examples_come_once_and_shards_begin_with_a_batch(
  num_examples, shard_size, num_rows, finished, place
):
  shards = cut_shards(num_examples, shard_size)[place[0] :: place[1]]
  pending = [shard for shard in shards if shard.index not in finished]
  per_shard = -(-min(shard_size, num_examples) // num_rows)
  num_batches = module._num_batches(pending, num_rows, per_shard)
  batches = [module._examples(pending, num_rows, per_shard, k) for k in range(num_batches + 2)]
  assert all(batch.shape == (num_rows,) for batch in batches)
  assert all((batch == -1).all() for batch in batches[num_batches:])
  examples = [example for batch in batches for example in batch.tolist() if example >= 0]
  assert examples == [example for shard in pending for example in range(shard.start, shard.stop)]
  for number, shard in enumerate(pending):
    assert batches[number * per_shard][0] == shard.start


@pytest.mark.parametrize(
  ("option", "value", "told"),
  [("--batch-size", 0, "--batch-size: must be 1"), ("--shard-size", -1, "--shard-size: must be 0")],
)
def test_impossible_sizes_are_refused(run_cli, tmp_path, option, value, told):
  status, out, err = run_cli(
    "cache-teacher", "--checkpoint", tmp_path, "--out", tmp_path / "out", option, value
  )
  assert (status, out, len(err.splitlines())) == (2, "", 1)
  assert told in err
  assert not (tmp_path / "out").exists()


def test_a_large_teacher_lies_on_a_mesh(trained, tmp_path, run_cli):
  """Its parameters are spread over the devices, and it answers as it does from every one."""
  (kernel, *_) = jax.tree.leaves(load_student(trained, mesh=MeshConfig(1, 4, 2)).params["llm"])
  assert not kernel.sharding.is_fully_replicated
  for name, flags in {"one": [], "two": ["--mesh", "1,4,2"]}.items():
    out = tmp_path / name
    status, _, err = run_cli("cache-teacher", "--checkpoint", trained, "--out", out, *flags)
    assert status == 0, err
  one, two = (CacheReader(tmp_path / name, {}) for name in ("one", "two"))
  for example in range(len(one)):
    np.testing.assert_allclose(one[example].score_logits, two[example].score_logits, atol=1e-4)


@pytest.mark.parametrize(
  ("mesh", "message"),
  [("1,2", "--mesh: '1,2' is not three numbers"), ("1,3,1", "mesh: .* does not fit 8 devices")],
)
def test_a_mesh_that_does_not_fit_is_refused(mesh, message, trained, tmp_path, run_cli):
  command = ("cache-teacher", "--checkpoint", trained, "--out", tmp_path / "cache")
  status, _, err = run_cli(*command, "--mesh", mesh)
  assert status == 2
  assert re.search(message, err)
