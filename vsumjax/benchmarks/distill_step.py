"""What a step of training costs with teachers: none, cached, or run in the step, in one run."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.table
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.data import pipeline
from vsumjax.data.answers import batch_of
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import example_key
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.experiment.config import ExperimentConfig, load_config
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.models.student import StudentConfig, VideoSummaryStudent, num_params
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig, TeacherConfig
from vsumjax.training import optimizer, state, step
from vsumjax.types import Batch, InputError

STAGES = ("student", "mentor", "teacher")  # smallest first
_TEACHERS = STAGES[1:]
ROWS = (
  "without teachers",
  "cached",
  "cached, half unlabelled",
  "online, teachers frozen",
  "online, all three trained",
)
_RATIOS = (1, 3, 9)
_NUM_STEPS = 1_000_000  # of the schedule: the learning rate stays what it is
_CACHED_EXAMPLES = 4096
_IMAGE_ID = 1
_DIGEST = "0" * 32  # of everything, in caches made for this benchmark alone

Step = Callable[[Any, Batch], tuple[Any, Any]]  # (state, batch) -> (state, metrics)


def benchmark_distill_step(
  config: str, *, rounds: int = 5, steps: int = 20, out: Path | None = None
) -> dict[str, Any]:
  """Times steps in turns, prints a table for each set of sizes and returns what `out` is to hold.

  Sizes are those of the stages of `config`, and a decoder and tower of the student's width that are
  1, 3 and 9 times as deep. As in training, threads make the batches, from windows in memory, and
  the host waits for a step when the next one is under way. "cached" reads its records at random
  from two real caches; "online, all three trained" is the step of DEEVISum's published code, where
  teacher and mentor learn in the same step as the student; with frozen teachers only their forward
  passes are paid for. In "cached, half unlabelled" every second row has no labels.

  Args:
    config: config file whose `get_config` knows the stages "student", "mentor" and "teacher".
    rounds: values a median is of.
    steps: a value is the mean of so many steps.
    out: JSON file of all values.

  Raises:
    InputError: no round or step, or a config that cannot be used.
  """
  for flag, value in (("--rounds", rounds), ("--steps", steps)):
    if value < 1:
      raise InputError(f"{flag}: {value} must be 1 or more")
  configs = [load_config(f"{config}:{stage}") for stage in STAGES]
  sizes = _build_sizes(configs)
  report: dict[str, Any] = {"benchmark": "distill_step", "config": config, "rounds": rounds}
  report |= {"steps": steps, "batch": configs[0].train.batch_size, "sizes": {}}
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with (
    tempfile.TemporaryDirectory() as folder,
    sharding.use_mesh(mesh, configs[0].rules),
    progress("benchmark distill_step") as update,
  ):
    total, done = len(sizes) * (rounds + 1), 0
    for name, models in sizes.items():
      rows, num_params_of = _build_rows(
        configs[0], models, mesh, Path(folder) / name.replace(":", "_")
      )
      seconds: dict[str, list[float]] = {row: [] for row in ROWS}
      for number in range(rounds + 1):  # the first compiles
        for row, run in rows.items():
          update(done, total, f"{name}: {row}")
          value = run.seconds_a_step(steps if number else 1)
          if number:
            seconds[row].append(value)
        done += 1
      report["sizes"][name] = _summary(num_params_of, seconds)
    update(total, total)
  if out is not None:
    write_atomically(out, json.dumps(report, indent=1))
  _print_tables(report)
  return report


def _build_sizes(configs: Sequence[ExperimentConfig]) -> dict[str, list[StudentConfig]]:
  return {
    "stages": [each.task.model for each in configs],
    "1:3:9": [_deeper(configs[0].task.model, ratio) for ratio in _RATIOS],
  }


def _deeper(model: StudentConfig, times: int) -> StudentConfig:
  llm = dataclasses.replace(model.llm, depth=2 * times)
  img = dataclasses.replace(model.img, width=llm.width, depth=2 * times)
  exits = dataclasses.replace(model.exits, layers=(1, 2) if times == 1 else (2 * times,))
  return dataclasses.replace(model, img=img, llm=llm, exits=exits)


def _build_rows(
  config: ExperimentConfig, models: Sequence[StudentConfig], mesh: Mesh, folder: Path
) -> tuple[dict[str, _Row], list[int]]:
  """The rows of ROWS, and the parameters of each model."""
  student, mentor, teacher = nets = [
    VideoSummaryStudent(model, config.task.prompt.tokens_per_frame, _IMAGE_ID, _score_ids(config))
    for model in models
  ]
  tx = optimizer.build_optimizer(config.optimizer, _NUM_STEPS)
  host_batch = _random_batch(config)
  half_batch = host_batch.replace(targets=host_batch.targets.copy())
  half_batch.targets[::2] = 0.0
  put = functools.partial(sharding.to_global, mesh=mesh, rules=config.rules)
  replicated = NamedSharding(mesh, PartitionSpec())  # as a step leaves it
  caches = [_make_cache(folder / name, config) for name in _TEACHERS]

  def learner(net: VideoSummaryStudent, *taught_by: str) -> ScoreLearner:
    objective = ObjectiveConfig(
      1.0,
      (1.0,) * len(net.config.exits.layers),
      tuple(TeacherConfig(name, "", "", 0.5, 2.0, "forward") for name in taught_by),
    )
    return ScoreLearner(net, objective)

  def build(net: VideoSummaryStudent, *taught_by: str, online: dict | None = None) -> Any:
    return step.make_train_step(learner(net, *taught_by), tx, num_steps=_NUM_STEPS, online=online)

  def start(net: VideoSummaryStudent) -> state.TrainState:
    init = functools.partial(state.init_state, learner(net), tx, host_batch, 0)
    return jax.jit(lambda: sharding.unbox(init()), out_shardings=replicated)()

  plain = jax.jit(build(student), donate_argnums=0)
  taught = jax.jit(build(student, *_TEACHERS), donate_argnums=0)
  online = build(
    student, *_TEACHERS, online={"mentor": learner(mentor), "teacher": learner(teacher)}
  )
  online = jax.jit(online, donate_argnums=0)
  online_params = {"mentor": start(mentor).params, "teacher": start(teacher).params}
  steps = [build(student, *_TEACHERS), build(mentor, "teacher"), build(teacher)]

  @functools.partial(jax.jit, donate_argnums=0)
  def all_three(states: Any, batch: Batch) -> tuple[Any, Any]:
    """XLA computes once the forward pass that a model's own step and its lesson share."""
    said = [learner(n).teach(of.params, batch) for n, of in zip(nets, states, strict=True)]
    heard = [tuple(said[1:]), tuple(said[2:]), ()]
    parts = zip(steps, states, heard, strict=True)
    done = [make(of, batch.replace(teachers=teachers)) for make, of, teachers in parts]
    return tuple(of for of, _ in done), [metrics for _, metrics in done]

  def row(make_step: Step, carry: Any, *read: CacheReader, batch: Batch = host_batch) -> _Row:
    return _Row(make_step, carry, _batches(batch, read, config), put)

  rows = {
    ROWS[0]: row(plain, start(student)),
    ROWS[1]: row(taught, start(student), *caches),
    ROWS[2]: row(taught, start(student), *caches, batch=half_batch),
    ROWS[3]: row(lambda of, batch: online(of, batch, online_params), start(student)),
    ROWS[4]: row(all_three, tuple(map(start, nets))),
  }
  return rows, [num_params(jax.eval_shape(lambda net=net: start(net)).params) for net in nets]


class _Row:
  """Steps of one kind, fed and waited for as by the loop of training."""

  def __init__(
    self, make_step: Step, carry: Any, batches: Iterator[Batch], put: Callable[[Batch], Batch]
  ) -> None:
    self._make_step, self._carry, self._batches, self._put = make_step, carry, batches, put

  def seconds_a_step(self, steps: int) -> float:
    """Mean of so many."""
    begin, before = time.perf_counter(), None
    for _ in range(steps):
      self._carry, metrics = self._make_step(self._carry, self._put(next(self._batches)))
      jax.block_until_ready(before)
      before = metrics
    jax.block_until_ready((self._carry, before))
    return (time.perf_counter() - begin) / steps


class _Windows:
  """Stands for a `WindowSource`: windows in memory, what the teachers say of them in caches."""

  def __init__(self, batch: Batch, caches: Sequence[CacheReader]) -> None:
    self._fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    del self._fields["teachers"], self._fields["text"]
    self._num_windows, self._caches = len(batch.weight), caches

  def collate(self, fields: dict[str, Any]) -> Batch:
    return batch_of(fields)

  def example(self, example: int, draw: None, *, wait: bool) -> dict[str, Any]:
    row = example % self._num_windows
    said = tuple({"score_logits": cache[example].score_logits} for cache in self._caches)
    return {name: values[row] for name, values in self._fields.items()} | {"teachers": said}


def _batches(
  batch: Batch, caches: Sequence[CacheReader], config: ExperimentConfig
) -> Iterator[Batch]:
  """Examples drawn at random, their windows those of `batch`."""

  def examples_of(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(_CACHED_EXAMPLES, size=len(batch.weight))

  windows, num_threads = _Windows(batch, caches), config.task.num_threads
  return pipeline.batches_of(windows, examples_of, _NUM_STEPS, 0, num_threads)


def _score_ids(config: ExperimentConfig) -> tuple[int, ...]:
  return tuple(range(2, 2 + len(config.task.prompt.score_tokens)))


def _random_batch(config: ExperimentConfig) -> Batch:
  """Random frames and words in the shapes of the config."""
  c, rng = config.task.prompt, np.random.default_rng(0)
  B, N, T = config.train.batch_size, c.window, c.sequence_length
  num_slots = N * c.frames_per_segment * c.tokens_per_frame
  tokens = rng.integers(10, config.task.model.llm.vocab_size, (B, T))
  tokens[:, :num_slots] = _IMAGE_ID
  frames = (B, N, c.frames_per_segment, c.image_size, c.image_size, 3)
  return Batch(
    frames=rng.integers(0, 256, frames).astype(np.uint8),
    tokens=tokens.astype(np.int32),
    mask_ar=np.zeros((B, T), np.int32),
    input_mask=np.ones((B, T), bool),
    score_pos=np.full((B, N), T - 1, np.int32),
    targets=rng.dirichlet(np.ones(len(c.score_tokens)), (B, N)).astype(np.float32),
    weight=np.ones((B, N), np.float32),
    teachers=(),
    example=np.arange(B, dtype=np.int32),
  )


def _make_cache(folder: Path, config: ExperimentConfig) -> CacheReader:
  shape = (config.task.prompt.window, len(config.task.prompt.score_tokens))
  names = ("teacher_digest", "tokenizer_digest", "prompt_digest", "examples_digest")
  identity = ScoreIdentity(
    **dict.fromkeys(names, _DIGEST),
    num_examples=_CACHED_EXAMPLES,
    window=shape[0],
    num_classes=shape[1],
  )
  writer = CacheWriter(folder, identity, _CACHED_EXAMPLES)
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(_CACHED_EXAMPLES, *shape)).astype(np.float32)
  keys = [example_key(_DIGEST, i) for i in range(_CACHED_EXAMPLES)]
  answers = [CachedAnswer(each) for each in logits]
  (shard,) = writer.pending_shards()
  writer.write_shard(shard, keys, answers)
  seal(folder, identity, _CACHED_EXAMPLES)
  return CacheReader(folder, {})


def _summary(sizes: Sequence[int], seconds: dict[str, list[float]]) -> dict[str, Any]:
  median_s = {row: statistics.median(values) for row, values in seconds.items()}
  return {
    "num_params": dict(zip(STAGES, sizes, strict=True)),
    "seconds": seconds,
    "median_s": median_s,
    "times_without": {row: median / median_s[ROWS[0]] for row, median in median_s.items()},
  }


def _print_tables(report: dict[str, Any]) -> None:
  console = rich.console.Console()
  for name, found in report["sizes"].items():
    params = ", ".join(f"{stage} {num:,}" for stage, num in found["num_params"].items())
    table = rich.table.Table(
      title=f"Sizes: {name} ({params} parameters), batch {report['batch']}, "
      f"{report['rounds']} rounds of {report['steps']} steps",
      box=rich.box.SIMPLE_HEAD,
      title_justify="left",
    )
    table.add_column("")
    for column in ("median ms a step", "min", "max", "times without teachers"):
      table.add_column(column, justify="right")
    for row, values in found["seconds"].items():
      times = (found["median_s"][row], min(values), max(values))
      milliseconds = (f"{1e3 * value:.1f}" for value in times)
      table.add_row(row, *milliseconds, f"{found['times_without'][row]:.2f}")
    console.print(table)
