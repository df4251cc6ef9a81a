"""TPU chips and slices: what the compiler is asked to compile for, and how fast it is.

Peaks, bandwidths and links are the vendor's (cloud.google.com/tpu/docs, "System architecture");
clocks are such that `estimated_cycles` of a large bf16 product comes to the peak, and HBM is what
the compiler says is available when a program does not fit. tests/tpu/test_estimates.py checks
both against libtpu.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import logging
import math
import os
import re
from typing import Any

from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device as JAX sees it, which is a chip: the two cores of v4 and v5p run as one.

  peak_flops: of bf16 products, FLOP/s.
  clock_hz: of the core, whose cycles the compiler estimates.
  hbm_bytes: what a program may use. hbm_bandwidth: bytes/s.
  link_bandwidth: bytes/s of one link between chips in one direction.
  axes: of the torus, two links each.
  dcn_bandwidth: bytes/s between slices, one direction.
  """

  name: str
  peak_flops: float
  clock_hz: float
  hbm_bytes: int
  hbm_bandwidth: float
  link_bandwidth: float
  axes: int
  dcn_bandwidth: float


_GIB = 1 << 30
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v4", 275e12, 1.05e9, int(30.75 * _GIB), 1228e9, 4.5e10, 3, 3.125e9),
    Chip("v5e", 197e12, 1.5e9, int(15.75 * _GIB), 819e9, 4.5e10, 2, 3.125e9),
    Chip("v5p", 459e12, 1.75e9, int(95.74 * _GIB), 2765e9, 9e10, 3, 6.25e9),
    Chip("v6e", 918e12, 1.75e9, int(31.25 * _GIB), 1640e9, 9e10, 2, 12.5e9),
  )
}

# Slices that are sold, and that libtpu knows.
SLICES = {
  "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
  "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
  "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
  "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """`num_slices` slices of `shape` chips each, joined by the data centre's network."""

  chip: Chip
  shape: tuple[int, ...]
  num_slices: int = 1

  @property
  def name(self) -> str:
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  def wraps(self, axis: int) -> bool:
    """Whether the links of a torus axis close to a ring.

    Of v5e and v6e a whole axis of 16 does, of v4 and v5p every axis of whole cubes of 4.
    """
    if self.chip.axes == 2:
      return self.shape[axis] == 16
    return all(size % 4 == 0 for size in self.shape)


def parse(name: str, num_slices: int = 1) -> Topology:
  """Example: parse("v5e:4x4") is 16 chips of v5e.

  Raises:
    InputError: for a chip or slice that is not known, with the nearest ones.
  """
  if num_slices < 1:
    raise InputError(f"--slices: {num_slices} must be 1 or more")
  known = [f"{chip}:{size}" for chip, sizes in SLICES.items() for size in sizes]
  if name not in known:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    chip = name.split(":")[0]
    of_chip = [each for each in known if each.startswith(f"{chip}:")]
    raise InputError(
      f"--topology: {name!r} is not known{f'; did you mean {near[0]}?' if near else ''}; "
      f"there are {', '.join(of_chip or known)}"
    )
  chip, size = name.split(":")
  return Topology(CHIPS[chip], tuple(map(int, size.split("x"))), num_slices)


def get_devices(topology: Topology) -> list[Any]:
  """The devices of a slice for the compiler; no TPU is needed.

  Raises:
    InputError: without libtpu.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise InputError(
      "libtpu, which compiles for a TPU, is not installed; pip install 'vsumjax[tpu]'"
    )
  # Without these libtpu asks a metadata server who it is, and logs that none answers.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
  # It lets one process at a time at a TPU; several may compile.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  from jax.experimental import topologies

  wanted: dict[str, Any] = {}
  if topology.num_slices > 1:
    wanted["num_slices"] = topology.num_slices
  if topology.chip.name == "v4":
    # Left alone libtpu describes each core of a v4 chip; JAX on a v4 has one device a chip.
    wanted["chip_config_name"] = "megacore"
  try:
    found = topologies.get_topology_desc(topology.name, "tpu", **wanted)
  except Exception as error:  # libtpu raises a RuntimeError, or XlaRuntimeError of its own
    reason = re.sub(r"\s+", " ", str(error))[:200]
    message = f"--topology: libtpu does not compile for {topology.name}: {reason}"
    raise InputError(message) from error
  return list(found.devices)


def num_devices(topology: Topology) -> int:
  """Devices of all slices."""
  return math.prod(topology.shape) * topology.num_slices
