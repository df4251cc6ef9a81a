"""How long the core, or the DMA beside it, takes for one instruction of a compiled program."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable

from vsumjax.tpu import hlo, roofline
from vsumjax.tpu.topologies import Chip

KERNEL = "tpu_custom_call"
# Custom calls that place or name a buffer and run nothing.
_NOTHING = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "Sharding")


@dataclasses.dataclass(frozen=True)
class Cost:
  """seconds: of the core. flops: of products, where these were counted. assumed: what had to be
  assumed for want of an estimate, or ""."""

  seconds: float
  flops: float = 0.0
  assumed: str = ""


CostModel = Callable[[hlo.Module, hlo.Instruction, dict[str, str], Chip], Cost]


def estimated(module: hlo.Module, i: hlo.Instruction, shapes: dict[str, str], chip: Chip) -> Cost:
  """By the cycles that the compiler estimates; by the bytes in HBM where it estimates none."""
  if i.opcode == "custom-call":
    return _custom_call(module, i, shapes, chip)
  if i.cycles is not None:
    return Cost(i.cycles / chip.clock_hz)
  moved = roofline.hbm_bytes(module, i, shapes) / chip.hbm_bandwidth
  return Cost(moved, assumed=_many_passes(module, i))


def _many_passes(module: hlo.Module, i: hlo.Instruction) -> str:
  """What to say of an instruction that is dearer than its bytes, and has no estimate."""
  inside = module.computations.get(i.attribute("calls") or "", []) if i.opcode == "fusion" else [i]
  found = next((x.opcode for x in inside if x.opcode in ("sort", "scatter")), "")
  return f"{found}: its bytes in HBM, once" if found else ""


def at_least(module: hlo.Module, i: hlo.Instruction, shapes: dict[str, str], chip: Chip) -> Cost:
  """Products by the cycles that the compiler estimates, all else by the bytes in HBM.

  The estimates of products come within a quarter of their FLOPs at the peak; those of elementwise
  work are 3 to 5 times what its bytes take (see `tpu.roofline`). What stays in VMEM costs nothing.
  """
  if i.opcode == "custom-call":
    return _custom_call(module, i, shapes, chip)
  flops = roofline.flops(module, i, shapes)
  if flops and i.cycles is not None:
    return Cost(i.cycles / chip.clock_hz, flops)
  moved = roofline.hbm_bytes(module, i, shapes)
  return Cost(max(flops / chip.peak_flops, moved / chip.hbm_bandwidth), flops)


def _custom_call(
  module: hlo.Module, i: hlo.Instruction, shapes: dict[str, str], chip: Chip
) -> Cost:
  """A Pallas kernel takes the roofline of its own estimate, which stands in its configuration."""
  if i.target in _NOTHING:
    return Cost(0.0)
  moved = roofline.hbm_bytes(module, i, shapes) / chip.hbm_bandwidth
  if i.target != KERNEL:
    return Cost(moved, assumed=f"{i.target}: its bytes in HBM")
  found = re.search(r'"cost_estimate":(\{[^}]*\})', i.rest)
  if not found:
    return Cost(moved, assumed="a kernel without a cost estimate: its bytes in HBM")
  told = json.loads(found.group(1))
  flops, num_bytes = (float(told.get(name, 0)) for name in ("flops", "bytes_accessed"))
  return Cost(max(flops / chip.peak_flops, num_bytes / chip.hbm_bandwidth), flops)


def copy_s(i: hlo.Instruction, chip: Chip) -> float:
  """Seconds of DMA for a copy or slice: its bytes by the bandwidth of HBM, twice within HBM."""
  moved = [array for array in hlo.arrays(i.shape) if array.dims]
  if not moved:
    return 0.0
  num_bytes = min(array.padded_bytes for array in moved)
  in_hbm = sum(array.space == 0 for array in moved[:2])
  return num_bytes * max(1, in_hbm) / chip.hbm_bandwidth
