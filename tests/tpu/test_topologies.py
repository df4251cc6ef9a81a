import pytest

from vsumjax import sharding
from vsumjax.tpu import topologies
from vsumjax.types import InputError


def test_a_name_is_chip_and_shape():
  topology = topologies.parse("v5p:2x2x4", num_slices=2)
  assert (topology.chip.name, topology.shape, topology.num_slices) == ("v5p", (2, 2, 4), 2)
  assert topology.name == "v5p:2x2x4"
  assert topologies.num_devices(topology) == 32


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("v5e:4x5", "?; there are v5e:2x2, v5e:2x4"),
    ("v5litepod-16", "there are v4:2x2x1"),
    ("v9:2x2", "is not known"),
  ],
)
def test_an_unknown_slice_is_refused_with_those_that_are_known(name, said):
  with pytest.raises(InputError, match="--topology") as error:
    topologies.parse(name)
  assert said in str(error.value)


def test_no_slices_are_refused():
  with pytest.raises(InputError, match="--slices: 0"):
    topologies.parse("v5e:4x4", 0)


@pytest.mark.parametrize(
  ("name", "wraps"),
  [("v5e:4x4", False), ("v5e:8x16", True), ("v4:2x2x4", False), ("v4:4x4x4", True)],
)
def test_axes_close_to_rings_where_they_are_whole(name, wraps):
  topology = topologies.parse(name)
  assert topology.wraps(len(topology.shape) - 1) == wraps


@pytest.mark.parametrize("sizes", [(2, 16, 1), (4, 8, 1), (16, 1, 2)])
def test_a_mesh_over_two_slices_has_one_after_the_other_on_its_data_axis(sizes):
  pytest.importorskip("libtpu", reason="libtpu is not installed")
  devices = topologies.get_devices(topologies.parse("v5e:4x4", num_slices=2))
  mesh = sharding.build_mesh(sharding.MeshConfig(*sizes), devices)
  halves = mesh.devices.reshape(2, -1)
  assert [{device.slice_index for device in half} for half in halves] == [{0}, {1}]


def test_a_chip_of_v4_is_one_device():
  pytest.importorskip("libtpu", reason="libtpu is not installed")
  topology = topologies.parse("v4:2x2x1")
  assert len(topologies.get_devices(topology)) == topologies.num_devices(topology) == 4
