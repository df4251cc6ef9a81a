import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from vsumjax.ops.collectives import ring_reduce_scatter


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize(("shape", "dim"), [((16, 6), 0), ((3, 8, 5), 1), ((24,), 0), ((5, 16), 1)])
def test_a_ring_sums_what_psum_scatter_does(count, shape, dim):
  mesh = jax.make_mesh((count,), ("x",), devices=jax.devices()[:count], axis_types=(AxisType.Auto,))
  terms = np.random.default_rng(0).integers(-9, 9, (count, *shape)).astype(np.float32)

  def of_device(x):
    return ring_reduce_scatter(x[0], "x", dim)

  spec = PartitionSpec(*[None] * dim, "x")
  wrapped = jax.shard_map(
    of_device, mesh=mesh, in_specs=PartitionSpec("x"), out_specs=spec, check_vma=False
  )
  np.testing.assert_array_equal(jax.jit(wrapped)(terms), terms.sum(axis=0))
