"""Our train step beside that of big_vision's PaliGemma, both compiled for a slice of TPUs.

No TPU is needed. Each is split over the slice as its own library splits it, and both are judged by
one compiler and one model of time (`tpu.predict`), which has not been compared with a TPU.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from vsumjax.benchmarks import big_vision_step
from vsumjax.experiment.config import ExperimentConfig, load_config
from vsumjax.host.files import write_atomically
from vsumjax.jobs import compile_check
from vsumjax.tasks.score.task import require_score
from vsumjax.tpu import report, topologies
from vsumjax.tpu.links import Links, coords_of
from vsumjax.types import InputError

_CONFIG = "configs/tpu/student_3b.py"
_GIB = 1 << 30
OURS = "ours"


@dataclasses.dataclass(frozen=True)
class Variant:
  """dtype, loss: as of `big_vision_step.TrainStep`. says: of it, in the table."""

  dtype: str
  loss: str
  says: str


VARIANTS = {
  "as_published": Variant("float32", "text", "float32"),
  "bfloat16": Variant("bfloat16", "text", "bfloat16"),
  "bfloat16_scores": Variant("bfloat16", "scores", "bfloat16, our loss"),
}


def benchmark_big_vision(
  source: Path,
  topology: topologies.Topology,
  rows: Sequence[int],
  *,
  only: Sequence[str] = (),
  out: Path | None = None,
) -> dict[str, Any]:
  """Compiles ours and the variants of theirs for each number of rows; prints and writes `out`.

  Raises:
    InputError: `source` is no checkout, an unknown variant, or rows that do not divide among the
      devices.
  """
  names = list(only) or list(VARIANTS)
  for name in names:
    if name not in VARIANTS:
      raise InputError(f"--only: {name!r} is not one of {', '.join(VARIANTS)}")
  big_vision_step.require_checkout(source)
  topologies.get_devices(topology)  # before JAX looks for a TPU, of which libtpu would say a lot
  found: dict[str, Any] = {
    "benchmark": "big_vision",
    "topology": topology.name,
    "devices": topologies.num_devices(topology),
    "config": _CONFIG,
    "rows": [],
  }
  steps = {(count, name): _build(source, topology, count, name) for count in rows for name in names}
  for count in rows:
    programs = [_ours(topology, count)]
    for name in names:
      print(f"compiling big_vision, {name}, {count} rows; a minute or two", file=sys.stderr)
      programs.append({"name": name, **_theirs(topology, steps[count, name])})
    found["rows"].append({"rows": count, "programs": with_ratios(programs)})
    if out:
      write_atomically(out, json.dumps(found, indent=1))
  print_report(found, Console())
  return found


def our_config(topology: topologies.Topology, rows: int) -> ExperimentConfig:
  """The student's, whose parameters are split over 16 devices at most, and copied beyond."""
  count = topologies.num_devices(topology)
  changes = {"mesh.data": str(count // 16), "mesh.fsdp": "16"} if count > 16 else {}
  return load_config(f"{_CONFIG}:rows={rows}", changes)


def _build(
  source: Path, topology: topologies.Topology, rows: int, name: str
) -> big_vision_step.TrainStep:
  config = our_config(topology, rows)
  task, variant = require_score(config.task, "big_vision"), VARIANTS[name]
  text = task.prompt.sequence_length - task.model.img.num_patches
  return big_vision_step.build(
    task.model, rows, text, source=source, dtype=variant.dtype, loss=variant.loss
  )


def _ours(topology: topologies.Topology, rows: int) -> dict[str, Any]:
  try:
    checked = compile_check.check(our_config(topology, rows), topology, "train")
  except compile_check.DoesNotFit as error:
    return {"name": OURS, **_too_large(error.sizes)}
  return {"name": OURS, **checked.report}


def _theirs(topology: topologies.Topology, step: big_vision_step.TrainStep) -> dict[str, Any]:
  """A report as of `compile_check`, MFU by the FLOPs of the student's loss, or what is missing."""
  mesh = big_vision_step.build_mesh(step, topologies.get_devices(topology))
  state, batch = step.abstract(mesh)
  out = (jax.tree.map(lambda leaf: leaf.sharding, state), None)
  with jax.set_mesh(mesh):
    lowered = jax.jit(step.update, donate_argnums=0, out_shardings=out).lower(state, batch)
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      return _too_large(report.exhausted(str(error)))
  links = Links(topology, coords_of(mesh.devices.flat))
  needed = big_vision_step.model_flops(step, vocabulary=False)
  found = report.build_report(compiled, (state, batch), topology, links, needed)
  if step.loss == "text":
    with_vocabulary = big_vision_step.model_flops(step, vocabulary=True)
    found["mfu_with_vocabulary"] = found["mfu"] * with_vocabulary / needed
  return found


def _too_large(sizes: tuple[int, int] | None) -> dict[str, Any]:
  needed, there = sizes or (None, None)
  return {"fits": False, "hbm_peak_bytes": needed, "hbm_capacity_bytes": there}


def with_ratios(programs: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """With how many times ours each takes, by the prediction and by its floor, where both fit."""
  ours = programs[0]
  for each in programs:
    for ratio, what in (("times_ours", "predicted_ms"), ("times_ours_at_floor", "floor_ms")):
      known = what in each and what in ours
      each[ratio] = each[what] / ours[what] if known else None
  return programs


def print_report(found: dict[str, Any], console: Console) -> None:
  """A table of a report."""
  table = Table(title=f"train step on {found['topology']}, as compiler and estimator see it")
  for column in ("rows", "", "ms", "/ ours", "floor", "MFU", "with V", "HBM, GiB"):
    table.add_column(column, justify="right" if column else "left")
  for row in found["rows"]:
    for each in row["programs"]:
      table.add_row(f"{row['rows']:,}", *_cells(each))
  console.print(table)
  console.print(
    "MFU: by the FLOPs of our loss for all; with V: and those of logits of the whole vocabulary, "
    "which big_vision's loss needs."
  )


def _cells(each: dict[str, Any]) -> tuple[str, ...]:
  name = each["name"]
  says = OURS if name == OURS else f"big_vision {VARIANTS[name].says}"
  if "predicted_ms" not in each:
    needed, there = each["hbm_peak_bytes"], each["hbm_capacity_bytes"]
    sizes = f": {needed / _GIB:.2f} of {there / _GIB:.2f} GiB" if needed else ""
    return (f"{says} does not fit{sizes}",)
  vocabulary = each.get("mfu_with_vocabulary")
  return (
    says,
    f"{each['predicted_ms']:,.0f}",
    f"{each['times_ours']:.2f}" if each["times_ours"] else "",
    f"{each['floor_ms']:,.0f}",
    f"{100 * each['mfu']:.1f} %",
    f"{100 * vocabulary:.1f} %" if vocabulary else "",
    f"{each['hbm_peak_bytes'] / _GIB:.2f}",
  )
