"""The time of a compiled TPU program, from its schedule and the compiler's own estimates.

Instructions run one after the other on the core, each for the cycles that the compiler estimates.
Links, DMA and the network between slices have clocks of their own: what was started waits for
nothing until somebody waits for it. A loop takes its first iteration once and the second, which has
what the first left under way, as often as it runs besides.

A prediction has a floor beside it: the same simulation with products as before and all else at the
bandwidth of HBM. What the compiler estimates for elementwise work is 3 to 5 times that (see
`tpu.roofline`), so the time of a step lies between both, and of two programs the one with fewer
elementwise passes may look better than it is.

Not seen: the host, and anything it feeds; contention for HBM between core, DMA and links; cycles of
instructions that the compiler estimates nothing for (they are taken to move their HBM bytes at the
full bandwidth, sorts and scatters too); what a Pallas kernel takes beyond the roofline of its own
cost estimate; that a collective spread over fusions may stand still beside any others; stragglers,
and the start of a program.
"""

from __future__ import annotations

import dataclasses

from vsumjax.tpu import core, hlo
from vsumjax.tpu.links import Links
from vsumjax.tpu.simulate import Operation, Simulation
from vsumjax.tpu.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Of one run of the program on one device.

  predicted_s: core_s and what it waits: exposed_collective_s for links, exposed_copy_s for DMA.
  collective_bytes, collective_counts: by opcode, of the arrays as `Links.collective_s` counts them.
  operations: dearest first.
  floor_s: predicted_s if all but products took what their bytes in HBM take; floor_core_s: core_s
    of that.
  flops: of products, as executed, recomputation and all.
  assumed: how often something had to be assumed for want of an estimate, by what it was.
  """

  predicted_s: float
  core_s: float
  exposed_collective_s: float
  exposed_copy_s: float
  collective_bytes: dict[str, float]
  collective_counts: dict[str, float]
  operations: list[Operation]
  floor_s: float = 0.0
  floor_core_s: float = 0.0
  flops: float = 0.0
  assumed: dict[str, float] = dataclasses.field(default_factory=dict)


def predict(module: hlo.Module, links: Links) -> Prediction:
  """Simulates a module that was compiled for `links.topology`."""
  simulation = Simulation(module, links, core.estimated)
  simulation.run(module.entry, 1.0)
  floor = Simulation(module, links, core.at_least)
  floor.run(module.entry, 1.0)
  for key, operation in simulation.operations.items():
    operation.floor_s = floor.operations[key].core_s
  operations = sorted(simulation.operations.values(), key=lambda o: o.seconds, reverse=True)
  return Prediction(
    predicted_s=simulation.seconds,
    core_s=simulation.core_s,
    exposed_collective_s=simulation.waited["link"],
    exposed_copy_s=simulation.waited["dma"],
    collective_bytes=dict(simulation.bytes),
    collective_counts=dict(simulation.counts),
    operations=operations,
    floor_s=floor.seconds,
    floor_core_s=floor.core_s,
    flops=floor.flops,
    assumed=dict(simulation.assumed),
  )


def predict_text(text: str, topology: Topology) -> Prediction:
  """`predict` of `compiled.as_text()`, for a mesh of one axis over all devices of a slice.

  Raises:
    ValueError: if it is not the text of a module. InputError: without libtpu.
  """
  return predict(hlo.parse(text), Links.of(topology))
