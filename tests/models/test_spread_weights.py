"""Products with weights that lie in parts on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.models import layers, rows, weights
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
    y = weights.contract(equation, sharding.constrain(x, "batch"), w=w, names=names)
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


@pytest.fixture(params=["as elsewhere", "as on a TPU"])
def sums(request, monkeypatch):
  """Both ways in which devices sum."""
  if request.param == "as on a TPU":
    monkeypatch.setattr(rows, "exchanges_behind_compute", lambda mesh: True)


@pytest.mark.parametrize("config", MESHES)
def test_an_activation_and_its_product_are_differentiated_together(config, sums):
  """silu(a) · b times w, with the gradient of a, b and w."""
  rng = np.random.default_rng(1)
  a, b = (jnp.asarray(rng.normal(size=(8, 3, 12)), jnp.float32) for _ in range(2))
  w, names = jnp.asarray(rng.normal(size=(12, 8)), jnp.float32), ("mlp", "width")

  def gated(a, b):
    return jax.nn.silu(a) * b

  def loss(a, b, w):
    return (weights.contract("nM,MD->nD", a, b, w=w, names=names, of=gated) ** 2).sum()

  def plain(a, b, w):
    return (jnp.einsum("btM,MD->btD", gated(a, b), w) ** 2).sum()

  with sharding.use_mesh(sharding.build_mesh(config)):
    got = jax.jit(jax.grad(loss, (0, 1, 2)))(a, b, w)
  for x, y in zip(got, jax.grad(plain, (0, 1, 2))(a, b, w), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [("width",), ("mlp",), (None,)])
@pytest.mark.parametrize("config", MESHES)
def test_a_vector_for_rows_has_the_gradient_of_a_plain_one(config, names, sums):
  rng = np.random.default_rng(2)
  x = jnp.asarray(rng.normal(size=(8, 3, 16)), jnp.float32)
  v = jnp.asarray(rng.normal(size=16), jnp.float32)

  def loss(v):
    return (jnp.sin(x * layers.for_rows(v, x, *names))).sum()

  with sharding.use_mesh(sharding.build_mesh(config)):
    value, got = jax.jit(jax.value_and_grad(loss))(v)
  want_value, want = jax.value_and_grad(lambda v: jnp.sin(x * v[None, None]).sum())(v)
  np.testing.assert_allclose(value, want_value, rtol=1e-5)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", MESHES[:3])
def test_rows_of_a_spread_table_and_their_gradient(config):
  rng = np.random.default_rng(3)
  table = jnp.asarray(rng.normal(size=(10, 16)), jnp.float32)
  index = jnp.asarray(rng.integers(0, 12, (8, 3)))  # some behind the end, which are the last row

  def loss(table):
    taken = rows.take_rows(table, index, "width", jnp.float32)
    return (jnp.sin(taken) * jnp.arange(16)[None, None]).sum(), taken

  def plain(table):
    taken = table[jnp.minimum(index, 9)]
    return (jnp.sin(taken) * jnp.arange(16)[None, None]).sum(), taken

  mesh, rules = sharding.build_mesh(config), LogicalRules()
  placed = jax.NamedSharding(mesh, sharding.spec_for(("vocab", "width"), rules))
  with sharding.use_mesh(mesh, rules):
    got, taken = jax.jit(jax.grad(loss, has_aux=True))(jax.device_put(table, placed))
  want, want_taken = jax.grad(plain, has_aux=True)(table)
  np.testing.assert_array_equal(taken, want_taken)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_rows_that_do_not_divide_are_multiplied_as_they_are():
  names = ("width", "mlp")
  with sharding.use_mesh(sharding.build_mesh(MeshConfig(1, 8, 1))):
    assert rows.is_spread(16, *names)
    assert not rows.is_spread(12, *names)
    assert not rows.is_spread(16, "mlp")
  assert not rows.is_spread(16, *names)
