"""The time of a compiled TPU program, from its schedule and the compiler's own estimates.

Instructions run one after the other on the core, each for the cycles that the compiler estimates.
Links and DMA have clocks of their own: what was started waits for nothing until somebody waits for
it. A loop takes its first iteration once and the second, which has what the first left under way,
as often as it runs besides.

Not seen: the host, and anything it feeds; contention for HBM between core, DMA and links; cycles of
instructions that the compiler estimates nothing for (they are taken to move their HBM bytes at the
full bandwidth, sorts and scatters too); what a Pallas kernel takes beyond the roofline of its own
cost estimate; stragglers, and the start of a program.
"""

from __future__ import annotations

import collections
import dataclasses
import re

from vsumjax.tpu import hlo
from vsumjax.tpu.links import Links

_FREE = (
  "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id", "replica-id",
  "after-all", "add-dependency", "opt-barrier", "iota", "get-dimension-size", "domain",
)  # fmt: skip
COLLECTIVES = (
  "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
  "collective-permute", "collective-broadcast",
)  # fmt: skip
_COPIES = ("copy", "slice", "dynamic-slice", "dynamic-update-slice")
_LANES = 2  # directions of a ring, which permutes use one at a time


@dataclasses.dataclass
class Operation:
  """What one line of the source costs in all its repetitions.

  core_s: on the core. waited_s: the core stands still for it. count: how often it runs.
  """

  opcode: str
  source: str
  op_name: str
  core_s: float = 0.0
  waited_s: float = 0.0
  count: float = 0.0

  @property
  def seconds(self) -> float:
    return self.core_s + self.waited_s


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Of one run of the program on one device.

  predicted_s: core_s and what it waits: exposed_collective_s for links, exposed_copy_s for DMA.
  collective_bytes, collective_counts: by opcode, of the arrays as `Links.collective_s` counts them.
  operations: dearest first.
  """

  predicted_s: float
  core_s: float
  exposed_collective_s: float
  exposed_copy_s: float
  collective_bytes: dict[str, float]
  collective_counts: dict[str, float]
  operations: list[Operation]


@dataclasses.dataclass
class _Pending:
  finish: float
  opcode: str
  start: hlo.Instruction


def predict(module: hlo.Module, links: Links) -> Prediction:
  """Simulates a module that was compiled for `links.topology`."""
  simulation = _Simulation(module, links)
  simulation.run(module.entry, 1.0)
  operations = sorted(simulation.operations.values(), key=lambda o: o.seconds, reverse=True)
  waited = simulation.waited
  return Prediction(
    predicted_s=simulation.core_s + sum(waited.values()),
    core_s=simulation.core_s,
    exposed_collective_s=waited["link"],
    exposed_copy_s=waited["dma"],
    collective_bytes=dict(simulation.bytes),
    collective_counts=dict(simulation.counts),
    operations=operations,
  )


class _Simulation:
  """Clocks, in seconds, and what adds up. `scale` is how often what happens stands for."""

  def __init__(self, module: hlo.Module, links: Links):
    self._module, self._links = module, links
    self._chip = links.topology.chip
    self._now = 0.0
    self._lanes = [0.0] * _LANES
    self._dma = 0.0
    self.core_s = 0.0
    self.waited: collections.Counter = collections.Counter()
    self.bytes: collections.Counter = collections.Counter()
    self.counts: collections.Counter = collections.Counter()
    self.operations: dict[tuple[str, str, str], Operation] = {}

  def run(self, name: str, scale: float) -> None:
    """Simulates a computation, whose asynchronous parts end within it."""
    instructions = self._module.computations[name]
    shapes = {instruction.name: instruction.shape for instruction in instructions}
    pending: dict[str, _Pending] = {}
    for instruction in instructions:
      self._step(instruction, shapes, pending, scale)

  def _step(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    if i.opcode in _FREE:
      return
    if i.opcode == "while":
      self._loop(i, scale)
    elif i.opcode == "conditional":
      self._dearest_branch(i, scale)
    elif i.opcode == "call":
      self.run(i.attribute("to_apply") or i.attribute("calls") or "", scale)
    elif i.opcode in COLLECTIVES:
      finish = self._occupy_links(i.opcode, i, i, shapes, scale)
      self._wait("link", finish, i, i.opcode, scale)
    elif i.opcode.endswith("-start"):
      self._start(i, shapes, pending, scale)
    elif i.opcode.endswith("-done"):
      self._finish(pending.pop(i.operands[0], None), scale)
    elif i.opcode in ("fusion", "custom-call"):
      self._fusion(i, shapes, pending, scale)
    elif not i.opcode.endswith("-update"):
      self._compute(i, self._core_s(i, shapes), scale)

  def _loop(self, i: hlo.Instruction, scale: float) -> None:
    body, trips = i.attribute("body") or "", self._module.trip_count(i)
    if trips:
      self.run(body, scale)
    if trips > 1:
      before = self._now
      self.run(body, scale * (trips - 1))
      # The other iterations pass as the second did, and links and DMA with them.
      more = (trips - 2) * (self._now - before)
      self._now += more
      self._lanes = [lane + more for lane in self._lanes]
      self._dma += more

  def _dearest_branch(self, i: hlo.Instruction, scale: float) -> None:
    found = re.search(r"branch_computations=\{([^}]*)\}", i.rest)
    names = (
      re.findall(r"%?([\w.\-]+)", found.group(1))
      if found
      else [i.attribute(f"{which}_computation") or "" for which in ("true", "false")]
    )
    self.run(max(names, key=self._alone_s), scale)

  def _alone_s(self, name: str) -> float:
    alone = _Simulation(self._module, self._links)
    alone.run(name, 1.0)
    return alone.core_s + sum(alone.waited.values())

  def _start(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    opcode, inner = i.opcode.removesuffix("-start"), i
    if opcode == "async":
      inside = self._module.computations.get(i.attribute("calls") or "", [])
      inner = next((x for x in inside if x.opcode in COLLECTIVES + _COPIES), i)
      opcode = inner.opcode
    if opcode in COLLECTIVES:
      finish = self._occupy_links(opcode, inner, i, shapes, scale)
    else:
      finish = self._dma = max(self._now, self._dma) + self._copy_s(i, shapes)
    pending[i.name] = _Pending(finish, opcode, i)

  def _finish(self, started: _Pending | None, scale: float) -> None:
    if started:
      clock = "link" if started.opcode in COLLECTIVES else "dma"
      self._wait(clock, started.finish, started.start, started.opcode, scale)

  def _fusion(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    """A collective may be spread over fusions: one starts it, one waits, those between compute."""
    inside = self._module.computations.get(i.attribute("calls") or "", [])
    role = next((r for x in inside if (r := _async_role(x))), "")
    inner = next((x for x in inside if x.opcode in COLLECTIVES), None)
    if role and inner:
      key = f"chain {inner.chain}"
      if role == "start":
        within = {x.name: x.shape for x in inside}
        finish = self._occupy_links(inner.opcode, inner, inner, within, scale)
        pending[key] = _Pending(finish, inner.opcode, inner)
      else:
        self._finish(pending.pop(key, None), scale)
      return
    if inner and not i.cycles and not (inner.chain and f"chain {inner.chain}" in pending):
      within = {x.name: x.shape for x in inside}
      finish = self._occupy_links(inner.opcode, inner, inner, within, scale)
      self._wait("link", finish, inner, inner.opcode, scale)
      return
    self._compute(i, self._core_s(i, shapes), scale)

  def _occupy_links(
    self,
    opcode: str,
    inner: hlo.Instruction,
    outer: hlo.Instruction,
    shapes: dict[str, str],
    scale: float,
  ) -> float:
    """Holds the links for a collective from now on, or from when they are free; when it ends."""
    num_bytes = _collective_bytes(opcode, inner, outer, shapes)
    self.bytes[opcode] += num_bytes * scale
    self.counts[opcode] += scale
    if opcode == "collective-permute":
      lane = min(range(_LANES), key=self._lanes.__getitem__)
      seconds = self._links.permute_s(num_bytes, hlo.source_target_pairs(inner.rest))
      self._lanes[lane] = max(self._now, self._lanes[lane]) + seconds
      return self._lanes[lane]
    groups = hlo.replica_groups(inner.rest, len(self._links.coords))
    seconds = self._links.collective_s(opcode, num_bytes, groups)
    finish = max(self._now, *self._lanes) + seconds
    self._lanes = [finish] * _LANES
    return finish

  def _wait(self, clock: str, until: float, i: hlo.Instruction, opcode: str, scale: float) -> None:
    wait = max(0.0, until - self._now)
    self._now += wait
    self.waited[clock] += wait * scale
    self._record(i, opcode).waited_s += wait * scale
    self._record(i, opcode).count += scale

  def _compute(self, i: hlo.Instruction, seconds: float, scale: float) -> None:
    self._now += seconds
    self.core_s += seconds * scale
    operation = self._record(i, i.opcode)
    operation.core_s += seconds * scale
    operation.count += scale

  def _record(self, i: hlo.Instruction, opcode: str) -> Operation:
    key = (opcode, self._module.source(i), i.op_name)
    return self.operations.setdefault(key, Operation(*key))

  def _core_s(self, i: hlo.Instruction, shapes: dict[str, str]) -> float:
    if i.opcode == "custom-call":
      return self._custom_call_s(i)
    if i.cycles is not None:
      return i.cycles / self._chip.clock_hz
    return _hbm_bytes(i, shapes) / self._chip.hbm_bandwidth

  def _custom_call_s(self, i: hlo.Instruction) -> float:
    """The roofline of a Pallas kernel's own estimate; other custom calls cost nothing."""
    if 'custom_call_target="tpu_custom_call"' not in i.rest:
      return 0.0
    found = re.search(r'"cost_estimate":\{([^}]*)\}', i.rest)
    told = dict(re.findall(r'"(\w+)":"?(\d+)', found.group(1))) if found else {}
    flops, moved = (float(told.get(name, 0)) for name in ("flops", "bytes_accessed"))
    return max(flops / self._chip.peak_flops, moved / self._chip.hbm_bandwidth)

  def _copy_s(self, i: hlo.Instruction, shapes: dict[str, str]) -> float:
    """Bytes of what is copied, at the bandwidth of HBM, twice from HBM to HBM."""
    moved = [array for array in hlo.arrays(i.shape) if array.dims]
    if not moved:
      return 0.0
    num_bytes = min(array.num_bytes for array in moved)
    in_hbm = sum(array.space == 0 for array in moved[:2])
    return num_bytes * max(1, in_hbm) / self._chip.hbm_bandwidth


def _async_role(i: hlo.Instruction) -> str:
  if i.opcode != "custom-call":
    return ""
  found = re.search(r'custom_call_target="AsyncCollective(Start|Done)"', i.rest)
  return found.group(1).lower() if found else ""


def _collective_bytes(
  opcode: str, inner: hlo.Instruction, outer: hlo.Instruction, shapes: dict[str, str]
) -> int:
  """Of the gathered result, or of the operands that are reduced, exchanged or sent."""
  operands = sum(hlo.num_bytes(shapes.get(name, "")) for name in outer.operands)
  if opcode != "all-gather":
    return operands
  if inner.opcode == "all-gather":
    return hlo.num_bytes(inner.shape)
  return max(0, hlo.num_bytes(inner.shape) - operands)


def _hbm_bytes(i: hlo.Instruction, shapes: dict[str, str]) -> int:
  """What lies in HBM of result and operands."""
  texts = [i.shape, *(shapes.get(name, "") for name in i.operands)]
  return sum(array.num_bytes for text in texts for array in hlo.arrays(text) if array.space == 0)
