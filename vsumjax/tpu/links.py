"""How long a collective holds the links between the chips of a slice.

Bandwidth terms are those of rings over the axes of a torus ("How to scale your model", chapter 3):
over each axis that a group spans, bytes come in by two links where it closes to a ring, and by one
at the ends of a line. A microsecond is added for every hop.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from vsumjax.tpu.topologies import Topology

HOP_S = 1e-6
_WITHIN_CHIP = 1e12  # bytes/s between the two cores of a v4 chip, which share its memory

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

  def collective_s(self, kind: str, num_bytes: int, groups: np.ndarray) -> float:
    """Seconds of one collective.

    Args:
      kind: an opcode, as "all-gather".
      num_bytes: of the whole array on one device: gathered, or before it is reduced or exchanged.
      groups: i[groups, members], numbers of devices.
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
    seconds = times * num_bytes * (within - 1) / within / self._bandwidth(members)
    if slices > 1:
      share = num_bytes / within
      seconds += times * share * (slices - 1) / slices / self.topology.chip.dcn_bandwidth
    return seconds + HOP_S * self._hops(members)

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

  def _bandwidth(self, members: np.ndarray) -> float:
    links = sum(2 if ring else 1 for _, _, ring in self._axes(members))
    return links * self.topology.chip.link_bandwidth if links else _WITHIN_CHIP

  def _hops(self, members: np.ndarray) -> int:
    return sum(places // 2 if ring else places - 1 for _, places, ring in self._axes(members))

  def _exchange_s(self, num_bytes: int, members: np.ndarray, slices: int) -> float:
    """Every device sends a part to every other: bytes times the mean hops over all links."""
    axes = self._axes(members)
    if slices > 1:
      return num_bytes * (slices - 1) / slices / self.topology.chip.dcn_bandwidth
    if not axes:
      return num_bytes / _WITHIN_CHIP
    hops = sum(places / (4 if ring else 3) for _, places, ring in axes)
    links = sum(2 if ring else 2 * (places - 1) / places for _, places, ring in axes)
    bandwidth = links * self.topology.chip.link_bandwidth
    return num_bytes * hops / bandwidth + HOP_S * self._hops(members)

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
        path.append((tuple(at), axis, step))
        at[axis + 1] = (at[axis + 1] + step) % size
    return path


def coords_of(devices: Sequence[object]) -> list[tuple[int, ...]]:
  """(slice, x, y, ...) of JAX's devices."""
  return [(getattr(d, "slice_index", 0) or 0, *d.coords) for d in devices]
