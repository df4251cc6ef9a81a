"""(sum, weight) metrics on the host and the JSON-lines file they go to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from vsumjax.host.files import write_atomically
from vsumjax.training.events import EventsFile
from vsumjax.types import InputError


class Mean:
  """Adds up (sum, weight) pairs by name; `result` divides."""

  def __init__(self) -> None:
    self._sums: dict[str, list[float]] = {}

  def add(self, metrics: Mapping[str, tuple[float, float]]) -> None:
    for name, (total, weight) in metrics.items():
      entry = self._sums.setdefault(name, [0.0, 0.0])
      entry[0] += float(total)
      entry[1] += float(weight)

  def total(self, name: str) -> tuple[float, float]:
    """(sum, weight) of one metric so far."""
    total, weight = self._sums[name]
    return total, weight

  def result(self) -> dict[str, float]:
    return {
      name: total / weight if weight else math.nan for name, (total, weight) in self._sums.items()
    }


EVALUATION = "validation/"


def _is_of_evaluation(line: Mapping[str, float]) -> bool:
  return any(name.startswith(EVALUATION) for name in line)


class MetricsFile:
  """`metrics.jsonl`: one line a logged step, {"step": 10, "train/loss": 1.2, ...}.

  null is a mean over nothing, such as of texts in batches without any; JSON has no NaN.
  """

  def __init__(self, path: Path, *, writes: bool = True) -> None:
    """writes: False on all processes of a run but one."""
    self._path, self._writes = path, writes

  def truncate_after(self, step: int, *, is_evaluated: bool = True) -> None:
    """Drops what a resumed run writes again: later steps and, unless it is done, the evaluation."""
    if self._writes and self._path.exists():
      last = {True: step if is_evaluated else step - 1, False: step}
      kept = [line for line in self.read() if line["step"] <= last[_is_of_evaluation(line)]]
      write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept))

  def append(self, step: int, values: Mapping[str, float]) -> None:
    if self._writes:
      with self._path.open("a") as file:
        known = {name: None if math.isnan(value) else value for name, value in values.items()}
        file.write(json.dumps({"step": step, **known}) + "\n")

  def read(self) -> Iterable[dict]:
    lines = self._path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
      try:
        yield json.loads(line)
      except json.JSONDecodeError as error:
        if number == len(lines):  # the process was killed while it wrote this line
          return
        raise InputError(f"{self._path}:{number}: not a JSON line ({error.msg})") from error


class Log:
  """What a run tells of its steps: metrics.jsonl, and the same as events/ for TensorBoard."""

  def __init__(self, workdir: Path, *, writes: bool) -> None:
    """writes: False on all processes of a run but one."""
    self._file = MetricsFile(workdir / "metrics.jsonl", writes=writes)
    self._folder, self._writes = workdir / "events", writes
    self._events: EventsFile | None = None
    self._first_step = 0

  def resume(self, step: int | None, *, is_evaluated: bool) -> None:
    """What follows comes after `step`; None starts anew."""
    self._file.truncate_after(-1 if step is None else step, is_evaluated=is_evaluated)
    self._first_step = 0 if step is None else step + 1

  def append(self, step: int, values: Mapping[str, float]) -> None:
    try:
      self._file.append(step, values)
      if self._writes:
        if self._events is None:  # a finished run that is looked at again writes none
          self._events = EventsFile(self._folder, self._first_step)
        self._events.append(step, values)
    except OSError as error:
      raise OSError(
        f"{self._folder.parent}: metrics cannot be written: {error.strerror}"
      ) from error

  def close(self) -> None:
    if self._events is not None:
      self._events.close()
