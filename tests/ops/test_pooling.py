import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax.ops import pooling, reference


@pytest.mark.parametrize("num_tokens", [1, 4, 9, 36])
def test_equals_reference(num_tokens):
  x = np.random.default_rng(0).normal(size=(3, 36, 5)).astype(np.float32)
  got = pooling.pool_tokens(jnp.asarray(x), num_tokens)
  np.testing.assert_allclose(got, reference.pool_tokens(x, num_tokens), atol=1e-6)


def test_all_tokens_is_the_identity():
  x = jnp.arange(36.0).reshape(1, 36, 1)
  np.testing.assert_array_equal(pooling.pool_tokens(x, 36), x)


@pytest.mark.parametrize("num_tokens", [2, 16, 25])
def test_what_does_not_divide_is_refused(num_tokens):
  with pytest.raises(ValueError, match="cannot pool"):
    pooling.pool_tokens(jnp.zeros((1, 36, 2)), num_tokens)
