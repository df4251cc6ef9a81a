import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.models import siglip

pytestmark = pytest.mark.usefixtures("one_device")

CONFIG = siglip.SiglipConfig(
  image_size=16, patch_size=4, width=16, depth=2, mlp_dim=32, num_heads=2
)


def _tower(num_tokens):
  return siglip.Siglip(CONFIG, 8, num_tokens, jnp.float32, remat=False)


def _images(seed=0, size=16):
  return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (3, size, size, 3)), jnp.float32)


def test_shape_and_names_of_big_vision():
  tower = _tower(4)
  params = sharding.unbox(tower.init(jax.random.key(0), _images()))["params"]
  assert tower.apply({"params": params}, _images()).shape == (3, 4, 8)
  assert params["embedding"]["kernel"].shape == (4, 4, 3, 16)
  assert params["pos_embedding"].shape == (1, 16, 16)
  block = params["Transformer"]["encoderblock"]
  assert block["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape == (2, 16, 2, 8)
  assert block["MlpBlock_0"]["Dense_0"]["kernel"].shape == (2, 16, 32)


def test_patches_are_those_of_a_strided_convolution():
  """Without layers to mix them, a token is the kernel applied to its own patch, row by row."""
  tower = _tower(16)
  images = _images()
  params = sharding.unbox(tower.init(jax.random.key(0), images))["params"]

  def embedded(module, x):
    captured = []
    original = siglip.Transformer.__call__
    siglip.Transformer.__call__ = lambda self, y: (captured.append(y), original(self, y))[1]
    try:
      module(x)
    finally:
      siglip.Transformer.__call__ = original
    return captured[0]

  got = tower.apply({"params": params}, images, method=embedded)
  kernel, bias = params["embedding"]["kernel"], params["embedding"]["bias"]
  convolved = jax.lax.conv_general_dilated(
    images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  expected = convolved.reshape(3, 16, 16) + bias.reshape(1, 1, -1) + params["pos_embedding"]
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_changed_corner_moves_every_token():
  tower = _tower(16)
  params = sharding.unbox(tower.init(jax.random.key(0), _images()))["params"]
  changed = _images().at[:, :4, :4].set(1.0)
  difference = tower.apply({"params": params}, _images()) - tower.apply({"params": params}, changed)
  assert jnp.all(jnp.abs(difference).max(axis=-1) > 0)


def test_another_image_size_is_refused():
  with pytest.raises(ValueError, match="16 px"):
    _tower(4).init(jax.random.key(0), _images(size=32))
