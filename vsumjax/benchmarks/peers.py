"""How long a forward pass and a train step take, beside other libraries, in one run."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import multiprocessing
import platform
import signal
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table

from vsumjax.benchmarks import model_step
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.types import InputError

PASSES = ("forward", "step")
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers")


@dataclasses.dataclass
class Row:
  """One implementation's times.

  missing: why there are none; "" if there are.
  computes: {pass: in words}.
  seconds: {pass: [a value a round]}.
  """

  name: str
  missing: str = ""
  computes: dict[str, str] = dataclasses.field(default_factory=dict)
  seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)


def benchmark_model_step(
  task: model_step.Task,
  rows: Sequence[str] = tuple(model_step.ROWS),
  *,
  rounds: int = 5,
  out: Path | None = None,
) -> dict[str, Any]:
  """Times the implementations in turns, prints a table and returns what `out` is to hold.

  Every implementation has a process of its own, so that no thread pool is in another's way; all but
  one wait. A row whose library is missing says so.

  Raises:
    InputError: an unknown row, no round, or a process that ended by itself (out of memory).
  """
  _check(task, rows, rounds)
  with contextlib.ExitStack() as stack, progress("benchmark model_step") as update:
    workers = []
    total = (rounds + 2) * len(rows) * len(PASSES)
    for index, name in enumerate(rows):
      update(index * len(PASSES), total, f"{name}: prepares")
      workers.append(stack.enter_context(_worker(name, task)))
    done = len(rows) * len(PASSES)
    for number in range(rounds + 1):
      for worker in workers:
        for what in PASSES:
          note = f"round {number} of {rounds}" if number else "warm-up"
          update(done, total, f"{note}: {worker.row.name}, {what}")
          worker.measure(what, keep=number > 0)
          done += 1
    update(total, total)
  report = _report(task, [worker.row for worker in workers], rounds)
  if out is not None:
    write_atomically(out, json.dumps(report, indent=1))
  _print_table(report)
  return report


def _check(task: model_step.Task, rows: Sequence[str], rounds: int) -> None:
  for name in rows:
    if name not in model_step.ROWS:
      raise InputError(f"--only: {name!r} is not one of {', '.join(model_step.ROWS)}")
  for flag, value in (("--rounds", rounds), ("--batch", task.batch)):
    if value < 1:
      raise InputError(f"{flag}: {value} must be 1 or more")


class _Worker:
  """The parent's end of a process."""

  def __init__(self, row: Row, process: Any, pipe: Connection) -> None:
    self.row = row
    self._process, self._pipe = process, pipe

  def measure(self, what: str, *, keep: bool) -> None:
    if self.row.missing:
      return
    self._pipe.send(what)
    seconds = self.receive()
    if keep:
      self.row.seconds.setdefault(what, []).append(seconds)

  def receive(self) -> Any:
    try:
      return self._pipe.recv()
    except (EOFError, ConnectionError):
      self._process.join()
      raise InputError(
        f"{self.row.name}: its process ended with status {self._process.exitcode}; if it ran out "
        "of memory, give a smaller --batch"
      ) from None


@contextlib.contextmanager
def _worker(name: str, task: model_step.Task) -> Iterator[_Worker]:
  spawn = multiprocessing.get_context("spawn")
  pipe, other_end = spawn.Pipe()
  process = spawn.Process(target=_serve, args=(other_end, name, task), daemon=True)
  process.start()
  other_end.close()
  worker = _Worker(Row(name), process, pipe)
  try:
    worker.row.missing, worker.row.computes = worker.receive()
    yield worker
  finally:
    pipe.close()
    process.join(timeout=5)
    process.terminate()


def _serve(pipe: Connection, name: str, task: model_step.Task) -> None:
  """The process of one implementation: builds it, then times what it is asked for."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
  warnings.simplefilter("ignore")
  logging.disable(logging.WARNING)
  try:
    implementation = model_step.build(name, task)
  except ImportError as error:
    pipe.send((str(error), {}))
    return
  pipe.send(("", implementation.computes))
  with contextlib.suppress(EOFError):
    while True:
      run = getattr(implementation, pipe.recv())
      start = time.perf_counter()
      run()
      pipe.send(time.perf_counter() - start)


def _report(task: model_step.Task, rows: Sequence[Row], rounds: int) -> dict[str, Any]:
  medians = {
    row.name: {what: statistics.median(values) for what, values in row.seconds.items()}
    for row in rows
  }
  return {
    "benchmark": "model_step",
    "versions": {"python": platform.python_version(), **_versions()},
    "cores": model_step.num_cores(),
    "rounds": rounds,
    "batch": task.batch,
    "image_tokens": task.image_tokens,
    "text_tokens": task.text_tokens,
    "model": dataclasses.asdict(task.model),
    "rows": [
      {**dataclasses.asdict(row), "summary": _summary(row, medians.get("ours", {}))} for row in rows
    ],
  }


def _summary(row: Row, ours: dict[str, float]) -> dict[str, dict[str, float]]:
  """{pass: median, min and max seconds, and how many times ours the median is, if known}."""
  summary = {}
  for what, values in row.seconds.items():
    median = statistics.median(values)
    summary[what] = {"median_s": median, "min_s": min(values), "max_s": max(values)}
    if what in ours:
      summary[what]["times_ours"] = median / ours[what]
  return summary


def _versions() -> dict[str, str]:
  versions = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return versions


def _print_table(report: dict[str, Any]) -> None:
  title = (
    f"Seconds on {report['cores']} cores, batch {report['batch']}, {report['image_tokens']} image "
    f"and {report['text_tokens']} text tokens, {report['rounds']} rounds"
  )
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("")
  for name in ("pass", "median", "min", "max", "times ours"):
    table.add_column(name, justify="right")
  missing = []
  for row in report["rows"]:
    if row["missing"]:
      missing.append(f"{row['name']}: {row['missing']}")
    for what, times in row["summary"].items():
      seconds = [f"{times[key]:.3f}" for key in ("median_s", "min_s", "max_s")]
      ratio = f"{times['times_ours']:.2f}" if "times_ours" in times else ""
      table.add_row(row["name"], what, *seconds, ratio)
  console = rich.console.Console()
  console.print(table)
  for line in missing:
    console.print(line, soft_wrap=True, markup=False)
