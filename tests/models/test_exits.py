import jax
import jax.numpy as jnp
import numpy as np

from vsumjax import sharding
from vsumjax.models import exits


def test_each_exit_has_its_own_head():
  heads = exits.ExitHeads(2, 5)
  read = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 1, 8)), jnp.float32)
  params = sharding.unbox(heads.init(jax.random.key(0), read))["params"]
  before = heads.apply({"params": params}, read)
  params["kernel"] = params["kernel"].at[1].multiply(2.0)
  after = heads.apply({"params": params}, read)
  assert before.shape == (2, 3, 1, 5)
  np.testing.assert_array_equal(before[0], after[0])
  np.testing.assert_allclose(2 * before[1], after[1], rtol=1e-5)


def test_the_norm_makes_heads_blind_to_scale():
  heads = exits.ExitHeads(1, 3)
  read = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 8)), jnp.float32)
  params = sharding.unbox(heads.init(jax.random.key(0), read))["params"]
  small, large = (heads.apply({"params": params}, scale * read) for scale in (1.0, 100.0))
  np.testing.assert_allclose(small, large, atol=1e-4)


def test_confidence_is_the_largest_probability():
  logits = jnp.log(jnp.array([[[[0.2, 0.7, 0.1]]]]))
  np.testing.assert_allclose(exits.confidence(logits), [[[0.7]]], rtol=1e-6)
