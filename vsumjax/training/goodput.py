"""Where the wall time of a process goes: goodput is the share of it that is spent in steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import jax
import rich.box
import rich.console
import rich.table

KINDS = {
  "steps": "train steps, on the device",
  "data": "waiting for a batch, and taking it to the device",
  "evaluation": "evaluations, with their batches",
  "checkpoints": "restoring, copying to the host, waiting for the disk",
  "compile": "first call of the train and of the evaluation step",
  "other": "all else: reading the data set, first parameters, metrics",
}


class Clock:
  """Gives every moment since it was made to one of `KINDS`; what is spent within another, to it."""

  def __init__(self) -> None:
    self._seconds = dict.fromkeys(KINDS, 0.0)
    self._kind = "other"
    self._since = time.monotonic()

  @contextlib.contextmanager
  def spending(self, kind: str) -> Iterator[None]:
    """Within it time is spent on `kind`; a profile shows it under that name."""
    before = self._switch(kind)
    try:
      with jax.profiler.TraceAnnotation(kind):
        yield
    finally:
      self._switch(before)

  def seconds(self) -> dict[str, float]:
    """Seconds of every kind so far."""
    self._switch(self._kind)
    return dict(self._seconds)

  def shares(self) -> dict[str, float]:
    """Shares of the time so far, which add to 1."""
    seconds = self.seconds()
    total = sum(seconds.values())
    return {kind: spent / total for kind, spent in seconds.items()}

  def print_table(self) -> None:
    """Shows seconds and shares on standard error."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_footer=True)
    seconds, shares = self.seconds(), self.shares()
    table.add_column("time of this run", footer="all")
    table.add_column("seconds", justify="right", footer=f"{sum(seconds.values()):.1f}")
    table.add_column("share", justify="right", footer="100.0 %")
    table.add_column("")
    for kind, what in KINDS.items():
      table.add_row(kind, f"{seconds[kind]:.1f}", f"{shares[kind]:.1%}".replace("%", " %"), what)
    rich.console.Console(stderr=True).print(table)

  def _switch(self, kind: str) -> str:
    now, before = time.monotonic(), self._kind
    self._seconds[before] += now - self._since
    self._kind, self._since = kind, now
    return before
