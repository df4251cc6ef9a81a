import jax
import jax.numpy as jnp
import numpy as np

from vsumjax import sharding
from vsumjax.models import layers


def _apply(module, *args):
  boxed = module.init(jax.random.key(0), *args)
  params = sharding.unbox(boxed)["params"]
  return boxed["params"], params, module.apply({"params": params}, *args)


def test_dense_contracts_all_its_input_axes():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 4)), jnp.float32)
  boxed, params, y = _apply(layers.Dense((3, 4), (6,), ("heads", "head_size", "width")), x)
  expected = np.einsum("abhs,hsd->abd", x, params["kernel"])
  np.testing.assert_allclose(y, expected, atol=1e-5)
  assert boxed["kernel"].names == ("heads", "head_size", "width")
  assert boxed["bias"].names == ("width",)


def test_dense_adds_its_bias():
  module = layers.Dense((3,), (2,), ("width", "mlp"))
  params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.array([1.0, -2.0])}
  np.testing.assert_array_equal(module.apply({"params": params}, jnp.ones((4, 3))), [[1, -2]] * 4)


def test_einsum_follows_the_dtype_of_its_input():
  module = layers.Einsum((3, 2), ("width", "mlp"), 0, 1)
  _, params, y = _apply(module, "BD,DM->BM", jnp.ones((4, 3), jnp.bfloat16))
  assert params["w"].dtype == jnp.float32
  assert y.dtype == jnp.bfloat16


def test_rms_norm_values():
  x = jnp.array([[3.0, 4.0]])
  rms = np.sqrt(12.5)
  got = layers.rms_norm(x, jnp.array([[0.0, 1.0]]))
  np.testing.assert_allclose(got, [[3 / rms, 2 * 4 / rms]], rtol=1e-6)


def test_rms_norm_is_float32_inside():
  x = jnp.full((1, 4), 300.0, jnp.bfloat16)  # its square is beyond what bfloat16 adds up exactly
  got = layers.rms_norm(x, jnp.zeros((1, 4)))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(got.astype(jnp.float32), np.ones((1, 4)), rtol=1e-2)


def test_layer_norm_values():
  x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32) * 5 + 2
  params = {"scale": jnp.full(8, 2.0), "bias": jnp.full(8, 0.5)}
  got = layers.LayerNorm().apply({"params": params}, jnp.asarray(x))
  normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(got, normed * 2 + 0.5, atol=1e-5)
