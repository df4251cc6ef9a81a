import jax
import jax.numpy as jnp
import numpy as np

from vsumjax import sharding
from vsumjax.models import exits


def _heads(num_exits, num_classes, prototypes=False):
  heads = exits.ExitHeads(8, num_exits, num_classes, prototypes)
  read = jnp.asarray(np.random.default_rng(0).normal(size=(num_exits, 3, 1, 8)), jnp.float32)
  method = "cosine" if prototypes else "logits"
  early = read if prototypes else read[:-1]
  return heads, early, sharding.unbox(heads.init(jax.random.key(0), early, method=method))["params"]


def test_each_exit_has_its_own_head():
  heads, read, params = _heads(3, 5)
  before = heads.apply({"params": params}, read, method="logits")
  params["kernel"] = params["kernel"].at[1].multiply(2.0)
  after = heads.apply({"params": params}, read, method="logits")
  assert before.shape == (2, 3, 1, 5)
  np.testing.assert_array_equal(before[0], after[0])
  np.testing.assert_allclose(2 * before[1], after[1], rtol=1e-5)


def test_the_norm_makes_heads_blind_to_scale():
  heads, read, params = _heads(2, 3)
  small, large = (
    heads.apply({"params": params}, scale * read, method="logits") for scale in (1.0, 100.0)
  )
  np.testing.assert_allclose(small, large, atol=1e-4)


def test_confidence_is_the_largest_probability():
  logits = jnp.log(jnp.array([[[[0.2, 0.7, 0.1]]]]))
  np.testing.assert_allclose(exits.confidence(logits, None), [[[0.7]]], rtol=1e-6)


def test_confidence_is_the_cosine_of_the_predicted_class():
  logits = jnp.array([[[[0.2, 0.7, 0.1]]]])
  cosine = jnp.array([[[[0.9, -0.3, 0.1]]]])
  np.testing.assert_allclose(exits.confidence(logits, cosine), [[[-0.3]]], rtol=1e-6)


def test_prototypes_see_directions_and_not_lengths():
  heads, read, params = _heads(2, 3, prototypes=True)
  cosine = heads.apply({"params": params}, read, method="cosine")
  assert cosine.shape == (2, 3, 1, 3)
  longer = {"params": dict(params, prototype=5 * params["prototype"])}
  np.testing.assert_allclose(cosine, heads.apply(longer, 0.1 * read, method="cosine"), atol=1e-5)
  first = params["prototype"][:, :1, None]  # the first class's prototype, read at both exits
  itself = heads.apply({"params": params}, first, method="cosine")
  np.testing.assert_allclose(itself[:, 0, 0, 0], 1.0, rtol=1e-5)
