"""The programs of an experiment, jitted for its mesh, with the shapes they are called with.

What a run calls and what `compile-check` compiles ahead of time is the same function.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.contract import Learner
from vsumjax.experiment.experiment import Experiment
from vsumjax.inference import score, teach
from vsumjax.inference.generate import GenerateConfig, Generator
from vsumjax.models import rows
from vsumjax.tasks.score.task import require_score
from vsumjax.training import optimizer, state, step
from vsumjax.types import Prompt

# Where gradients are summed by exchanges, which are to travel behind compute.
_EXCHANGES = {"xla_tpu_enable_async_all_to_all": "true"}
_TPU_OPTIONS = ("xla_tpu_", "xla_jf_")
MAX_NEW_TOKENS = 64  # of `generate`, as when a teacher answers for a cache


@dataclasses.dataclass(frozen=True)
class Program:
  """`function` is jitted; its first arguments are `static`, and `args` are trees of
  ShapeDtypeStructs with shardings."""

  function: Callable[..., Any]
  static: tuple[Any, ...]
  args: tuple[Any, ...]
  mesh: Mesh
  rules: sharding.LogicalRules

  def compile(self) -> jax.stages.Compiled:
    """Compiles for the devices of the mesh, which need not be there."""
    with sharding.use_mesh(self.mesh, self.rules):
      return self.function.lower(*self.static, *self.args).compile()


def compiler_options(experiment: Experiment) -> dict[str, str]:
  """Those of the config, the TPU's on a TPU only, and before them what `models.rows` counts on."""
  on_tpu = experiment.mesh.devices.flat[0].platform == "tpu"
  pairs = (option.split("=", 1) for option in experiment.config.compiler_options)
  given = {name: value for name, value in pairs if on_tpu or not name.startswith(_TPU_OPTIONS)}
  return (_EXCHANGES if rows.exchanges_behind_compute(experiment.mesh) else {}) | given


def abstract_state(experiment: Experiment, tx: optax.GradientTransformation) -> state.TrainState:
  """Shapes and shardings of the training state; nothing is allocated."""
  init = init_state(experiment, tx)
  with sharding.use_mesh(experiment.mesh, experiment.rules):
    return state.with_shardings(jax.eval_shape(init), experiment.mesh, experiment.rules)


def init_state(
  experiment: Experiment, tx: optax.GradientTransformation
) -> Callable[[], state.TrainState]:
  """What makes the boxed state at step 0 from random parameters."""
  config = experiment.config
  return functools.partial(
    state.init_state,
    experiment.task.learner,
    tx,
    experiment.task.batch_spec(config.train.batch_size),
    config.train.seed,
    freeze=config.optimizer.freeze,
    with_ema=config.train.ema_decay > 0,
  )


def jit_train_step(
  experiment: Experiment,
  tx: optax.GradientTransformation,
  abstract: state.TrainState,
  online: Mapping[str, Learner],
  online_shardings: Any,
) -> Callable[..., Any]:
  """The jitted train step; `online` are the teachers that are asked in it, if any."""
  config = experiment.config
  state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  batch_sharding = sharding.batch_sharding(experiment.mesh, experiment.rules)
  replicated = NamedSharding(experiment.mesh, PartitionSpec())
  return jax.jit(
    step.make_train_step(
      experiment.task.learner,
      tx,
      num_steps=config.train.num_steps,
      seed=config.train.seed,
      accumulate=config.train.accumulate,
      ema_decay=config.train.ema_decay,
      freeze=config.optimizer.freeze,
      online=online,
    ),
    in_shardings=(state_shardings, batch_sharding, online_shardings)[: 3 if online else 2],
    out_shardings=(state_shardings, replicated),
    donate_argnums=0,
    compiler_options=compiler_options(experiment) or None,
  )


def train_program(experiment: Experiment) -> Program:
  """A train step on cached teachers."""
  config = experiment.config
  tx = optimizer.build_optimizer(config.optimizer, config.train.num_steps)
  abstract = abstract_state(experiment, tx)
  function = jit_train_step(experiment, tx, abstract, {}, None)
  return _program(experiment, function, (), (abstract, _batch(experiment)))


def score_program(experiment: Experiment) -> Program:
  """A forward pass to the scores of every exit."""
  task = require_score(experiment.config.task, "score").build()
  batch = _batch(experiment).replace(teachers=())
  static = (task.model, experiment.mesh, experiment.rules)
  return _program(experiment, score.forward, static, (experiment.abstract_params(), batch))


def cache_program(experiment: Experiment) -> Program:
  """What a teacher says about a batch, for its cache."""
  static = (experiment.task.learner, experiment.mesh, experiment.rules)
  args = (experiment.abstract_params(), _batch(experiment))
  return _program(experiment, teach.teach, static, args)


def generate_program(experiment: Experiment) -> Program:
  """An answer of `MAX_NEW_TOKENS` tokens to each prompt of a batch."""
  task = require_score(experiment.config.task, "generate").build()
  tokenizer, params = task.tokenizer, experiment.abstract_params()
  config = GenerateConfig(MAX_NEW_TOKENS)
  ids = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
  generator = Generator(task.model, params, experiment.mesh, experiment.rules, config, **ids)
  batch = _batch(experiment)
  prompt = Prompt(batch.frames, batch.tokens, batch.mask_ar, batch.input_mask)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return _program(experiment, generator.generate, (), (params, prompt, key))


PROGRAMS: dict[str, Callable[[Experiment], Program]] = {
  "train": train_program,
  "score": score_program,
  "cache": cache_program,
  "generate": generate_program,
}


def _program(
  experiment: Experiment, function: Callable[..., Any], static: tuple, args: tuple
) -> Program:
  return Program(function, static, args, experiment.mesh, experiment.rules)


def _batch(experiment: Experiment) -> Any:
  """The shapes of a batch, on the devices as `sharding.to_global` lays them."""
  placed = sharding.batch_sharding(experiment.mesh, experiment.rules)
  spec = experiment.task.batch_spec(experiment.config.train.batch_size)
  return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=placed), spec)
