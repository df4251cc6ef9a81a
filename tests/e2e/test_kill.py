"""Killed with SIGKILL at a random moment and started again: the same result, to the bit."""

import random
import time

import pytest
from launched import NUM_STEPS, STEPS, Training, num_lines, result


@pytest.fixture(scope="module")
def config(write_config, config_values, tmp_path_factory):
  """A config file for one device, without options."""
  values = config_values(**STEPS, **{"train.checkpoint_every": 5})
  return write_config(tmp_path_factory.mktemp("config") / "tiny.py", values)


def _is_saving(workdir):
  return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


@pytest.fixture(scope="module", params=[pytest.param("plain", marks=pytest.mark.long), "options"])
def straight(request, config, tmp_path_factory):
  """(config, what a run gives that nobody disturbs)."""
  if request.param == "options":
    return request.getfixturevalue("undisturbed")
  workdir = tmp_path_factory.mktemp("straight")
  assert Training(config, workdir).finish() == 1
  finished, lines = result(workdir)
  assert len(lines) == NUM_STEPS + 5
  assert "metric" not in finished
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
