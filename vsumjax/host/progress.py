"""Progress with an estimate of the time left: a bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

Update = Callable[..., None]

_LINE_EVERY_S = 15.0


@contextlib.contextmanager
def progress(what: str) -> Iterator[Update]:
  """Yields `update(done, total, note="")`; all output goes to standard error."""
  if sys.stderr.isatty():
    with _bar(what) as update:
      yield update
  else:
    yield _Lines(what)


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Update]:
  columns = (
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TimeElapsedColumn(),
    rich.progress.TextColumn("left"),
    rich.progress.TimeRemainingColumn(),
    rich.progress.TextColumn("{task.fields[note]}"),
  )
  with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
    task = bar.add_task(what, total=None, note="")
    yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)


class _Lines:
  """Prints a line when it starts to count, every 15 s, and at the end."""

  def __init__(self, what: str) -> None:
    self._what = what
    self._start = self._printed = 0.0
    self._first: int | None = None

  def __call__(self, done: int, total: int, note: str = "") -> None:
    now = time.monotonic()
    if self._first is None:  # a resumed job does not start at 0
      self._first, self._start = done, now
    elif done < total and now - self._printed < _LINE_EVERY_S:
      return
    self._printed = now
    speed = (done - self._first) / max(now - self._start, 1e-9)
    if done < total:
      left = f"{(total - done) / speed:.0f} s left" if speed else "time left unknown"
    else:
      left = f"done in {now - self._start:.0f} s"
    print(f"{self._what}: {done}/{total}, {left}  {note}".rstrip(), file=sys.stderr, flush=True)
