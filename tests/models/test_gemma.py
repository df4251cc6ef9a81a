import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.models import gemma
from vsumjax.ops import reference

pytestmark = pytest.mark.usefixtures("one_device")

CONFIG = testing.tiny_config().llm


def test_embedder_is_tied_and_scaled():
  embedder = gemma.Embedder(10, 4, jnp.float32)
  table = jnp.asarray(np.random.default_rng(0).normal(size=(10, 4)), jnp.float32)
  params = {"params": {"input_embedding": table}}
  encoded = embedder.apply(params, jnp.array([[3, 7]]), method="encode")
  np.testing.assert_allclose(encoded[0], table[jnp.array([3, 7])] * 2.0, rtol=1e-6)
  logits = embedder.apply(params, encoded, (3, 5), method="decode_only")
  np.testing.assert_allclose(logits, encoded @ table[jnp.array([3, 5])].T, rtol=1e-5)
  every = embedder.apply(params, encoded, method="decode")
  np.testing.assert_allclose(every, encoded @ table.T, rtol=1e-5)


def test_attention_equals_the_slow_reference():
  """Projections, rotary positions, query scale, soft cap, grouped heads and mask together."""
  config = dataclasses.replace(CONFIG, attention_cap=2.0, query_scale=3.0)
  attention = gemma.Attention(config)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 6, 32)) * 2, jnp.float32)
  position = np.tile(np.arange(6), (2, 1))
  mask = np.tril(np.ones((2, 6, 6), bool))

  def whole(module, x):
    return module.attend(*module.project(x, jnp.asarray(position)), jnp.asarray(mask))

  params = sharding.unbox(attention.init(jax.random.key(0), x, method=whole))["params"]
  got = attention.apply({"params": params}, x, method=whole)

  q = np.einsum("BTD,HDS->BTHS", x, params["q_einsum"]["w"])
  k, v = np.einsum("BUD,cKDS->cBUKS", x, params["kv_einsum"]["w"])
  q, k = (reference.rope(y, position) for y in (q, k))
  out = reference.attend(q * 3.0**-0.5, k, v, mask, 2.0)
  expected = np.einsum("BTHS,HSD->BTD", out, params["attn_vec_einsum"]["w"])
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_feed_forward_gates_the_second_half():
  layer = gemma.FeedForward(CONFIG)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 32)), jnp.float32)
  params = sharding.unbox(layer.init(jax.random.key(0), x))["params"]
  gate, up = (x @ w for w in params["gating_einsum"])
  expected = (jax.nn.gelu(gate, approximate=True) * up) @ params["linear"]
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize("post_norms", [True, False])
def test_gemma_1_has_no_post_norms(post_norms):
  llm = dataclasses.replace(CONFIG, post_norms=post_norms)
  block = gemma.Block(llm)
  x = jnp.ones((1, 3, 32))
  masks = (jnp.ones((1, 3, 3), bool),) * 2
  layer, context = (jnp.array(0), jnp.array(True)), (jnp.arange(3)[None], masks)
  params = block.init(jax.random.key(0), x, layer, context, method="prefill")["params"]
  assert ("post_ffw_norm" in params) == ("post_attention_norm" in params) == post_norms


def test_logits_are_capped():
  batch = testing.random_batch()
  config = testing.tiny_config()
  capped = dataclasses.replace(config, llm=dataclasses.replace(CONFIG, final_cap=0.5))
  model = testing.tiny_model(config)
  variables = jax.jit(lambda key: sharding.unbox(model.init(key, batch)))(jax.random.key(0))
  free = jax.jit(model.apply)(variables, batch).logits[-1]
  bounded = jax.jit(testing.tiny_model(capped).apply)(variables, batch).logits[-1]
  assert jnp.abs(free).max() > 0.5
  assert jnp.abs(bounded).max() < 0.5
