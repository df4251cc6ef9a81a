"""Preparation killed with SIGKILL at a random moment and started again: the same bytes."""

import random
import time

import pytest
from launched import Launched, needs_proc, require_gone

REPORTS = ("report.json", "report.html")  # they tell the time


@pytest.fixture(scope="module")
def config(write_config, config_values, tmp_path_factory):
  """A config file with frames so large that a shard takes a while."""
  values = config_values(**{"prompt.image_size": 448, "model.img.image_size": 448})
  return write_config(tmp_path_factory.mktemp("config") / "tiny.py", values)


class Preparation(Launched):
  """launch/prepare.py with two workers and a shard for each video."""

  def __init__(self, corpus, config, out):
    super().__init__(
      *("prepare.py", "--manifest", corpus / "manifest.jsonl", "--config", config, "--out", out),
      *("--videos-per-shard", 1, "--num-workers", 2, "--time-shifts", 31),
    )
    self.out = out

  def kill(self):
    super().kill()
    assert not (self.out / "PREPARED.json").exists()

  def interrupt(self):
    err = super().interrupt()
    assert not (self.out / "PREPARED.json").exists()
    return err


def num_finished(out):
  return len(list(out.glob("shard-*.json")))


def is_writing(out):
  return any(out.glob(".shard-*.arrayrecord"))


def contents(out):
  return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in REPORTS}


@pytest.fixture(scope="module")
def straight(corpus, config, tmp_path_factory):
  """What a run gives that nobody disturbs."""
  out = tmp_path_factory.mktemp("straight") / "out"
  Preparation(corpus, config, out).end(0)
  return contents(out)


def kill_after(preparation, num_shards, rng):
  preparation.wait_until(
    lambda: num_finished(preparation.out) >= num_shards and is_writing(preparation.out)
  )
  time.sleep(rng.uniform(0, 0.02))
  preparation.kill()


def test_killed_and_interrupted_it_ends_as_if_never(corpus, config, straight, tmp_path):
  out = tmp_path / "out"
  kill_after(Preparation(corpus, config, out), 0, random.Random(0))
  preparation, before = Preparation(corpus, config, out), num_finished(out)
  preparation.wait_until(lambda: num_finished(out) > before)
  err = preparation.interrupt()
  assert err.endswith("stopped; the same command resumes from what is finished\n")
  assert "Traceback" not in err
  assert num_finished(out) < 6
  Preparation(corpus, config, out).end(0)
  assert contents(out) == straight


@needs_proc
def test_workers_end_with_their_parent(corpus, config, tmp_path):
  preparation = Preparation(corpus, config, tmp_path / "out")
  preparation.wait_until(lambda: is_writing(tmp_path / "out"))
  workers = preparation.workers()
  assert workers
  preparation.kill()
  require_gone(workers)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_killed_many_times_it_ends_as_if_never(corpus, config, straight, tmp_path, seed):
  rng = random.Random(seed)
  out = tmp_path / "out"
  for num_shards in (0, 1, 2, 3):
    kill_after(Preparation(corpus, config, out), num_shards, rng)
  Preparation(corpus, config, out).end(0)
  assert contents(out) == straight
