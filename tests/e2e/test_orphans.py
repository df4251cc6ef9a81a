"""A training run that is killed leaves no process behind."""

from pathlib import Path

from launched import Launched, needs_proc, require_gone

from vsumjax.experiment.config import build_config, to_dict


def _is_worker(pid):
  """Whether `pid` is a spawned process at work, and not the tracker of shared memory beside it."""
  try:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
  except OSError:
    return False


@needs_proc
def test_workers_end_with_the_run(config_values, write_config, tmp_path):
  changes = {"data.num_workers": 2, "train.num_steps": 10**6, "train.eval_every": 10**6}
  values = to_dict(build_config(config_values(**changes | {"train.checkpoint_every": 10**6})))
  config = write_config(tmp_path / "config.py", values)
  run = Launched("train.py", "--config", config, "--workdir", tmp_path / "run")
  run.wait_until(lambda: sum(map(_is_worker, run.workers())) >= 2)
  children = run.workers()
  run.kill()
  require_gone(children)
