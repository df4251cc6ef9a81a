"""Killed with SIGKILL at a random moment and started again: the same result, to the bit."""

import random
import time

import pytest
from launched import Training, num_lines, result

NUM_STEPS = 40
OPTIONS = {
  "train.accumulate": 2,
  "train.ema_decay": 0.9,
  "train.keep_best": "validation/loss",
}


@pytest.fixture(scope="module")
def write(write_config, config_values, tmp_path_factory):
  """`write(**changes)`: a config file for one device, with a checkpoint every 5 steps."""

  def write(**changes):
    often = {"num_steps": NUM_STEPS, "checkpoint_every": 5, "eval_every": 10, "log_every": 1}
    values = config_values(**{f"train.{key}": value for key, value in often.items()}, **changes)
    return write_config(tmp_path_factory.mktemp("config") / "tiny.py", values)

  return write


def _is_saving(workdir):
  return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


@pytest.fixture(
  scope="module",
  params=[
    pytest.param({}, id="plain", marks=pytest.mark.long),
    pytest.param(OPTIONS, id="options"),
  ],
)
def straight(request, write, tmp_path_factory):
  """(config, what a run gives that nobody disturbs)."""
  config, workdir = write(**request.param), tmp_path_factory.mktemp("straight")
  assert Training(config, workdir).finish() == 1
  finished, lines = result(workdir)
  assert len(lines) == NUM_STEPS + 5
  assert ("metric" in finished) == bool(request.param)
  return config, (finished, lines)


def _kill_after(training, rng, low, high):
  step = rng.randint(low, high)
  training.wait_until(lambda: num_lines(training.workdir) >= step)
  time.sleep(rng.uniform(0, 0.03))
  training.kill()


def test_killed_twice_it_ends_as_if_never(straight, tmp_path):
  config, expected = straight
  rng = random.Random(0)
  _kill_after(Training(config, tmp_path), rng, 6, 15)
  training = Training(config, tmp_path)
  # The other moment that matters: while a checkpoint is half written.
  training.wait_until(lambda: num_lines(tmp_path) >= 17 and _is_saving(tmp_path))
  training.kill()
  first = Training(config, tmp_path).finish()
  assert first > 10
  assert first % 5 == 1
  assert result(tmp_path) == expected
  names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert names == {"35", "40"}  # nothing half-written stays
  if "folder" in expected[0]:
    assert [path.name for path in (tmp_path / "selected").iterdir()] == [str(expected[0]["step"])]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 7))
def test_killed_many_times_it_ends_as_if_never(straight, tmp_path, seed):
  config, expected = straight
  rng = random.Random(seed)
  for low in (1, 10, 20, 30):
    _kill_after(Training(config, tmp_path), rng, low, low + 8)
  Training(config, tmp_path).finish()
  assert result(tmp_path) == expected
