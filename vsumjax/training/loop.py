"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from vsumjax import sharding
from vsumjax.training import checkpoints, metrics
from vsumjax.training.state import TrainState
from vsumjax.types import Batch, InputError

OnProgress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long, how large, how often.

  num_steps: in all.
  batch_size: windows in a global batch.
  checkpoint_every, eval_every, log_every: in steps.
  accumulate: microbatches a batch is cut into, to need the memory of one of them only.
  ema_decay: of a running mean of the parameters, which is then what is evaluated and used; 0 keeps
    none.
  keep_best: a metric of the evaluations, as "validation/ce": the parameters with its lowest value
    are what the finished run is used with; "" uses the last ones.
  """

  num_steps: int
  batch_size: int
  seed: int
  checkpoint_every: int
  eval_every: int
  log_every: int
  accumulate: int = 1
  ema_decay: float = 0.0
  keep_best: str = ""

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value, least = getattr(self, field.name), 0 if field.name == "seed" else 1
      if isinstance(value, int) and value < least:
        raise InputError(f"train.{field.name}: {value} is less than {least}")
    if not 0 <= self.ema_decay < 1:
      raise InputError(f"train.ema_decay: {self.ema_decay} is not in 0 .. 1, 1 left out")
    if self.batch_size % self.accumulate:
      raise InputError(
        f"train.accumulate: {self.accumulate} does not divide train.batch_size, {self.batch_size}"
      )


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything the loop needs, already wired.

  init_state: () -> TrainState on the devices.  abstract: its shapes and shardings.
  train_step: jitted (state, batch) -> (state, metrics), the state donated.
  eval_step: jitted (params, batch) -> metrics.
  train_batches: start step -> host batches of this process from there on.
  eval_batches: () -> host batches of the validation split, each example once.
  meta: what a resumed run must share; see `check_meta`.
  """

  config: TrainConfig
  mesh: jax.sharding.Mesh
  rules: sharding.LogicalRules
  abstract: TrainState
  init_state: Callable[[], TrainState]
  train_step: Callable[[TrainState, Batch], tuple[TrainState, Any]]
  eval_step: Callable[[Any, Batch], Any]
  train_batches: Callable[[int], Generator[Batch, None, None]]
  eval_batches: Callable[[], Iterator[Batch]]
  meta: Mapping[str, Any]


def train(run: Run, workdir: Path, on_progress: OnProgress) -> TrainState:
  """Trains to `num_steps`, resuming from the newest checkpoint of `workdir` if there is one.

  Raises:
    InputError: if the checkpoint there belongs to another run, naming what differs.
    FloatingPointError: on a loss or gradient that is not finite, naming the step and its examples.
  """
  config = run.config
  saver = checkpoints.Checkpoints(workdir)
  log = metrics.MetricsFile(workdir / "metrics.jsonl", writes=jax.process_index() == 0)
  try:
    resumed = saver.latest_step()
    step = resumed or 0
    state = run.init_state() if resumed is None else _restore(run, saver, step)
    log.truncate_after(step)
    pending = _Pending(run, log, on_progress)
    with (
      contextlib.closing(run.train_batches(step)) as batches,
      sharding.use_mesh(run.mesh, run.rules),
      jax.transfer_guard("disallow"),
    ):
      # The order of operations below is fixed: what is saved at a step is the state before that
      # step's batch is drawn, so that a resumed run draws it again. It evaluates before it saves:
      # at the step a run resumes from, all that was due is done.
      while True:
        last = step == config.num_steps
        if (step % config.eval_every == 0 or last) and step != resumed:
          pending.flush()
          log.append(step, evaluate(run, state.params))
        if (step % config.checkpoint_every == 0 or last) and step != resumed:
          pending.flush()
          saver.save(state, step, run.meta)
        if last:
          return state
        started = time.monotonic()
        host_batch = next(batches)
        waited_s = time.monotonic() - started
        batch = sharding.to_global(host_batch, run.mesh, run.rules)
        state, step_metrics = run.train_step(state, batch)
        step += 1
        # The device works on this step while the host reads the one before.
        pending.push(step, step_metrics, host_batch.example, waited_s)
  finally:
    saver.close()


def evaluate(run: Run, params: Any) -> dict[str, float]:
  """Mean metrics over the validation split."""
  mean = metrics.Mean()
  for host_batch in run.eval_batches():
    batch = sharding.to_global(host_batch, run.mesh, run.rules)
    mean.add(jax.device_get(run.eval_step(params, batch)))
  return {f"validation/{name}": value for name, value in mean.result().items()}


def check_meta(saved: Mapping[str, Any], current: Mapping[str, Any], where: Path) -> None:
  """Refuses to resume a run whose config, data, prompt, tokenizer or caches are not these."""
  for name in sorted(saved.keys() | current.keys()):
    if saved.get(name) != current.get(name):
      raise InputError(
        f"{where}: cannot resume: {name} is {saved.get(name, 'absent')!r} in the checkpoint and "
        f"{current.get(name, 'absent')!r} now; use another --workdir or restore the old value"
      )


def _restore(run: Run, saver: checkpoints.Checkpoints, step: int) -> TrainState:
  check_meta(saver.load_meta(step), run.meta, saver.path / str(step))
  return saver.restore(step, run.abstract)


class _Pending:
  """Metrics of the step in flight, read one step late."""

  def __init__(self, run: Run, log: metrics.MetricsFile, on_progress: OnProgress) -> None:
    self._config, self._log, self._on_progress = run.config, log, on_progress
    self._entry: tuple | None = None
    self._mean = metrics.Mean()
    self._since = time.monotonic()

  def push(self, step: int, step_metrics: Any, example: Any, waited_s: float) -> None:
    self.flush()
    self._entry = (step, step_metrics, example, waited_s)

  def flush(self) -> None:
    if self._entry is None:
      return
    step, step_metrics, example, waited_s = self._entry
    self._entry = None
    values = jax.device_get(step_metrics)
    total, weight = values["loss"]
    for name in ("loss", "grad_norm"):
      if not math.isfinite(values[name][0]):
        raise FloatingPointError(
          f"{name} is {values[name][0]} at step {step}; examples {example.tolist()}"
        )
    self._mean.add(values | {"data/wait_ms": (1e3 * waited_s, 1.0)})
    self._on_progress(step, self._config.num_steps, f"loss {total / max(weight, 1e-6):.3f}")
    if step % self._config.log_every == 0 or step == self._config.num_steps:
      now = time.monotonic()
      seconds = now - self._since
      means = {
        name if "/" in name else f"train/{name}": value
        for name, value in self._mean.result().items()
      }
      waited_ms, _ = self._mean.total("data/wait_ms")
      timing = {"train/seconds": seconds, "data/wait_share": waited_ms / 1e3 / seconds}
      self._log.append(step, means | timing)
      self._mean, self._since = metrics.Mean(), now
