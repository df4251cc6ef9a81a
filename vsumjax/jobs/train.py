"""Train one stage, or resume it."""

from __future__ import annotations

from pathlib import Path

import jax

from vsumjax.experiment.config import ExperimentConfig
from vsumjax.experiment.run import run_training
from vsumjax.host.together import progress_on_first
from vsumjax.training.goodput import Clock


def train(config: ExperimentConfig, workdir: Path, *, profile: range = range(0)) -> Path:
  """Trains in `workdir` until the config's last step.

  The first process shows progress and, if there was anything to train, where the time went.

  Args:
    config: of the stage.
    workdir: where it is kept.
    profile: steps, counted from 1, of which `workdir/profile` gets a trace.
  """
  clock = Clock()
  with progress_on_first(f"train {workdir}") as update:
    run_training(config, workdir, update, clock=clock, profile=profile)
  if jax.process_index() == 0 and clock.seconds()["steps"]:
    clock.print_table()
  return workdir
