"""The only wiring: config -> Experiment, and a finished workdir -> Student.

A workdir holds all that using the model needs:

  config.json      the ExperimentConfig
  tokenizer.model  a copy
  checkpoints/     see `training.checkpoints`
  metrics.jsonl    see `training.metrics`
  FINISHED.json    written last: {"step", "params_digest"}
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.config import ExperimentConfig, build_config, flatten, to_dict
from vsumjax.convert import formats
from vsumjax.convert.load import load_params
from vsumjax.data import pipeline, prompt, teacher_cache
from vsumjax.data.order import MixedOrder
from vsumjax.data.sets import DataSet, DataSets
from vsumjax.data.tokenizer import Tokenizer, load_tokenizer
from vsumjax.data.windows import WindowSource
from vsumjax.files import replacing, write_atomically
from vsumjax.inference.score import Scorer
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.training import checkpoints, loop, optimizer, state, step
from vsumjax.training.objective import TeacherConfig
from vsumjax.types import Batch, InputError, TeacherTargets

# Where and how a run is computed may change between its restarts; what it computes may not. The
# digests in the meta stand for what lies at a path.
_FREE_ON_RESUME = re.compile(
  r"mesh\..*|rules\..*|tokenizer|data\.(sets\[\d+\]\.manifest|num_workers|num_threads|cache_bytes)"
  r"|train\.checkpoint_every|objective\.teachers\[\d+\]\.(workdir|cache)"
)


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A config with the things it names."""

  config: ExperimentConfig
  tokenizer: Tokenizer
  model: VideoSummaryStudent
  mesh: Mesh

  @property
  def rules(self) -> sharding.LogicalRules:
    return self.config.rules

  @functools.cached_property
  def data(self) -> DataSets:
    return DataSets(self.config.data.sets)

  @property
  def prompt_digest(self) -> str:
    return prompt.prompt_digest(self.config.prompt, self.tokenizer)

  def source(
    self, split: str, *, without: frozenset[str] = frozenset(), **kwargs: Any
  ) -> WindowSource:
    """The windows of a split, data set after data set.

    `without` comes on top of what the config leaves out; `kwargs` are those of `WindowSource`.
    """
    data = self.config.data
    return WindowSource(
      self.data.videos(split),
      self.config.prompt,
      self.tokenizer,
      without=frozenset(data.without) | without,
      cache_bytes=data.cache_bytes,
      **kwargs,
    )

  def training_source(self, teachers: tuple[teacher_cache.CacheReader, ...] = ()) -> WindowSource:
    """The windows of the training split with their targets."""
    data = self.config.data
    return self.source(
      data.train_split,
      targets=data.targets,
      teachers=teachers,
      time_shifts=data.augment.time_shifts,
    )

  def training_order(self, source: WindowSource) -> MixedOrder:
    return self.data.order(source, self.config.data.train_split, self.config.train.seed)

  def batch_spec(self, batch_size: int) -> Batch:
    """ShapeDtypeStructs of a global batch."""
    c, teachers = self.config.prompt, len(self.config.objective.teachers)
    B, N, T, C = batch_size, c.window, c.sequence_length, len(c.score_tokens)

    def spec(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct((B, *shape), dtype)

    return Batch(
      frames=spec(np.uint8, N, c.frames_per_segment, c.image_size, c.image_size, 3),
      tokens=spec(np.int32, T),
      mask_ar=spec(np.int32, T),
      input_mask=spec(np.bool_, T),
      score_pos=spec(np.int32, N),
      targets=spec(np.float32, N, C),
      weight=spec(np.float32, N),
      teachers=tuple(TeacherTargets(spec(np.float32, N, C)) for _ in range(teachers)),
      example=spec(np.int32),
    )

  def abstract_params(self) -> Any:
    """Shapes and shardings of the parameters; nothing is allocated."""
    with sharding.use_mesh(self.mesh, self.rules):
      boxed = jax.eval_shape(
        lambda: state.init_params(self.model, self.batch_spec(1), jax.random.key(0))
      )
    return state.with_shardings(boxed, self.mesh, self.rules)


def build_experiment(config: ExperimentConfig, devices: Any = None) -> Experiment:
  """Loads the tokenizer and builds model and mesh.

  Raises:
    InputError: if parts do not fit: a tokenizer larger than the model's vocabulary, a prompt longer
      than its budget.
  """
  tokenizer = load_tokenizer(config.tokenizer)
  if tokenizer.vocab_size > config.model.llm.vocab_size:
    raise InputError(
      f"model.llm.vocab_size: {config.model.llm.vocab_size} is less than the "
      f"{tokenizer.vocab_size} pieces of {config.tokenizer}"
    )
  # A prompt that does not fit is refused here, and not when the first batch is made.
  nothing = prompt.SegmentText(said="", heard="")
  prompt.layout(config.prompt, tokenizer, "", [nothing] * config.prompt.window)
  score_ids = tuple(tokenizer.piece_id(token) for token in config.prompt.score_tokens)
  model = VideoSummaryStudent(
    config.model, config.prompt.tokens_per_frame, tokenizer.image_id, score_ids
  )
  return Experiment(config, tokenizer, model, sharding.build_mesh(config.mesh, devices))


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
    write_atomically(workdir / "config.json", json.dumps(to_dict(config), indent=1))
    with replacing(workdir / "tokenizer.model") as temporary:
      shutil.copyfile(config.tokenizer, temporary)
    write_atomically(workdir / "FINISHED.json", json.dumps(finished))
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
      step.make_train_step(model, config.objective, tx),
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
  flat = _flat_config(experiment.config)
  meta = {name: value for name, value in flat.items() if not _FREE_ON_RESUME.fullmatch(name)}
  return meta | {
    "manifest_digest": experiment.data.digest,
    "teacher_digests": [teacher.identity.teacher_digest for teacher in teachers],
    "examples_digest": source.examples_digest,
    "prompt_digest": experiment.prompt_digest,
    "tokenizer_digest": experiment.tokenizer.digest,
  }


def _flat_config(config: ExperimentConfig) -> dict[str, Any]:
  """The config as it comes back from JSON, by full key."""
  return flatten(json.loads(json.dumps(to_dict(config))))


def load_finished(workdir: Path) -> dict[str, Any]:
  """FINISHED.json of a workdir; InputError if its training has not ended."""
  path = workdir / "FINISHED.json"
  if not path.exists():
    what = "training has not finished there" if workdir.is_dir() else "no such folder"
    raise InputError(f"{workdir}: {what} (FINISHED.json is missing)")
  return _load_json(path)


def _load_json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: cannot be read: {error}; train again in another folder") from error


@dataclasses.dataclass(frozen=True)
class Student:
  """A trained model, ready to score."""

  experiment: Experiment
  params: Any
  params_digest: str

  def scorer(self, batch_size: int) -> Scorer:
    """A scorer of at least `batch_size` windows at once, as many on every device."""
    e = self.experiment
    batch_size += -batch_size % e.mesh.size
    return Scorer(e.model, self.params, e.mesh, e.rules, batch_size)


def load_student(workdir: Path, manifest: str = "") -> Student:
  """A trained model from its workdir, on this machine's devices.

  Args:
    workdir: what `launch/train.py` wrote.
    manifest: another manifest than the one it was trained on.

  Raises:
    InputError: unfinished or not a workdir, a checkpoint of another architecture, or a prompt that
      this version of the library lays out differently.
  """
  finished = load_finished(workdir)
  config = build_config(_load_json(workdir / "config.json"))
  data = config.data
  if manifest:
    data = dataclasses.replace(data, sets=(DataSet(manifest),))
  config = dataclasses.replace(
    config, tokenizer=str(workdir / "tokenizer.model"), data=data, mesh=sharding.MeshConfig()
  )
  experiment = build_experiment(config)
  saver = checkpoints.Checkpoints(workdir, create=False)
  try:
    _check_same_model(workdir, saver.load_meta(finished["step"]), experiment)
    params = saver.restore_params(finished["step"], experiment.abstract_params())
  finally:
    saver.close()
  return Student(experiment, params, finished["params_digest"])


def _check_same_model(workdir: Path, saved: Mapping[str, Any], experiment: Experiment) -> None:
  """Shapes alone do not tell a window of attention or a soft cap from another."""
  flat = _flat_config(experiment.config)
  here = {name: value for name, value in flat.items() if name.startswith(("model.", "prompt."))}
  here |= {
    "tokenizer_digest": experiment.tokenizer.digest,
    "prompt_digest": experiment.prompt_digest,
  }
  for name, value in here.items():
    if saved.get(name) != value:
      raise InputError(
        f"{workdir}: {name} is {saved.get(name)} in the checkpoint and {value} here; "
        "use the model with the config, prompt and tokenizer it was trained with"
      )
