"""What the compiler says of a program, as a dict for JSON and as tables for a person."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from vsumjax import sharding
from vsumjax.tpu import hlo
from vsumjax.tpu.links import Links
from vsumjax.tpu.predict import Operation, predict
from vsumjax.tpu.topologies import Topology

_GIB = 1 << 30
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": _GIB}
_NUM_LARGEST = 10
_REPLICATED_BYTES = 1 << 20  # less is no matter


def build_report(
  compiled: jax.stages.Compiled, args: Any, topology: Topology, links: Links, model_flops: float
) -> dict[str, Any]:
  """Memory, predicted time and dearest operations of a compiled program, of one device.

  Args:
    compiled: the program. args: what it is called with, as ShapeDtypeStructs with shardings.
    topology, links: of the slices that it is compiled for.
    model_flops: of the model on all devices; see `tpu.flops`.
  """
  module = hlo.parse(compiled.as_text())
  prediction = predict(module, links)
  memory, chip = compiled.memory_analysis(), topology.chip
  flops = model_flops / len(links.coords)
  seconds = prediction.predicted_s
  return {
    "topology": topology.name,
    "slices": topology.num_slices,
    "devices": len(links.coords),
    "predicted_ms": seconds * 1e3,
    "floor_ms": prediction.floor_s * 1e3,
    "core_ms": prediction.core_s * 1e3,
    "floor_core_ms": prediction.floor_core_s * 1e3,
    "exposed_collective_ms": prediction.exposed_collective_s * 1e3,
    "exposed_copy_ms": prediction.exposed_copy_s * 1e3,
    "mfu": flops / seconds / chip.peak_flops if seconds else 0.0,
    "mfu_at_floor": flops / prediction.floor_s / chip.peak_flops if seconds else 0.0,
    "model_flops_per_device": flops,
    "executed_flops_per_device": prediction.flops,
    **memory_fields(memory, chip.hbm_bytes),
    "collectives": {
      kind: {"count": prediction.collective_counts[kind], "bytes": num_bytes}
      for kind, num_bytes in sorted(prediction.collective_bytes.items())
    },
    "operations": [_operation(each) for each in prediction.operations[:_NUM_LARGEST]],
    "assumed": prediction.assumed,
    "buffers": largest_buffers(module),
    "replicated": replicated(args),
    "versions": {name: importlib.metadata.version(name) for name in ("jax", "libtpu")},
  }


def memory_fields(memory: Any, capacity: int) -> dict[str, Any]:
  """Bytes of a device; arguments that are donated hold results, too, and count once."""
  peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    "hbm_argument_bytes": memory.argument_size_in_bytes,
    "hbm_temp_bytes": memory.temp_size_in_bytes,
    "hbm_peak_bytes": peak,
    "hbm_capacity_bytes": capacity,
    "fits": peak <= capacity,
  }


def exhausted(text: str) -> tuple[int, int] | None:
  """(bytes of a device that a program needs, bytes that there are), of the compiler's error for
  want of memory; None where it does not say."""
  found = re.search(r"([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm", text) or re.search(
    r"\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)", text
  )
  if found is None:
    return None
  needed, unit, there, its_unit = found.groups()
  return int(float(needed) * _UNITS[unit]), int(float(there) * _UNITS[its_unit])


def largest_buffers(module: hlo.Module) -> list[dict[str, Any]]:
  """The largest arrays in HBM that the program makes or is given, not all at one time; in bytes
  that they take up, tiles filled."""
  found: dict[tuple[str, str], int] = {}
  for name, instructions in module.computations.items():
    if name != module.entry and name not in module.bodies:
      continue
    for i in instructions:
      is_input = i.opcode == "parameter"
      if i.opcode in ("get-tuple-element", "tuple", "bitcast", "while") or (
        is_input and name != module.entry
      ):
        continue
      for array in hlo.arrays(i.shape):
        if array.space == 0 and array.dims:
          where = i.op_name if is_input else module.source(i) or i.op_name
          key = (f"{array.dtype}[{','.join(map(str, array.dims))}]", where)
          found[key] = array.padded_bytes
  largest = sorted(found.items(), key=lambda item: -item[1])[:_NUM_LARGEST]
  return [{"array": array, "source": src, "bytes": size} for (array, src), size in largest]


def replicated(args: Any) -> list[dict[str, Any]]:
  """Arguments of a mebibyte and more of which every device holds all."""
  found = []
  for path, leaf in sharding.by_path(args).items():
    placed = getattr(leaf, "sharding", None)
    if placed is None:  # a key of random numbers
      continue
    size = leaf.size * jax.dtypes.itemsize_bits(leaf.dtype) // 8
    is_spread = placed.num_devices == 1 or not placed.is_fully_replicated
    if size >= _REPLICATED_BYTES and not is_spread:
      found.append({"path": path, "bytes": size})
  return found


def _operation(operation: Operation) -> dict[str, Any]:
  return {
    "opcode": operation.opcode,
    "source": operation.source,
    "op_name": operation.op_name,
    "core_ms": operation.core_s * 1e3,
    "floor_ms": operation.floor_s * 1e3,
    "waited_ms": operation.waited_s * 1e3,
    "count": operation.count,
  }


def print_report(report: Mapping[str, Any], console: Console) -> None:
  """Tables of a report; `console` is where they go."""
  gib = {name: report[f"hbm_{name}_bytes"] / _GIB for name in ("argument", "temp", "peak")}
  capacity = report["hbm_capacity_bytes"] / _GIB
  summary = Table(title=f"{report['program']} on {report['topology']}")
  summary.add_column("a device")
  summary.add_column("", justify="right")
  for name, value in (
    ("predicted time of a step", f"{report['predicted_ms']:,.1f} ms"),
    ("… on the core", f"{report['core_ms']:,.1f} ms"),
    ("… waiting for links", f"{report['exposed_collective_ms']:,.1f} ms"),
    ("… waiting for copies", f"{report['exposed_copy_ms']:,.1f} ms"),
    ("at the least, elementwise work at HBM's bandwidth", f"{report['floor_ms']:,.1f} ms"),
    ("FLOPs of the model", f"{report['model_flops_per_device'] / 1e12:,.2f} T"),
    ("… of the program's products", f"{report['executed_flops_per_device'] / 1e12:,.2f} T"),
    ("MFU", f"{100 * report['mfu']:.1f} %"),
    ("… at the least time", f"{100 * report['mfu_at_floor']:.1f} %"),
    ("HBM: arguments", f"{gib['argument']:.2f} GiB"),
    ("HBM: temporaries", f"{gib['temp']:.2f} GiB"),
    ("HBM: peak of capacity", f"{gib['peak']:.2f} of {capacity:.2f} GiB"),
  ):
    summary.add_row(name, value)
  console.print(summary)
  _print_rows(console, "collectives", ("kind", "count", "GiB"), [
    (kind, f"{each['count']:,.0f}", f"{each['bytes'] / _GIB:.2f}")
    for kind, each in report["collectives"].items()
  ])  # fmt: skip
  columns = ("ms", "at least", "waits, ms", "times", "what", "source")
  _print_rows(console, "dearest operations", columns, [
    (f"{o['core_ms']:.1f}", f"{o['floor_ms']:.1f}", f"{o['waited_ms']:.1f}",
     f"{o['count']:,.0f}", _what(o), _short(o))
    for o in report["operations"]
  ])  # fmt: skip
  _print_rows(console, "largest buffers", ("GiB", "array", "source"), [
    (f"{b['bytes'] / _GIB:.2f}", b["array"], _short(b)) for b in report["buffers"]
  ])  # fmt: skip
  if report["assumed"]:
    _print_rows(console, "what had no estimate", ("times", "assumed"), [
      (f"{count:,.0f}", what) for what, count in report["assumed"].items()
    ])  # fmt: skip
  if report["replicated"]:
    _print_rows(console, "replicated on every device", ("MiB", "argument"), [
      (f"{r['bytes'] / (1 << 20):.1f}", r["path"]) for r in report["replicated"]
    ])  # fmt: skip


def _print_rows(
  console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]
) -> None:
  table = Table(title=title)
  for number, column in enumerate(columns):
    is_number = number < len(columns) - 1 and column not in ("kind", "what", "array")
    table.add_column(column, justify="right" if is_number else "left")
  for row in rows:
    table.add_row(*row)
  console.print(table)


def _what(operation: Mapping[str, Any]) -> str:
  """The opcode, and the last of the modules and functions that it comes from."""
  return " ".join([operation["opcode"], "/".join(operation["op_name"].split("/")[-3:])])


def _short(entry: Mapping[str, Any]) -> str:
  """The source, from the package on."""
  source = entry["source"]
  for start in ("/site-packages/", "/vsumjax/"):
    source = source.rsplit(start, 1)[-1]
  return source
