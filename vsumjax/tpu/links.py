"""How long a collective holds the links between the chips of a slice.

Bandwidth terms are those of rings over the axes of a torus ("How to scale your model", chapter 3):
over each axis that a group spans, bytes come in by two links where it closes to a ring, and by one
at the ends of a line. Where the compiler goes around one ring of all members ("1DAllGather...",
"StrategyRing") bytes come in by its two links only. A microsecond is added for every hop.

Not seen: rings that the compiler lays across others' links, and detours around a missing link.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import numpy as np

from vsumjax.tpu.topologies import Topology, get_devices

HOP_S = 1e-6

# What of its bytes each device receives: as often as it comes to it.
_RECEIVED = {
  "all-gather": 1.0,
  "collective-broadcast": 1.0,
  "all-reduce": 2.0,
  "reduce-scatter": 1.0,
}


@dataclasses.dataclass(frozen=True)
class Links:
  """coords: of each device of the program, in its order: (slice, x, y, ...)."""

  topology: Topology
  coords: Sequence[tuple[int, ...]]

  @classmethod
  def of(cls, topology: Topology) -> Links:
    """For a program on a mesh of one axis, in the order in which JAX makes it.

    Raises:
      InputError: without libtpu, which knows the order.
    """
    import jax

    devices = get_devices(topology)
    if topology.num_slices == 1:
      devices = list(jax.make_mesh((len(devices),), ("x",), devices=devices).devices.flat)
    return cls(topology, coords_of(devices))

  def collective_s(
    self, kind: str, num_bytes: int, groups: np.ndarray, rings: int | None = None
  ) -> float:
    """Seconds of one collective.

    Args:
      kind: an opcode, as "all-gather".
      num_bytes: of the whole array on one device: gathered, or before it is reduced or exchanged.
      groups: i[groups, members], numbers of devices.
      rings: how many the compiler uses at a time, of two links each; None for one an axis.
    """
    size = groups.shape[1]
    if size == 1 or not num_bytes:
      return 0.0
    members = np.array([self.coords[number] for number in groups[0]])
    slices = len(np.unique(members[:, 0]))
    within = size // slices
    if kind in ("all-to-all", "ragged-all-to-all"):
      return self._exchange_s(num_bytes, members, slices)
    times = _RECEIVED[kind]
    seconds = HOP_S * self._hops(members)
    if within > 1:
      seconds += times * num_bytes * (within - 1) / within / self._bandwidth(members, rings)
    if slices > 1:
      seconds += self.between_slices_s(kind, num_bytes / within, slices)
    return seconds

  def between_slices_s(self, kind: str, num_bytes: float, slices: int) -> float:
    """Seconds of a device's part of a collective over the data centre's network."""
    times = _RECEIVED.get(kind, 1.0)
    return times * num_bytes * (slices - 1) / slices / self.topology.chip.dcn_bandwidth

  def permute_s(self, num_bytes: int, pairs: Sequence[tuple[int, int]]) -> float:
    """Seconds of a collective-permute: its bytes by the link that most of its pairs share."""
    load: collections.Counter = collections.Counter()
    most_hops, between_slices = 0, False
    for source, target in pairs:
      path = self._route(self.coords[source], self.coords[target])
      if path is None:
        between_slices = True
        continue
      load.update(path)
      most_hops = max(most_hops, len(path))
    chip = self.topology.chip
    seconds = num_bytes * max(load.values(), default=0) / chip.link_bandwidth + HOP_S * most_hops
    return max(seconds, num_bytes / chip.dcn_bandwidth) if between_slices else seconds

  def _axes(self, members: np.ndarray) -> list[tuple[int, int, bool]]:
    """(axis, places of the group along it, whether these close to a ring) of those it spans."""
    spanned = []
    for axis, size in enumerate(self.topology.shape):
      places = len(np.unique(members[:, axis + 1]))
      if places > 1:
        spanned.append((axis, places, places == size and self.topology.wraps(axis)))
    return spanned

  def _bandwidth(self, members: np.ndarray, rings: int | None) -> float:
    links = sum(2 if ring else 1 for _, _, ring in self._axes(members))
    return min(links, 2 * rings if rings else links) * self.topology.chip.link_bandwidth

  def _hops(self, members: np.ndarray) -> int:
    return sum(places // 2 if ring else places - 1 for _, places, ring in self._axes(members))

  def _exchange_s(self, num_bytes: int, members: np.ndarray, slices: int) -> float:
    """Every device sends a part to every other: what crosses the middle of its longest axis."""
    axes = self._axes(members)
    if slices > 1:
      return num_bytes * (slices - 1) / slices / self.topology.chip.dcn_bandwidth
    # Of a line of n, n² / 4 pairs of its halves meet at the link in the middle; of a ring, at two.
    most = max((places**2 // 4) / places / (2 if ring else 1) for _, places, ring in axes)
    return num_bytes * most / self.topology.chip.link_bandwidth + HOP_S * self._hops(members)

  def _route(
    self, source: tuple[int, ...], target: tuple[int, ...]
  ) -> list[tuple[tuple[int, ...], int, int]] | None:
    """Links on the way, one axis after the other; None between slices."""
    if source[0] != target[0]:
      return None
    at, path = list(source), []
    for axis, size in enumerate(self.topology.shape):
      distance = target[axis + 1] - at[axis + 1]
      if self.topology.wraps(axis) and abs(distance) > size / 2:
        distance -= size if distance > 0 else -size
      step = 1 if distance > 0 else -1
      for _ in range(abs(distance)):
        path.append((tuple(at[: len(self.topology.shape) + 1]), axis, step))
        at[axis + 1] = (at[axis + 1] + step) % size
    return path

  @functools.cached_property
  def _shape(self) -> tuple[int, ...]:
    """Of an array with a place for every link: slice, x, y, ..., axis, direction."""
    axes = len(self.topology.shape)
    return (self.topology.num_slices, *self.topology.shape, axes, 2)

  @property
  def num_links(self) -> int:
    return math.prod(self._shape)

  def held_by_permute(self, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Numbers of the links that a collective-permute goes over."""
    used = {
      (*place, axis, int(step > 0))
      for source, target in pairs
      for place, axis, step in self._route(self.coords[source], self.coords[target]) or []
    }
    return np.array(
      [np.ravel_multi_index(link, self._shape) for link in sorted(used)], dtype=np.int64
    )

  def held_by_groups(self, groups: np.ndarray) -> np.ndarray:
    """Numbers of the links along all axes that a collective's groups span."""
    members = np.array([self.coords[number] for number in groups[0]])
    numbers = np.arange(self.num_links).reshape(self._shape)
    axes = [axis for axis, _, _ in self._axes(members)]
    return numbers[..., axes, :].reshape(-1)


def rings_of(kind: str, rest: str) -> int | None:
  """How many rings the compiler says that a collective uses; None for one an axis.

  `rest` is the text behind an instruction's operands. An all-gather whose emitter is not told goes
  around one ring: that is what was seen of all on v5e, v5p and v6e, whatever the axes.
  """
  if re.search(r'"strategy":"(?:StrategyRing|UniDirection1DRingStrategy)"', rest):
    return 1
  found = re.search(r'"emitter":"(\d)D', rest)
  if found:
    return int(found.group(1))
  return 1 if kind == "all-gather" else None


def coords_of(devices: Sequence[object]) -> list[tuple[int, ...]]:
  """(slice, x, y, ...) of JAX's devices."""
  return [(getattr(d, "slice_index", 0) or 0, *d.coords) for d in devices]
