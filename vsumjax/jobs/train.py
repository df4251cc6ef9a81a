"""Train one stage, or resume it."""

from __future__ import annotations

from pathlib import Path

import jax

from vsumjax.config import ExperimentConfig
from vsumjax.progress import progress
from vsumjax.run import run_training


def train(config: ExperimentConfig, workdir: Path) -> Path:
  """Trains in `workdir` until the config's last step; shows progress on the first process."""
  if jax.process_index():
    return run_training(config, workdir, lambda done, total, note: None)
  with progress(f"train {workdir}") as update:
    return run_training(config, workdir, update)
