"""SIGTERM saves the current step within 10 s; the same command ends as if it never came."""

import os
import signal

import pytest
from launched import NUM_STEPS, OPTIONS, STEPS, Training, num_lines, require_gone, result

GRACE_S = 10


@pytest.fixture(scope="module")
def config(write_config, config_values, tmp_path_factory):
  """A checkpoint only at the ends, workers that make batches, and all that a state may hold."""
  values = config_values(
    **STEPS, **OPTIONS, **{"train.checkpoint_every": 1000, "data.num_workers": 1}
  )
  return write_config(tmp_path_factory.mktemp("config") / "tiny.py", values)


def _saved_at(err):
  line = err.splitlines()[-1]
  told, _, step = line.partition("vsumjax train: stopped; saved at step ")
  assert told == ""
  assert line.endswith("; the same command resumes from there")
  return int(step.split(";")[0])


def test_it_saves_and_goes_on_as_if_never_told(config, undisturbed, tmp_path):
  workdir = tmp_path / "told"
  training = Training(config, workdir)
  training.wait_until(lambda: num_lines(workdir) >= 5)
  workers = training.workers()
  for worker in workers:  # a whole group of processes may be told
    os.kill(worker, signal.SIGTERM)
  err, seconds = training.terminate()
  assert seconds < GRACE_S
  assert workers
  require_gone(workers)
  step = _saved_at(err)
  assert 5 <= step < NUM_STEPS
  assert (workdir / "checkpoints" / str(step)).is_dir()
  assert not (workdir / "FINISHED.json").exists()
  assert Training(config, workdir).finish() == step + 1
  assert result(workdir) == undisturbed[1]


def test_before_the_first_step_it_ends_at_once(config, tmp_path):
  training = Training(config, tmp_path)
  training.wait_until(lambda: (tmp_path / "checkpoints" / "0").is_dir())  # the step compiles now
  assert num_lines(tmp_path) == 0
  _, seconds = training.terminate(-signal.SIGTERM)
  assert seconds < GRACE_S
