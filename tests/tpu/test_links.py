"""How long collectives hold which links, beside sums by hand; a link of v5e carries 45 GB/s."""

import numpy as np
import pytest

from vsumjax.tpu import topologies
from vsumjax.tpu.links import HOP_S, Links, rings_of

LINK = 4.5e10
NUM_BYTES = 160_000_000


def grid(name, num_slices=1):
  """Devices of a slice in the order of their coordinates, the first axis fastest."""
  topology = topologies.parse(name, num_slices)
  places = np.ndindex(topology.shape[::-1])
  within = [place[::-1] for place in places]
  return Links(topology, [(number, *place) for number in range(num_slices) for place in within])


def seconds(links, kind, groups, rings=None):
  """Without the time for hops."""
  found = links.collective_s(kind, NUM_BYTES, np.array(groups), rings)
  hops = links._hops(np.array([links.coords[n] for n in groups[0]]))
  return found - HOP_S * hops


def test_a_group_over_a_whole_slice_takes_its_bytes_by_a_link_of_each_axis():
  links = grid("v5e:4x4")
  assert seconds(links, "all-gather", [range(16)]) == pytest.approx(NUM_BYTES * 15 / 16 / LINK / 2)
  assert seconds(links, "all-reduce", [range(16)]) == pytest.approx(NUM_BYTES * 15 / 16 / LINK)


def test_a_group_along_one_axis_has_one_link_at_its_ends():
  found = seconds(grid("v5e:4x4"), "reduce-scatter", [range(4)])
  assert found == pytest.approx(NUM_BYTES * 3 / 4 / LINK)


def test_axes_of_16_close_to_rings():
  found = seconds(grid("v5e:16x16"), "all-gather", [range(16)])
  assert found == pytest.approx(NUM_BYTES * 15 / 16 / LINK / 2)


@pytest.mark.parametrize(("rings", "links"), [(1, 2), (2, 4), (None, 4)])
def test_one_ring_through_all_has_two_links(rings, links):
  found = seconds(grid("v5e:16x16"), "all-gather", [range(256)], rings)
  assert found == pytest.approx(NUM_BYTES * 255 / 256 / LINK / links)


@pytest.mark.parametrize(
  ("name", "group", "parts"),
  [
    ("v5e:4x4", range(2), 1 / 2),
    ("v5e:4x4", range(4), 1),  # two send to two over the link in the middle, a quarter each
    ("v5e:4x4", range(16), 1),  # eight to eight over four links, a sixteenth each
    ("v5e:16x16", range(16), 2),  # eight to eight over two links that way
  ],
)
def test_all_to_all_takes_what_crosses_the_middle(name, group, parts):
  found = seconds(grid(name), "all-to-all", [group])
  assert found == pytest.approx(parts * NUM_BYTES / LINK)


def test_what_crosses_slices_takes_the_network():
  links = grid("v5e:2x2", num_slices=2)
  whole = seconds(links, "all-gather", [range(8)])
  network = NUM_BYTES / 4 / 2 / 3.125e9
  assert whole == pytest.approx(NUM_BYTES * 3 / 4 / LINK / 2 + network)
  pair = links.collective_s("all-reduce", NUM_BYTES, np.array([[0, 4]]))
  assert pair == pytest.approx(2 * NUM_BYTES / 2 / 3.125e9)
  assert links.permute_s(NUM_BYTES, [(0, 4)]) == pytest.approx(NUM_BYTES / 3.125e9)


def test_permutes_share_the_links_on_their_way():
  links = grid("v5e:4x4")
  near = [(0, 1), (1, 2), (2, 3)]
  assert links.permute_s(NUM_BYTES, near) == pytest.approx(NUM_BYTES / LINK, rel=1e-3)
  far = [(0, 2), (1, 3)]  # both go over the link between 1 and 2
  assert links.permute_s(NUM_BYTES, far) == pytest.approx(2 * NUM_BYTES / LINK, rel=1e-3)


def test_groups_hold_the_links_of_their_axes():
  links = grid("v5e:4x4")
  along = [links.held_by_groups(np.array([group])) for group in (range(4), range(0, 16, 4))]
  assert not set(along[0]) & set(along[1])
  whole = links.held_by_groups(np.array([range(16)]))
  assert set(whole) == set(along[0]) | set(along[1])
  assert len(whole) == links.num_links == 64


@pytest.mark.parametrize(
  ("kind", "emitter", "rings"),
  [
    ("all-gather", '"emitter":"1DAllGatherNonMajorDimImbalanced"', 1),
    ("all-gather", '"emitter":"3DAllGatherOnMajorDim"', 3),
    ("all-gather", "", 1),
    (
      "all-reduce",
      '"emitter":"RotatedPincerEmitter","strategy":"UniDirectionNDRingStrategy"',
      None,
    ),
    ("all-reduce", '"emitter":"RotatedPincerEmitter","strategy":"StrategyND"', None),
    ("all-reduce", '"emitter":"RotatedPincerEmitter","strategy":"StrategyRing"', 1),
    (
      "reduce-scatter",
      '"emitter":"SingleInputAllReduceScatterFusion","strategy":"StrategyRing"',
      1,
    ),
  ],
)
def test_the_compiler_says_how_many_rings_it_uses(kind, emitter, rings):
  assert rings_of(kind, f", backend_config={{{emitter}}}") == rings


def test_nothing_is_sent_within_a_device():
  assert grid("v5e:4x4").collective_s("all-reduce", NUM_BYTES, np.array([[3]])) == 0.0
