"""Products with weights that lie in parts on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.models import weights
from vsumjax.sharding import LogicalRules, MeshConfig

EQUATIONS = {
  "nD,DM->nM": ((16, 8), (8, 12), ("width", "mlp")),
  "nM,MD->nD": ((16, 12), (12, 8), ("mlp", "width")),
  "nD,HDS->nHS": ((16, 8), (4, 8, 6), ("heads", "width", "head_size")),
  "nHS,HSD->nD": ((16, 4, 6), (4, 6, 8), ("heads", "head_size", "width")),
}
MESHES = [MeshConfig(1, 8, 1), MeshConfig(2, 2, 2), MeshConfig(4, 2, 1), MeshConfig(8, 1, 1)]


@pytest.mark.parametrize("config", MESHES)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_value_and_gradients_are_those_of_one_device(equation, config):
  x_shape, w_shape, names = EQUATIONS[equation]
  rng = np.random.default_rng(0)
  x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x_shape, w_shape))
  mesh, rules = sharding.build_mesh(config), LogicalRules()

  def loss(x, w):
    y = weights.contract(equation, sharding.constrain(x, "batch"), w, names)
    return (y**2).sum(), y

  def plain(x, w):
    y = jnp.einsum(equation, x, w)
    return (y**2).sum(), y

  with sharding.use_mesh(mesh, rules):
    spread = jax.device_put(w, jax.sharding.NamedSharding(mesh, sharding.spec_for(names, rules)))
    got, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, spread)
  want, y_want = jax.grad(plain, (0, 1), has_aux=True)(x, w)
  np.testing.assert_allclose(y, y_want, rtol=1e-5, atol=1e-5)
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_rows_that_do_not_divide_are_multiplied_as_they_are():
  names = ("width", "mlp")
  with sharding.use_mesh(sharding.build_mesh(MeshConfig(1, 8, 1))):
    assert sharding.is_spread(16, *names)
    assert not sharding.is_spread(12, *names)
    assert not sharding.is_spread(16, "mlp")
  assert not sharding.is_spread(16, *names)
