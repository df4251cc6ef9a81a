"""Clocks of a chip that pass while a compiled program runs in the order of its schedule."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re

import numpy as np

from vsumjax.tpu import core, hlo, loops
from vsumjax.tpu.links import Links, rings_of

_FREE = (
  "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id", "replica-id",
  "after-all", "add-dependency", "opt-barrier", "iota", "get-dimension-size", "domain", "send",
)  # fmt: skip
COLLECTIVES = (
  "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
  "collective-permute", "collective-broadcast",
)  # fmt: skip
BETWEEN_SLICES = "between slices"
_COPIES = ("copy", "slice", "dynamic-slice", "dynamic-update-slice")


@dataclasses.dataclass
class Operation:
  """What one line of the source costs in all its repetitions.

  core_s: on the core; floor_s: of that, what it takes at the least. waited_s: the core stands still
  for it. count: how often it runs.
  """

  opcode: str
  source: str
  op_name: str
  core_s: float = 0.0
  waited_s: float = 0.0
  count: float = 0.0
  floor_s: float = 0.0

  @property
  def seconds(self) -> float:
    return self.core_s + self.waited_s


@dataclasses.dataclass(frozen=True)
class _Pending:
  finish: float
  opcode: str
  start: hlo.Instruction


@dataclasses.dataclass(frozen=True)
class _Transfer:
  """A collective: how long it holds which links, and its bytes."""

  opcode: str
  seconds: float
  held: np.ndarray
  num_bytes: int


class Simulation:
  """Clocks, in seconds, and what adds up. `scale` is how often what happens stands for."""

  def __init__(self, module: hlo.Module, links: Links, cost: core.CostModel):
    self._module, self._links, self._cost = module, links, cost
    self._chip = links.topology.chip
    self._now = 0.0
    self._link_free = np.zeros(links.num_links)
    self._dma_free = 0.0
    self._network_free = 0.0
    self._shapes: dict[str, dict[str, str]] = {}
    self._transfers: dict[tuple[str, str], _Transfer] = {}
    self.core_s = 0.0
    self.flops = 0.0
    self.waited: collections.Counter = collections.Counter()
    self.bytes: collections.Counter = collections.Counter()
    self.counts: collections.Counter = collections.Counter()
    self.assumed: collections.Counter = collections.Counter()
    self.operations: dict[tuple[str, str, str], Operation] = {}

  @property
  def seconds(self) -> float:
    return self.core_s + sum(self.waited.values())

  def run(self, name: str, scale: float) -> None:
    """Simulates a computation, whose asynchronous parts end within it."""
    shapes = self._shapes_of(name)
    pending: dict[str, _Pending] = {}
    for instruction in self._module.computations[name]:
      if instruction.opcode == "while":
        self._loop(instruction, name, scale)
      else:
        self._step(instruction, shapes, pending, scale)

  def _shapes_of(self, name: str) -> dict[str, str]:
    if name not in self._shapes:
      self._shapes[name] = {i.name: i.shape for i in self._module.computations.get(name, [])}
    return self._shapes[name]

  def _step(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    if i.opcode in _FREE:
      return
    if i.opcode == "conditional":
      self._dearest_branch(i, scale)
    elif i.opcode == "call":
      self.run(i.attribute("to_apply") or i.attribute("calls") or "", scale)
    elif i.opcode in COLLECTIVES:
      finish = self._send(self._transfer(i.opcode, i, i, shapes), scale)
      self._wait("link", finish, i, i.opcode, scale)
    elif i.opcode == "recv":
      self._receive(i, pending, scale)
    elif i.opcode.endswith("-start"):
      self._start(i, shapes, pending, scale)
    elif i.opcode.endswith("-done"):
      self._finish(pending.pop(i.operands[0], None), scale)
    elif i.opcode in ("fusion", "custom-call"):
      self._fusion(i, shapes, pending, scale)
    elif not i.opcode.endswith("-update"):
      self._compute(i, shapes, scale)

  def _loop(self, i: hlo.Instruction, outside: str, scale: float) -> None:
    computations = self._module.computations
    trips = loops.trip_count(computations, computations[outside], i)
    if trips is None:
      self.assumed["a loop whose trips are not known: one"] += scale
    elif trips.at_most:
      self.assumed["a loop that may end early: all its trips"] += scale
    count = trips.count if trips else 1
    if count:
      self._turn(i, scale)
    if count > 1:
      before = self._now
      self._turn(i, scale * (count - 1))
      # The other iterations pass as the second did, and all clocks with them.
      more = (count - 2) * (self._now - before)
      self._now += more
      self._link_free += more
      self._dma_free += more
      self._network_free += more

  def _turn(self, i: hlo.Instruction, scale: float) -> None:
    for part in ("condition", "body"):
      self.run(i.attribute(part) or "", scale)

  def _dearest_branch(self, i: hlo.Instruction, scale: float) -> None:
    found = re.search(r"branch_computations=\{([^}]*)\}", i.rest)
    names = (
      re.findall(r"%?([\w.\-]+)", found.group(1))
      if found
      else [i.attribute(f"{which}_computation") or "" for which in ("true", "false")]
    )
    self.run(max(names, key=self._alone_s), scale)

  def _alone_s(self, name: str) -> float:
    alone = Simulation(self._module, self._links, self._cost)
    alone.run(name, 1.0)
    return alone.seconds

  def _start(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    opcode, inner = i.opcode.removesuffix("-start"), i
    if opcode == "async":
      inside = self._module.computations.get(i.attribute("calls") or "", [])
      inner = next((x for x in inside if x.opcode in COLLECTIVES + _COPIES), i)
      opcode = inner.opcode
    if opcode in COLLECTIVES:
      finish = self._send(self._transfer(opcode, inner, i, shapes), scale)
    else:
      finish = self._dma_free = max(self._now, self._dma_free) + core.copy_s(i, self._chip)
    pending[i.name] = _Pending(finish, opcode, i)

  def _finish(self, started: _Pending | None, scale: float) -> None:
    if started:
      clock = "dma" if started.opcode in _COPIES else "link"
      self._wait(clock, started.finish, started.start, started.opcode, scale)

  def _fusion(
    self, i: hlo.Instruction, shapes: dict[str, str], pending: dict[str, _Pending], scale: float
  ) -> None:
    """A collective may be spread over fusions: one starts it, one waits, those between compute."""
    called = i.attribute("calls") or ""
    inside = self._module.computations.get(called, [])
    inner = next((x for x in inside if x.opcode in COLLECTIVES), None)
    if inner is None:
      self._compute(i, shapes, scale)
      return
    targets = [x.target for x in inside if x.opcode == "custom-call"]
    key = f"chain {inner.chain}"
    if "AsyncCollectiveDone" in targets:
      self._finish(pending.pop(key, None), scale)
    elif "AsyncCollectiveStart" in targets:
      transfer = self._transfer(inner.opcode, inner, i, self._shapes_of(called))
      pending[key] = _Pending(self._send(transfer, scale), inner.opcode, inner)
    elif i.cycles or (inner.chain and key in pending):
      self._compute(i, shapes, scale)
    else:
      opcode = "reduce-scatter" if _keeps_a_part(inner, inside) else inner.opcode
      transfer = self._transfer(opcode, inner, i, self._shapes_of(called))
      self._wait("link", self._send(transfer, scale), inner, opcode, scale)

  def _transfer(
    self, opcode: str, inner: hlo.Instruction, outer: hlo.Instruction, shapes: dict[str, str]
  ) -> _Transfer:
    """Of the collective `inner`, which `outer` starts or holds; `shapes` know its operands."""
    key = (outer.name, inner.name)
    if key not in self._transfers:
      num_bytes = _collective_bytes(opcode, inner, shapes)
      if opcode == "collective-permute":
        pairs = hlo.source_target_pairs(inner.rest)
        seconds = self._links.permute_s(num_bytes, pairs)
        held = self._links.held_by_permute(pairs)
      else:
        groups = hlo.replica_groups(inner.rest, len(self._links.coords))
        rings = rings_of(opcode, inner.rest + outer.rest)
        seconds = self._links.collective_s(opcode, num_bytes, groups, rings)
        held = self._links.held_by_groups(groups)
      self._transfers[key] = _Transfer(opcode, seconds, held, num_bytes)
    return self._transfers[key]

  def _send(self, transfer: _Transfer, scale: float) -> float:
    """Holds the links from now on, or from when all of them are free; when it ends."""
    self.bytes[transfer.opcode] += transfer.num_bytes * scale
    self.counts[transfer.opcode] += scale
    start = max(self._now, float(self._link_free[transfer.held].max(initial=0.0)))
    self._link_free[transfer.held] = start + transfer.seconds
    return start + transfer.seconds

  def _receive(self, i: hlo.Instruction, pending: dict[str, _Pending], scale: float) -> None:
    """The part of a collective that goes between slices, which hosts send and receive."""
    told = dict(re.findall(r'_xla_(\w+)="([^"]*)"', i.rest))
    name = told.get("host_transfer_rendezvous", "")
    num_bytes = max(hlo.arrays(i.shape)[0].num_bytes, self._sent.get(name, 0))
    kind = told.get("megascale_transfer_type", "").lower().replace("_", "-")
    slices = re.match(r"\{([\d,]+)\}x", told.get("megascale_target", ""))
    count = len(slices.group(1).split(",")) if slices else self._links.topology.num_slices
    seconds = self._links.between_slices_s(kind, num_bytes, count)
    self._network_free = max(self._now, self._network_free) + seconds
    self.bytes[BETWEEN_SLICES] += num_bytes * scale
    self.counts[BETWEEN_SLICES] += scale
    pending[i.name] = _Pending(self._network_free, BETWEEN_SLICES, i)

  @functools.cached_property
  def _sent(self) -> dict[str, int]:
    """Bytes of what is sent to other slices, by the name that its receiver knows, too."""
    sent = {}
    for instructions in self._module.computations.values():
      for i in instructions:
        found = re.search(r'_xla_host_transfer_rendezvous="([^"]*)"', i.rest)
        if i.opcode == "send" and found:
          sent[found.group(1)] = hlo.arrays(i.shape)[0].num_bytes
    return sent

  def _wait(self, clock: str, until: float, i: hlo.Instruction, opcode: str, scale: float) -> None:
    wait = max(0.0, until - self._now)
    self._now += wait
    self.waited[clock] += wait * scale
    operation = self._record(i, opcode)
    operation.waited_s += wait * scale
    operation.count += scale

  def _compute(self, i: hlo.Instruction, shapes: dict[str, str], scale: float) -> None:
    cost = self._cost(self._module, i, shapes, self._chip)
    self._now += cost.seconds
    self.core_s += cost.seconds * scale
    self.flops += cost.flops * scale
    if cost.assumed:
      self.assumed[cost.assumed] += scale
    operation = self._record(i, i.opcode)
    operation.core_s += cost.seconds * scale
    operation.count += scale

  def _record(self, i: hlo.Instruction, opcode: str) -> Operation:
    key = (opcode, self._module.source(i), i.op_name)
    return self.operations.setdefault(key, Operation(*key))


def _keeps_a_part(inner: hlo.Instruction, inside: list[hlo.Instruction]) -> bool:
  """Whether a fusion of an all-reduce is a reduce-scatter: only a slice of the sum goes on."""
  users = [x for x in inside if inner.name in x.operands]
  return (
    inner.opcode == "all-reduce" and bool(users) and all(x.opcode == "dynamic-slice" for x in users)
  )


def _collective_bytes(opcode: str, inner: hlo.Instruction, shapes: dict[str, str]) -> int:
  """Of the gathered result, or of the operands that are reduced, exchanged or sent."""
  operands = sum(hlo.num_bytes(shapes.get(name, "")) for name in inner.operands)
  if opcode != "all-gather":
    return operands
  if inner.opcode == "all-gather":
    return hlo.num_bytes(inner.shape)
  return max(0, hlo.num_bytes(inner.shape) - operands)
