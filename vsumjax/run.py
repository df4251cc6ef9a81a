"""Experiment -> Run: what the training loop needs, and one stage trained with it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.config import ExperimentConfig
from vsumjax.convert import formats
from vsumjax.convert.load import load_params
from vsumjax.data import pipeline, teacher_cache
from vsumjax.data.windows import WindowSource
from vsumjax.experiment import Experiment, build_experiment
from vsumjax.training import loop, optimizer, state, step
from vsumjax.training.objective import TeacherConfig
from vsumjax.types import InputError
from vsumjax.workdir import flat_config, load_finished, write_finished

# Where and how a run is computed may change between its restarts; what it computes may not. The
# digests in the meta stand for what lies at a path.
_FREE_ON_RESUME = re.compile(
  r"mesh\..*|rules\..*|tokenizer|data\.(sets\[\d+\]\.manifest|num_workers|num_threads|cache_bytes)"
  r"|train\.checkpoint_every|objective\.teachers\[\d+\]\.(workdir|cache)"
)


def run_training(config: ExperimentConfig, workdir: Path, on_progress: loop.OnProgress) -> Path:
  """Trains one stage in `workdir`, resumes it, or leaves it as it is if it has finished.

  Raises:
    InputError: if `workdir` holds another run, naming what differs.
  """
  experiment = build_experiment(config)
  run = build_run(experiment)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
  final = loop.train(run, workdir, on_progress)
  finished = {"step": config.train.num_steps, "params_digest": state.params_digest(final.params)}
  if jax.process_index() == 0:
    write_finished(workdir, config, finished)
  return workdir


def build_run(experiment: Experiment) -> loop.Run:
  """Wires data, model, objective and optimizer for the loop.

  Raises:
    InputError: if the config cannot be trained: a quantised base without LoRA, a LoRA target that
      matches no weight, a batch or a weight that does not divide among the devices.
  """
  config, model = experiment.config, experiment.model
  if config.model.quantize and not config.model.lora.rank:
    raise InputError(
      f"model.quantize: {config.model.quantize!r} weights cannot be trained; set model.lora.rank "
      "above 0 to train adapters beside them, or model.quantize to ''"
    )
  train, data = config.train, config.data
  readers = tuple(_open_cache(experiment, teacher) for teacher in config.objective.teachers)
  source = experiment.training_source(readers)
  order = experiment.training_order(source)
  held_out = experiment.source(data.validation_split, targets=data.targets)
  tx = optimizer.build_optimizer(config.optimizer, train.num_steps)
  abstract, init_state = _wire_state(experiment, tx)
  state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  batch_sharding = sharding.batch_sharding(experiment.mesh, experiment.rules)
  _check_divides(train.batch_size, experiment)
  replicated = NamedSharding(experiment.mesh, PartitionSpec())
  parallel = {"process_index": jax.process_index(), "process_count": jax.process_count()}
  loading = {"num_workers": data.num_workers, "num_threads": data.num_threads}

  return loop.Run(
    config=train,
    mesh=experiment.mesh,
    rules=experiment.rules,
    abstract=abstract,
    init_state=init_state,
    train_step=jax.jit(
      step.make_train_step(model, config.objective, tx, train.num_steps),
      in_shardings=(state_shardings, batch_sharding),
      out_shardings=(state_shardings, replicated),
      donate_argnums=0,
    ),
    eval_step=jax.jit(
      step.make_eval_step(model, config.objective),
      in_shardings=(state_shardings.params, batch_sharding),
      out_shardings=replicated,
    ),
    train_batches=lambda start: pipeline.training_batches(
      source,
      order,
      train.batch_size,
      start_step=start,
      num_steps=train.num_steps - start,
      augment=data.augment,
      augment_seed=train.seed,
      **parallel,
      **loading,
    ),
    eval_batches=lambda: pipeline.sequential_batches(
      held_out, train.batch_size, **parallel, **loading
    ),
    meta=_meta(experiment, source, readers),
  )


def _wire_state(
  experiment: Experiment, tx: optax.GradientTransformation
) -> tuple[state.TrainState, Callable[[], state.TrainState]]:
  """The abstract state with its shardings, and the function that makes the one of step 0."""
  config, mesh, rules = experiment.config, experiment.mesh, experiment.rules
  spec = experiment.batch_spec(config.train.batch_size)
  init = functools.partial(state.init_state, experiment.model, tx, spec, config.train.seed)
  with sharding.use_mesh(mesh, rules):
    abstract = state.with_shardings(jax.eval_shape(init), mesh, rules)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  init_sharded = jax.jit(lambda: sharding.unbox(init()), out_shardings=shardings)

  def init_state() -> state.TrainState:
    with sharding.use_mesh(mesh, rules):
      if not config.init_from:
        return init_sharded()
      params = _params_from_checkpoint(experiment, abstract.params)
      start = functools.partial(state.start_from, tx=tx)
      return jax.jit(start, out_shardings=shardings, donate_argnums=0)(params)

  return abstract, init_state


def _params_from_checkpoint(experiment: Experiment, abstract: Any) -> Any:
  """The parameters of `config.init_from`; exits and adapters that it lacks are random."""
  config = experiment.config
  weights = formats.open_for(Path(config.init_from), config.model)
  loaded = load_params(weights, abstract)
  if not loaded.missing:
    return loaded.params
  shapes = sharding.by_path(abstract)

  def fresh() -> dict[str, jax.Array]:
    key = jax.random.key(config.train.seed)
    boxed = state.init_params(experiment.model, experiment.batch_spec(1), key)
    leaves = sharding.by_path(sharding.unbox(boxed))
    return {name: leaves[name] for name in loaded.missing}

  shardings = {name: shapes[name].sharding for name in loaded.missing}
  made = jax.jit(fresh, out_shardings=shardings)()
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: made.get(jax.tree_util.keystr(path, simple=True, separator="/"), leaf),
    loaded.params,
  )


def _check_divides(batch_size: int, experiment: Experiment) -> None:
  try:
    sharding.batch_sharding(experiment.mesh, experiment.rules).shard_shape((batch_size,))
  except ValueError:
    raise InputError(
      f"train.batch_size: {batch_size} rows do not divide among the devices of mesh "
      f"{dict(experiment.mesh.shape)}"
    ) from None


def _open_cache(experiment: Experiment, teacher: TeacherConfig) -> teacher_cache.CacheReader:
  """The cache of a teacher, refused unless made by the teacher of the config."""
  return teacher_cache.CacheReader(
    teacher.cache,
    {
      "teacher_digest": load_finished(Path(teacher.workdir))["params_digest"],
      "tokenizer_digest": experiment.tokenizer.digest,
      "prompt_digest": experiment.prompt_digest,
    },
  )


def _meta(
  experiment: Experiment,
  source: WindowSource,
  teachers: tuple[teacher_cache.CacheReader, ...],
) -> dict[str, Any]:
  flat = flat_config(experiment.config)
  meta = {name: value for name, value in flat.items() if not _FREE_ON_RESUME.fullmatch(name)}
  return meta | {
    "manifest_digest": experiment.data.digest,
    "teacher_digests": [teacher.identity.teacher_digest for teacher in teachers],
    "examples_digest": source.examples_digest,
    "prompt_digest": experiment.prompt_digest,
    "tokenizer_digest": experiment.tokenizer.digest,
  }
