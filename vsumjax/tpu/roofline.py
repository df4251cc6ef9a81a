"""What an instruction needs at the least: FLOPs of its products, bytes from and to HBM.

The compiler's own estimate lies above. For products it is what padding and windows cost. For
elementwise work it is more than a chip is likely to take: about 18 cycles a tile of 8 x 128 for
`2 * x + 1` and 35 for `x + y`, of bf16 as of f32 (libtpu 0.0.42 names no cost model for these,
"COST_MODEL_TYPE_INVALID", and "COST_MODEL_TYPE_CLASSIC" for products), so that a sum of bf16 arrays
in HBM comes out at 0.3 of the bandwidth, where `compiled.cost_analysis()` says 0.9.
"""

from __future__ import annotations

import collections
import functools
import math
import re

import numpy as np

from vsumjax.tpu import hlo

_SLICES = ("dynamic-slice", "slice", "gather")
_NARROW = ("s8", "u8", "s4", "u4", "s2", "u2")  # products of these run at twice the peak


def flops(module: hlo.Module, i: hlo.Instruction, shapes: dict[str, str]) -> float:
  """Of the products in an instruction, as often as they hit data and no padding."""
  if i.opcode == "convolution":
    return _convolution_flops(i, shapes)
  if i.opcode == "dot":
    return _dot_flops(i, shapes)
  if i.opcode != "fusion":
    return 0.0
  inside = module.computations.get(i.attribute("calls") or "", [])
  within = {x.name: x.shape for x in inside}
  return sum(flops(module, x, within) for x in inside)


def _convolution_flops(i: hlo.Instruction, shapes: dict[str, str]) -> float:
  """2 a position of the output, an input feature and a tap of the window that hits data."""
  found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.rest)
  sides = [hlo.arrays(shapes.get(name, "")) for name in i.operands[:2]]
  result = hlo.arrays(i.shape)
  if not found or not all(sides) or not result:
    return 0.0
  of_lhs, of_rhs, of_out = found.groups()
  lhs, rhs, out = sides[0][0], sides[1][0], result[0]
  num_axes = len(of_out) - 2
  windows = _windows(i.rest, num_axes)
  hits = math.prod(
    _hits(lhs.dims[of_lhs.index(str(axis))], out.dims[of_out.index(str(axis))], windows[axis])
    for axis in range(num_axes)
  )
  places = out.dims[of_out.index("b")] * out.dims[of_out.index("f")]
  groups = re.search(r"batch_group_count=(\d+)", i.rest)
  total = 2.0 * places * rhs.dims[of_rhs.index("i")] * hits / int(groups.group(1) if groups else 1)
  return total / 2 if lhs.dtype in _NARROW and rhs.dtype in _NARROW else total


def _windows(rest: str, num_axes: int) -> list[tuple[int, int, int, int, int]]:
  """(size, stride, padding before, dilation of the input, of the window) of each axis."""
  found = re.search(r"window=\{([^}]*)\}", rest)
  told = dict(re.findall(r"(\w+)=(\S+)", found.group(1))) if found else {}

  def of(name: str, default: int) -> list[int]:
    parts = told[name].split("x") if name in told else [default] * num_axes
    return [int(str(part).split("_")[0]) for part in parts]

  return list(
    zip(
      of("size", 1), of("stride", 1), of("pad", 0), of("lhs_dilate", 1), of("rhs_dilate", 1),
      strict=True,
    )
  )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _hits(num_in: int, num_out: int, window: tuple[int, int, int, int, int]) -> int:
  """Pairs of an output and a tap that meet an element of the input.

  The compiler writes the batch of a product as an axis whose window meets one element a place.
  """
  size, stride, pad, dilation, spread = window
  at = np.arange(num_out)[:, None] * stride + np.arange(size) * spread - pad
  return int(((at >= 0) & (at <= (num_in - 1) * dilation) & (at % dilation == 0)).sum())


def _dot_flops(i: hlo.Instruction, shapes: dict[str, str]) -> float:
  found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.rest)
  lhs, result = hlo.arrays(shapes.get(i.operands[0], "")), hlo.arrays(i.shape)
  if not found or not lhs or not result:
    return 0.0
  summed = [lhs[0].dims[int(axis)] for axis in found.group(1).split(",") if axis]
  return 2.0 * math.prod(result[0].dims) * math.prod(summed)


def hbm_bytes(module: hlo.Module, i: hlo.Instruction, shapes: dict[str, str]) -> int:
  """Bytes in HBM that an instruction reads or writes: of an array that it slices or updates in
  place only that part."""
  if i.opcode == "fusion":
    inside = module.computations.get(i.attribute("calls") or "", [])
    if inside:
      return _fusion_bytes(module, i, inside, shapes)
  if i.opcode in ("dynamic-update-slice", "scatter"):
    part = shapes.get(i.operands[1 if i.opcode == "dynamic-update-slice" else 2], "")
    return _in_hbm(part) + (hlo.num_bytes(part) if _in_hbm(i.shape) else 0)
  if i.opcode in _SLICES:
    source = shapes.get(i.operands[0], "")
    return _in_hbm(i.shape) + (hlo.num_bytes(i.shape) if _in_hbm(source) else 0)
  return _in_hbm(i.shape) + sum(_in_hbm(shapes.get(name, "")) for name in i.operands)


def _in_hbm(shape: str) -> int:
  return sum(array.num_bytes for array in hlo.arrays(shape) if array.space == 0)


def _fusion_bytes(
  module: hlo.Module, i: hlo.Instruction, inside: list[hlo.Instruction], shapes: dict[str, str]
) -> int:
  total = 0
  for number, name in enumerate(i.operands):
    size = _in_hbm(shapes.get(name, ""))
    if size:
      total += min(size, _read(module, inside, number, size))
  root = next((x for x in inside if x.is_root), inside[-1])
  by_name = {x.name: x for x in inside}
  parts = [by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
  for part, array in zip(parts, hlo.arrays(i.shape), strict=False):
    if array.space == 0:
      total += min(array.num_bytes, _written(part, by_name, array.num_bytes))
  return total


def _read(module: hlo.Module, inside: list[hlo.Instruction], number: int, size: int) -> int:
  """Bytes of parameter `number` of a fusion that what is inside reads."""
  users = collections.defaultdict(list)
  for x in inside:
    for place, name in enumerate(x.operands):
      users[name].append((place, x))
  parameter = next(
    (x for x in inside if x.opcode == "parameter" and x.operands == (str(number),)), None
  )

  def read(name: str) -> int:
    total = 0
    for place, user in users[name]:
      if user.opcode == "bitcast":
        total += read(user.name)
      elif user.opcode in _SLICES and not place:
        total += hlo.num_bytes(user.shape)
      elif user.opcode in ("dynamic-update-slice", "scatter") and not place:
        continue
      elif user.opcode == "fusion":
        called = module.computations.get(user.attribute("calls") or "", [])
        total += _read(module, called, place, size) if called else size
      else:
        return size
    return min(total, size)

  return read(parameter.name) if parameter else size


def _written(part: hlo.Instruction, by_name: dict[str, hlo.Instruction], size: int) -> int:
  while part.opcode == "bitcast" and part.operands[0] in by_name:
    part = by_name[part.operands[0]]
  place = {"dynamic-update-slice": 1, "scatter": 2}.get(part.opcode)
  update = by_name.get(part.operands[place]) if place else None
  return hlo.num_bytes(update.shape) if update else size
