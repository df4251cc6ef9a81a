"""What is told of the steps of a run, one step late: the device works while we read."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax

from vsumjax.training import metrics
from vsumjax.training.goodput import Clock

OnProgress = Callable[[int, int, str], None]
_SPEED_OVER = 20  # steps


class Report:
  """Means of the metrics between two lines of the log, and the progress shown meanwhile."""

  def __init__(
    self,
    log: metrics.Log,
    clock: Clock,
    on_progress: OnProgress,
    describe: Callable[[Sequence[int]], str],
    *,
    num_steps: int,
    log_every: int,
  ) -> None:
    """describe: words for the examples of a batch, for when it is bad."""
    self._log, self._clock = log, clock
    self._on_progress, self._describe = on_progress, describe
    self._num_steps, self._log_every = num_steps, log_every
    self._entry: tuple | None = None
    self._mean = metrics.Mean()
    self._since = time.monotonic()
    self._times: deque[float] = deque([self._since], maxlen=_SPEED_OVER + 1)

  def push(self, step: int, step_metrics: Any, example: Any, waited_s: float) -> None:
    """Takes the metrics of the step that was just dispatched and tells those of the one before."""
    self.flush()
    self._entry = (step, step_metrics, example, waited_s)

  def flush(self) -> None:
    """Waits for the step in flight and tells its metrics.

    Raises:
      FloatingPointError: on a loss or gradient that is not finite, naming step and examples.
    """
    if self._entry is None:
      return
    step, step_metrics, example, waited_s = self._entry
    self._entry = None
    with self._clock.spending("steps"):
      values = jax.device_get(step_metrics)
    for name in ("loss", "grad_norm"):
      if not math.isfinite(values[name][0]):
        raise FloatingPointError(
          f"{name} is {values[name][0]} at step {step}; {self._describe(example.tolist())}"
        )
    self._mean.add(values | {"data/wait_ms": (1e3 * waited_s, 1.0)})
    self._show(step, *values["loss"])
    if step % self._log_every == 0 or step == self._num_steps:
      self._write(step)

  def _show(self, step: int, loss: float, weight: float) -> None:
    self._times.append(time.monotonic())
    speed = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)
    note = f"loss {loss / max(weight, 1e-6):.3f}, {speed:.3g} steps/s"
    self._on_progress(step, self._num_steps, note)

  def _write(self, step: int) -> None:
    now = time.monotonic()
    seconds = now - self._since
    means = {
      name if "/" in name else f"train/{name}": value for name, value in self._mean.result().items()
    }
    waited_ms, _ = self._mean.total("data/wait_ms")
    timing = {"train/seconds": seconds, "data/wait_share": waited_ms / 1e3 / seconds}
    goodput = {f"goodput/{kind}": share for kind, share in self._clock.shares().items()}
    self._log.append(step, means | timing | goodput)
    self._mean, self._since = metrics.Mean(), now
