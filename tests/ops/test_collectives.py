import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from vsumjax.ops import collectives


def on_devices(function, terms, out_spec):
  """`function` of one of `terms` on each of as many devices."""
  count = len(terms)
  mesh = jax.make_mesh((count,), ("x",), devices=jax.devices()[:count], axis_types=(AxisType.Auto,))
  wrapped = jax.shard_map(
    lambda x: function(x[0]),
    mesh=mesh,
    in_specs=PartitionSpec("x"),
    out_specs=out_spec,
    check_vma=False,
  )
  return jax.jit(wrapped)(terms)


def draw_terms(count, shape):
  return np.random.default_rng(0).integers(-9, 9, (count, *shape)).astype(np.float32)


WAYS = (collectives.exchange_reduce_scatter, collectives.psum_scatter)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize(("shape", "dim"), [((16, 6), 0), ((3, 8, 5), 1), ((24,), 0), ((5, 16), 1)])
def test_every_device_gets_its_part_of_the_sum(way, count, shape, dim):
  terms = draw_terms(count, shape)
  spec = PartitionSpec(*[None] * dim, "x")
  got = on_devices(lambda x: way(x, "x", dim), terms, spec)
  np.testing.assert_array_equal(got, terms.sum(axis=0))


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("shape", [(16, 6), (3, 8, 5), (5, 3), ()])
def test_all_devices_get_the_whole_sum(count, shape):
  terms = draw_terms(count, shape)
  got = on_devices(lambda x: collectives.exchange_all_reduce(x, "x"), terms, PartitionSpec())
  np.testing.assert_array_equal(got, terms.sum(axis=0))


def test_an_exchange_sums_bfloat16_in_float32():
  """256 + 1 + ... + 1 (7 of them) is 263; bfloat16, which has 8 bits, stays at 256."""
  terms = jnp.ones((8, 8), jnp.bfloat16).at[0].set(256)
  spec = PartitionSpec("x")
  got = on_devices(lambda x: collectives.exchange_reduce_scatter(x, "x", 0), terms, spec)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, np.full(8, 263, np.float32))
