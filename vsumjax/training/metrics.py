"""(sum, weight) metrics on the host and the JSON-lines file they go to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from vsumjax.files import write_atomically
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


class MetricsFile:
  """`metrics.jsonl`: one line a logged step, {"step": 10, "train/loss": 1.2, ...}."""

  def __init__(self, path: Path, *, writes: bool = True) -> None:
    """writes: False on all processes of a run but one."""
    self._path, self._writes = path, writes

  def truncate_after(self, step: int) -> None:
    """Drops lines of later steps: a resumed run writes them again."""
    if self._writes and self._path.exists():
      kept = [line for line in self.read() if line["step"] <= step]
      write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept))

  def append(self, step: int, values: Mapping[str, float]) -> None:
    if self._writes:
      with self._path.open("a") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")

  def read(self) -> Iterable[dict]:
    lines = self._path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
      try:
        yield json.loads(line)
      except json.JSONDecodeError as error:
        if number == len(lines):  # the process was killed while it wrote this line
          return
        raise InputError(f"{self._path}:{number}: not a JSON line ({error.msg})") from error
