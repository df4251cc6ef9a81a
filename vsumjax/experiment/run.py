"""Experiment -> Run: what the training loop needs, and one stage trained with it."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.contract import Source
from vsumjax.convert import formats
from vsumjax.convert.load import load_params
from vsumjax.data import pipeline
from vsumjax.data.order import MixedOrder
from vsumjax.experiment import programs
from vsumjax.experiment.config import ExperimentConfig
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.experiment.teachers import Teachers, load_teachers
from vsumjax.experiment.workdir import flat_config, load_finished, write_finished
from vsumjax.training import checkpoints, loop, metrics, optimizer, selection, state
from vsumjax.training.goodput import Clock
from vsumjax.training.report import OnProgress
from vsumjax.types import InputError

# Where and how a run is computed may change between its restarts; what it computes may not. The
# digests in the meta stand for what lies at a path. A task has free keys of its own.
_FREE_ON_RESUME = r"mesh\..*|rules\..*|train\.checkpoint_every|compiler_options"


def run_training(
  config: ExperimentConfig,
  workdir: Path,
  on_progress: OnProgress,
  *,
  clock: Clock | None = None,
  profile: range = range(0),
) -> Path:
  """Trains one stage in `workdir`, resumes it, or leaves it as it is if it has finished.

  `clock` and `profile` are those of `loop.train`.

  Raises:
    InputError: if `workdir` holds another run, naming what differs.
  """
  if profile and profile.start > config.train.num_steps:
    raise InputError(
      f"--profile: step {profile.start} comes after the last, {config.train.num_steps} "
      "(train.num_steps)"
    )
  experiment = build_experiment(config)
  run = build_run(experiment)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
  if _is_finished(workdir, run):
    return workdir
  params = loop.train(run, workdir, on_progress, clock=clock, profile=profile).params
  finished: dict[str, Any] = {"step": config.train.num_steps}
  if config.train.keep_best or config.train.ema_decay:
    params, finished = selection.load_selected(workdir, run.abstract.params)
  finished["params_digest"] = state.params_digest(params)
  if jax.process_index() == 0:
    write_finished(workdir, config, finished)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("finished")  # what comes next may read it
  return workdir


def _is_finished(workdir: Path, run: loop.Run) -> bool:
  """Whether this very run has ended there; InputError if another one has."""
  if not (workdir / "FINISHED.json").exists():
    return False
  finished = load_finished(workdir)
  folder = finished.get("folder", checkpoints.FOLDER)
  saver = checkpoints.Checkpoints(workdir, folder=folder, create=False)
  try:
    meta = saver.load_meta(finished["step"])
  finally:
    saver.close()
  loop.check_meta(selection.meta_of_run(meta), run.meta, saver.path / str(finished["step"]))
  return True


def build_run(experiment: Experiment) -> loop.Run:
  """Wires data, task and optimizer for the loop.

  Raises:
    InputError: if the config cannot be trained: what the task refuses, a LoRA target or a pattern
      to freeze that matches no weight, a batch or a weight that does not divide among the devices,
      a metric to choose by that is not known.
  """
  config = experiment.config
  train = config.train
  experiment.task.require_trainable()
  _check_divides(experiment)
  taught = load_teachers(experiment)
  experiment = dataclasses.replace(experiment, task=experiment.task.taught_by(taught.caches))
  task = experiment.task
  source, held_out = task.training_source(), task.validation_source()
  order = MixedOrder(source.parts, train.seed)
  tx = optimizer.build_optimizer(config.optimizer, train.num_steps)
  abstract, init_state = _wire_state(experiment, tx)
  _check_metric(train.keep_best, abstract.params, experiment)
  parallel = {"process_index": jax.process_index(), "process_count": jax.process_count()}
  loading = {"num_workers": config.task.num_workers, "num_threads": config.task.num_threads}
  train_step, eval_step = _jit_steps(experiment, taught, tx, abstract)
  return loop.Run(
    config=train,
    mesh=experiment.mesh,
    rules=experiment.rules,
    abstract=abstract,
    init_state=init_state,
    train_step=train_step,
    eval_step=eval_step,
    train_batches=lambda start: pipeline.training_batches(
      source,
      order,
      train.batch_size,
      start_step=start,
      num_steps=train.num_steps - start,
      seed=train.seed,
      **parallel,
      **loading,
    ),
    eval_batches=lambda: pipeline.sequential_batches(
      held_out, train.batch_size, **parallel, **loading
    ),
    describe=source.describe,
    meta=_meta(experiment, source, taught),
  )


def _jit_steps(
  experiment: Experiment,
  taught: Teachers,
  tx: optax.GradientTransformation,
  abstract: state.TrainState,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """The steps of training and of evaluation, compiled for the mesh when first called."""
  train_step = programs.jit_train_step(
    experiment, tx, abstract, taught.learners, taught.params_shardings
  )
  eval_step = jax.jit(
    experiment.task.learner.evaluate,
    in_shardings=(
      jax.tree.map(lambda leaf: leaf.sharding, abstract.params),
      sharding.batch_sharding(experiment.mesh, experiment.rules),
    ),
    out_shardings=NamedSharding(experiment.mesh, PartitionSpec()),
  )
  if not taught.learners:
    return train_step, eval_step
  return lambda state, batch: train_step(state, batch, taught.params), eval_step


def _wire_state(
  experiment: Experiment, tx: optax.GradientTransformation
) -> tuple[state.TrainState, Callable[[], state.TrainState]]:
  """The abstract state with its shardings, and the function that makes the one of step 0."""
  config, mesh, rules = experiment.config, experiment.mesh, experiment.rules
  abstract, init = programs.abstract_state(experiment, tx), programs.init_state(experiment, tx)
  parts = {"freeze": config.optimizer.freeze, "with_ema": config.train.ema_decay > 0}
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  init_sharded = jax.jit(lambda: sharding.unbox(init()), out_shardings=shardings)

  def init_state() -> state.TrainState:
    with sharding.use_mesh(mesh, rules):
      if not config.init_from:
        return init_sharded()
      params = _params_from_checkpoint(experiment, abstract.params)
      start = functools.partial(state.start_from, tx=tx, **parts)
      return jax.jit(start, out_shardings=shardings, donate_argnums=0)(params)

  return abstract, init_state


def _params_from_checkpoint(experiment: Experiment, abstract: Any) -> Any:
  """The parameters of `config.init_from`; exits and adapters that it lacks are random."""
  config = experiment.config
  if config.task.pretrained is None:
    raise InputError(f"init_from: the task {config.task.NAME!r} reads no checkpoint of another run")
  weights = formats.open_for(Path(config.init_from), config.task.pretrained)
  loaded = load_params(weights, abstract)
  if not loaded.missing:
    return loaded.params
  shapes = sharding.by_path(abstract)

  def fresh() -> dict[str, jax.Array]:
    key = jax.random.key(config.train.seed)
    boxed = state.init_params(experiment.task.learner, experiment.task.batch_spec(1), key)
    leaves = sharding.by_path(sharding.unbox(boxed))
    return {name: leaves[name] for name in loaded.missing}

  shardings = {name: shapes[name].sharding for name in loaded.missing}
  made = jax.jit(fresh, out_shardings=shardings)()
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: made.get(jax.tree_util.keystr(path, simple=True, separator="/"), leaf),
    loaded.params,
  )


def _check_divides(experiment: Experiment) -> None:
  train, mesh = experiment.config.train, experiment.mesh
  rows = sharding.batch_sharding(mesh, experiment.rules)
  for key, num_rows, what in (
    ("batch_size", train.batch_size, "rows"),
    ("accumulate", train.batch_size // train.accumulate, "rows of a microbatch"),
  ):
    try:
      rows.shard_shape((num_rows,))
    except ValueError:
      raise InputError(
        f"train.{key}: {num_rows} {what} do not divide among the devices of mesh {dict(mesh.shape)}"
      ) from None


def _check_metric(name: str, params: Any, experiment: Experiment) -> None:
  if not name:
    return
  task = experiment.task
  with sharding.use_mesh(experiment.mesh, experiment.rules):
    spec = task.batch_spec(experiment.config.train.batch_size)
    measured = jax.eval_shape(task.learner.evaluate, params, spec)
  known = [f"{metrics.EVALUATION}{each}" for each in measured]
  if name not in known:
    raise InputError(f"train.keep_best: {name!r} is not one of {', '.join(sorted(known))}")


def _meta(experiment: Experiment, source: Source, taught: Teachers) -> dict[str, Any]:
  """What a resumed run must share."""
  free = re.compile(f"{_FREE_ON_RESUME}|{experiment.config.task.FREE_KEYS}")
  flat = flat_config(experiment.config)
  meta = {name: value for name, value in flat.items() if not free.fullmatch(name)}
  return (
    meta
    | {"teacher_digests": list(taught.digests), "examples_digest": source.examples_digest}
    | experiment.task.digests()
    | experiment.task.data_digests()
  )
