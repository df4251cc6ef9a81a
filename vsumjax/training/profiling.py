"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

from __future__ import annotations

from pathlib import Path

import jax

from vsumjax.types import InputError


def parse_window(text: str) -> range:
  """Steps of "START:STOP", counted from 1 as in metrics.jsonl; "10:13" is 10, 11 and 12.

  Raises:
    InputError: if it is not that, or holds no step.
  """
  start, _, stop = text.partition(":")
  if not (start.isdecimal() and stop.isdecimal() and 1 <= int(start) < int(stop)):
    raise InputError(f"--profile: {text!r} is not START:STOP with 1 <= START < STOP, as 10:13")
  return range(int(start), int(stop))


class Profiler:
  """Traces the steps of a window while they run; `close` ends a trace that is still running."""

  def __init__(self, folder: Path, window: range) -> None:
    self._folder, self._window = folder, window
    self._is_tracing = False

  def before(self, step: int) -> None:
    """Call it before a step is dispatched."""
    if step in self._window and not self._is_tracing:
      jax.profiler.start_trace(self._folder)
      self._is_tracing = True

  def ends_with(self, step: int) -> bool:
    """Whether the trace is to be closed once this step has run."""
    return self._is_tracing and step + 1 not in self._window

  def close(self) -> None:
    if self._is_tracing:
      self._is_tracing = False
      jax.profiler.stop_trace()
