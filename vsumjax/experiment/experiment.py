"""The only wiring: config -> Experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from vsumjax import sharding
from vsumjax.contract import Task
from vsumjax.experiment.config import ExperimentConfig
from vsumjax.training import state


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A config with the things it names."""

  config: ExperimentConfig
  task: Task
  mesh: Mesh

  @property
  def rules(self) -> sharding.LogicalRules:
    return self.config.rules

  def abstract_params(self) -> Any:
    """Shapes and shardings of the parameters; nothing is allocated."""
    with sharding.use_mesh(self.mesh, self.rules):
      boxed = jax.eval_shape(
        lambda: state.init_params(self.task.learner, self.task.batch_spec(1), jax.random.key(0))
      )
    return state.with_shardings(boxed, self.mesh, self.rules)


def build_experiment(config: ExperimentConfig, devices: Any = None) -> Experiment:
  """Builds task and mesh.

  Raises:
    InputError: if parts do not fit: see the `build` of the task's config; rows of a batch that
      several processes would share.
  """
  task = config.task.build()
  mesh = sharding.build_mesh(config.mesh, devices)
  sharding.check_processes(mesh, config.rules)
  return Experiment(config, task, mesh)
