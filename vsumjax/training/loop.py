"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vsumjax import sharding
from vsumjax.contract import FIRST_TASK
from vsumjax.host import stopping
from vsumjax.training import checkpoints, metrics
from vsumjax.training.goodput import Clock
from vsumjax.training.profiling import Profiler
from vsumjax.training.report import OnProgress, Report
from vsumjax.training.selection import Selection
from vsumjax.training.state import TrainState, used_params
from vsumjax.types import InputError


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
      if field.type == "int" and value < least:
        raise InputError(f"train.{field.name}: {value} is less than {least}")
    if self.seed >= 1 << 32:  # of more bits JAX takes the lowest 32, or none
      raise InputError(f"train.seed: {self.seed} is not less than {1 << 32}")
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
  describe: words for examples of the training split, by their numbers.
  meta: what a resumed run must share; see `check_meta`.
  """

  config: TrainConfig
  mesh: jax.sharding.Mesh
  rules: sharding.LogicalRules
  abstract: TrainState
  init_state: Callable[[], TrainState]
  train_step: Callable[[TrainState, Any], tuple[TrainState, Any]]
  eval_step: Callable[[Any, Any], Any]
  train_batches: Callable[[int], Generator[Any, None, None]]
  eval_batches: Callable[[], Generator[Any, None, None]]
  describe: Callable[[Sequence[int]], str]
  meta: Mapping[str, Any]


def train(
  run: Run,
  workdir: Path,
  on_progress: OnProgress,
  *,
  clock: Clock | None = None,
  profile: range = range(0),
) -> TrainState:
  """Trains to `num_steps`, resuming from the newest checkpoint of `workdir` if there is one.

  Args:
    run: what to train.
    workdir: where it is kept.
    on_progress: called with the number of the step, of all steps, and a note.
    clock: tells where the time goes; it runs from when it was made.
    profile: steps, counted from 1, of which `workdir/profile` gets a trace.

  Raises:
    InputError: if the checkpoint there belongs to another run, naming what differs.
    FloatingPointError: on a loss or gradient that is not finite, naming the step and its examples.
    OSError: if the disk is full. What was saved before is kept.
    stopping.Stopped: on SIGTERM, once the current step is saved.
  """
  clock = clock or Clock()
  with contextlib.ExitStack() as stack:
    log = metrics.Log(workdir, writes=jax.process_index() == 0)
    stack.callback(log.close)
    stop = stack.enter_context(stopping.Stop())
    profiler = Profiler(workdir / "profile", profile)
    stack.callback(profiler.close)
    report = Report(
      log,
      clock,
      on_progress,
      run.describe,
      num_steps=run.config.num_steps,
      log_every=run.config.log_every,
    )
    training = _Training(run, workdir, log, report, clock, stop, profiler)
    stack.callback(training.close)
    training.start(workdir)
    return training.run()


class _Training:
  """A run at work: the state, and what is done of the step it stands at."""

  def __init__(
    self,
    run: Run,
    workdir: Path,
    log: metrics.Log,
    report: Report,
    clock: Clock,
    stop: stopping.Stop,
    profiler: Profiler,
  ) -> None:
    self._run, self._log, self._report = run, log, report
    self._clock, self._stop, self._profiler = clock, stop, profiler
    self._called: set[str] = set()
    self._saver = checkpoints.Checkpoints(workdir)
    self._selection: Selection | None = None
    self._opened: list[Generator[Any, None, None]] = []

  def start(self, workdir: Path) -> None:
    """Makes the state of step 0, or restores that of the newest checkpoint."""
    run, saver = self._run, self._saver
    resumed = saver.latest_step()
    # Steps at which the checkpoint and the evaluation that were due are done.
    self._saved, self._evaluated, self._step = resumed, resumed, resumed or 0
    if resumed is None:
      self._state = run.init_state()
    else:
      with self._clock.spending("checkpoints"):
        check_meta(saver.load_meta(resumed), run.meta, saver.path / str(resumed))
        if not saver.is_evaluated(resumed):
          self._evaluated = None
        self._state = saver.restore(resumed, run.abstract)
    if run.config.keep_best or run.config.ema_decay:
      self._selection = Selection(workdir, run.config.keep_best, run.meta, resumed)
    self._log.resume(resumed, is_evaluated=self._evaluated == resumed)

  def run(self) -> TrainState:
    """Trains to the end."""
    run = self._run
    batches = self._open(run.train_batches(self._step))
    with sharding.use_mesh(run.mesh, run.rules), jax.transfer_guard("disallow"):
      try:
        self._train(batches)
      except stopping.Interrupted:
        self._save()
        self._wait()
        raise stopping.Stopped(
          f"stopped; saved at step {self._step}; the same command resumes from there"
        ) from None
    self._wait()
    if self._selection is not None:
      self._selection.finish()
    return self._state

  def _train(self, batches: Iterator[Any]) -> None:
    # The order of operations below is fixed: what is saved at a step is the state before that
    # step's batch is drawn, so that a resumed run draws it again. It evaluates before it saves: at
    # the step a run resumes from, all that was due is done, unless the checkpoint says otherwise.
    while True:
      if self._stop.is_due():
        raise stopping.Interrupted
      if self._is_due(self._run.config.eval_every) and self._evaluated != self._step:
        self._evaluate()
      if self._is_due(self._run.config.checkpoint_every) and self._saved != self._step:
        self._save()
      if self._step == self._run.config.num_steps:
        return
      self._advance(batches)

  def _is_due(self, every: int) -> bool:
    return self._step % every == 0 or self._step == self._run.config.num_steps

  def _advance(self, batches: Iterator[Any]) -> None:
    """One step. The device works on it while the host reads the metrics of the one before."""
    run, step = self._run, self._step + 1
    with self._clock.spending("data"):
      started = time.monotonic()
      host_batch = next(batches)
      waited_s = time.monotonic() - started
      batch = sharding.to_global(host_batch, run.mesh, run.rules)
    self._profiler.before(step)
    with jax.profiler.StepTraceAnnotation("train", step_num=step):
      self._state, step_metrics = self._call("steps", run.train_step, self._state, batch)
    self._step = step
    self._stop.defer()
    self._report.push(step, step_metrics, host_batch.example, waited_s)
    if self._profiler.ends_with(step):
      self._report.flush()
      self._profiler.close()

  def _evaluate(self) -> None:
    """Writes the mean metrics over the validation split; keeps the parameters if they are best."""
    self._report.flush()
    run, mean, params = self._run, metrics.Mean(), used_params(self._state)
    with self._clock.spending("evaluation"):
      for host_batch in self._open(run.eval_batches()):
        batch = sharding.to_global(host_batch, run.mesh, run.rules)
        mean.add(jax.device_get(self._call("evaluation", run.eval_step, params, batch)))
        if self._stop.is_due():
          raise stopping.Interrupted
      self._opened.pop().close()
    values = {f"{metrics.EVALUATION}{name}": value for name, value in mean.result().items()}
    self._log.append(self._step, values)
    if self._selection is not None and (run.config.keep_best or self._is_last()):
      with self._clock.spending("checkpoints"):
        self._saver.wait()  # the selection relies on what is on the disk
        self._selection.offer(self._step, values, params)
    self._evaluated = self._step

  def _save(self) -> None:
    """Saves the step the run stands at, unless it is saved."""
    self._report.flush()
    if self._saved == self._step:
      return
    is_evaluated = self._evaluated == self._step or not self._is_due(self._run.config.eval_every)
    with self._clock.spending("checkpoints"):
      self._saver.save(self._state, self._step, self._run.meta, is_evaluated=is_evaluated)
    self._saved = self._step
    if self._selection is not None:
      self._selection.recorded()

  def _is_last(self) -> bool:
    return self._step == self._run.config.num_steps

  def _call(self, kind: str, function: Callable, *args: Any) -> Any:
    """The first call of a jitted function compiles it before it returns."""
    is_first = kind not in self._called
    self._called.add(kind)
    with self._clock.spending("compile" if is_first else kind):
      return function(*args)

  def _open(self, batches: Generator[Any, None, None]) -> Iterator[Any]:
    """Batches that SIGTERM interrupts. `close` ends their workers: what is to save comes first."""
    self._opened.append(batches)
    return self._stop.waiting_for(batches)

  def _wait(self) -> None:
    with self._clock.spending("checkpoints"):
      self._saver.wait()

  def close(self) -> None:
    for batches in self._opened:
      batches.close()
    with self._clock.spending("checkpoints"):
      try:
        self._saver.close()
      finally:
        if self._selection is not None:
          self._selection.close()


def check_meta(saved: Mapping[str, Any], current: Mapping[str, Any], where: Path) -> None:
  """Refuses to resume a run whose task, config, data or caches are not these."""
  saved = {"task": FIRST_TASK, **saved}
  for name in sorted(saved.keys() | current.keys()):
    if saved.get(name) != current.get(name):
      raise InputError(
        f"{where}: cannot resume: {name} is {saved.get(name, 'absent')!r} in the checkpoint and "
        f"{current.get(name, 'absent')!r} now; use another --workdir or restore the old value"
      )
