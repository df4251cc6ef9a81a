"""Searches the settings of a config for the fastest train step that a TPU slice has memory for."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vsumjax.experiment.config import ExperimentConfig
from vsumjax.host.files import write_atomically
from vsumjax.jobs.compile_check import check
from vsumjax.tpu import topologies
from vsumjax.types import InputError

# Of the TPU's compiler, each tried by itself; docs/tpu.md tells what they did for the 3B student.
OPTIONS = (
  ("xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000",),
  ("xla_tpu_scoped_vmem_limit_kib=24576",),
)


@dataclasses.dataclass(frozen=True)
class Tried:
  """One setting: what was changed, and its report or why there is none."""

  changes: dict[str, Any]
  report: dict[str, Any] | None
  why: str = ""

  @property
  def ms_a_row(self) -> float:
    if self.report is None or not self.report["fits"]:
      return float("inf")
    return self.report["predicted_ms"] / self.report["rows"]


Change = tuple[str, Any, Callable[[ExperimentConfig], ExperimentConfig]]


def advise(
  config: ExperimentConfig, topology: topologies.Topology, *, out: Path | None = None
) -> Tried:
  """Varies one setting at a time from the best so far; prints all that it tried and the best.

  A compilation each, about ten in all. The measure is the predicted time for a row of the batch.

  Raises:
    InputError: if nothing that was tried fits.
  """
  started, tried = time.monotonic(), []
  best = _try(config, topology, {}, tried, started)
  for dimension in (_meshes, _remat, _rows, _microbatches, _options):
    base, changed = config, dict(best.changes)
    for name, value, change in dimension(base, topology):
      candidate = _try(change(base), topology, changed | {name: value}, tried, started)
      if candidate.ms_a_row < best.ms_a_row:
        best, config = candidate, change(base)
  _print(tried, best, topology)
  if out:
    found = [{"changes": each.changes, "why": each.why, "report": each.report} for each in tried]
    write_atomically(out, json.dumps({"best": best.changes, "tried": found}, indent=1))
  if best.report is None or not best.report["fits"]:
    raise InputError(f"{topology.name}: none of {len(tried)} settings fits; take a larger slice")
  return best


def _try(
  config: ExperimentConfig,
  topology: topologies.Topology,
  changes: dict[str, Any],
  tried: list[Tried],
  started: float,
) -> Tried:
  told = ", ".join(f"{name}={value}" for name, value in changes.items()) or "as it is"
  print(f"{time.monotonic() - started:5.0f} s  {len(tried) + 1}: {told}", file=sys.stderr)
  try:
    tried.append(Tried(changes, check(config, topology, "train").report))
  except InputError as error:
    tried.append(Tried(changes, None, str(error)))
  return tried[-1]


def _meshes(config: ExperimentConfig, topology: topologies.Topology) -> list[Change]:
  """Fewer devices along fsdp, more along data, which joins slices."""
  count = topologies.num_devices(topology)
  shapes = [(count // fsdp, fsdp) for fsdp in (count // 2, count // 4) if fsdp > 1]
  return [
    (
      "mesh",
      f"data {data}, fsdp {fsdp}",
      lambda c, data=data, fsdp=fsdp: dataclasses.replace(
        c, mesh=dataclasses.replace(c.mesh, data=data, fsdp=fsdp, tensor=1)
      ),
    )
    for data, fsdp in shapes
    if data % topology.num_slices == 0
  ]


def _remat(config: ExperimentConfig, _: topologies.Topology) -> list[Change]:
  other = not config.task.model.remat

  def change(c: ExperimentConfig) -> ExperimentConfig:
    model = dataclasses.replace(c.task.model, remat=other)
    return dataclasses.replace(c, task=dataclasses.replace(c.task, model=model))

  return [("model.remat", other, change)]


def _rows(config: ExperimentConfig, _: topologies.Topology) -> list[Change]:
  rows = config.train.batch_size
  return [
    ("train.batch_size", n, lambda c, n=n: _with_train(c, batch_size=n))
    for n in (2 * rows, rows // 2)
  ]


def _microbatches(config: ExperimentConfig, _: topologies.Topology) -> list[Change]:
  parts = 2 * config.train.accumulate
  return [("train.accumulate", parts, lambda c: _with_train(c, accumulate=parts))]


def _options(config: ExperimentConfig, _: topologies.Topology) -> list[Change]:
  return [
    (
      "compiler_options",
      options[0],
      lambda c, options=options: dataclasses.replace(
        c, compiler_options=(*c.compiler_options, *options)
      ),
    )
    for options in OPTIONS
  ]


def _with_train(config: ExperimentConfig, **changes: int) -> ExperimentConfig:
  return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def _print(tried: list[Tried], best: Tried, topology: topologies.Topology) -> None:
  table = Table(title=f"train on {topology.name}: one line a setting, the best marked")
  for column in ("", "changed", "ms", "ms a row", "MFU", "HBM, GiB"):
    table.add_column(column, justify="left" if column in ("", "changed") else "right")
  for each in tried:
    told = "\n".join(f"{name}={value}" for name, value in each.changes.items()) or "as it is"
    mark = "→" if each is best else ""
    if each.report is None:
      table.add_row(mark, f"{told}\n{each.why}")
      continue
    report = each.report
    figures = (report["predicted_ms"], report["predicted_ms"] / report["rows"])
    table.add_row(
      mark,
      told,
      *(f"{figure:,.2f}" for figure in figures),
      f"{100 * report['mfu']:.1f} %",
      f"{report['hbm_peak_bytes'] / (1 << 30):.2f}",
    )
  Console().print(table)
