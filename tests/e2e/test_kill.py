"""Killed with SIGKILL at a random moment and started again: the same result, to the bit."""

import json
import random
import time

import pytest
from launched import Launched

NUM_STEPS = 40


@pytest.fixture(scope="module")
def config(write_config, config_values, tmp_path_factory):
  """A config file for one device, with a checkpoint every 5 steps."""
  changes = {"num_steps": NUM_STEPS, "checkpoint_every": 5, "eval_every": 10, "log_every": 1}
  values = config_values(**{f"train.{key}": value for key, value in changes.items()})
  return write_config(tmp_path_factory.mktemp("config") / "tiny.py", values)


class Training(Launched):
  """launch/train.py."""

  def __init__(self, config, workdir):
    super().__init__("train.py", "--config", config, "--workdir", workdir)
    self.workdir = workdir

  def kill(self):
    super().kill()
    assert not (self.workdir / "FINISHED.json").exists()

  def finish(self):
    """The first step it made."""
    err = self.end(0)
    lines = err.splitlines()
    assert all(line.startswith(f"train {self.workdir}: ") for line in lines), err
    return int(lines[0].split(": ")[1].split("/")[0])


def _num_lines(workdir):
  path = workdir / "metrics.jsonl"
  return path.read_text().count("train/loss") if path.exists() else 0


def _is_saving(workdir):
  return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def _result(workdir):
  """Digest of the parameters, and what was logged of each step."""
  digest = json.loads((workdir / "FINISHED.json").read_text())["params_digest"]
  names = ("step", "train/loss", "train/grad_norm", "validation/loss")
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return digest, [[line.get(name) for name in names] for line in lines]


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
  """What a run gives that nobody disturbs."""
  workdir = tmp_path_factory.mktemp("straight")
  assert Training(config, workdir).finish() == 1
  digest, lines = _result(workdir)
  assert len(lines) == NUM_STEPS + 5
  return digest, lines


def _kill_after(training, rng, low, high):
  step = rng.randint(low, high)
  training.wait_until(lambda: _num_lines(training.workdir) >= step)
  time.sleep(rng.uniform(0, 0.03))
  training.kill()


def test_killed_twice_it_ends_as_if_never(config, straight, tmp_path):
  rng = random.Random(0)
  _kill_after(Training(config, tmp_path), rng, 6, 15)
  training = Training(config, tmp_path)
  # The other moment that matters: while a checkpoint is half written.
  training.wait_until(lambda: _num_lines(tmp_path) >= 17 and _is_saving(tmp_path))
  training.kill()
  first = Training(config, tmp_path).finish()
  assert first > 10
  assert first % 5 == 1
  assert _result(tmp_path) == straight
  names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert names == {"35", "40"}  # nothing half-written stays


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 7))
def test_killed_many_times_it_ends_as_if_never(config, straight, tmp_path, seed):
  rng = random.Random(seed)
  for low in (1, 10, 20, 30):
    _kill_after(Training(config, tmp_path), rng, low, low + 8)
  Training(config, tmp_path).finish()
  assert _result(tmp_path) == straight
