import jax.numpy as jnp
import numpy as np

from vsumjax.ops import reference, rope


def test_equals_complex_rotation():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 6, 3, 8)).astype(np.float32)
  position = rng.integers(0, 500, (2, 6))
  got = rope.apply_rope(jnp.asarray(x), jnp.asarray(position))
  np.testing.assert_allclose(got, reference.rope(x, position), atol=1e-4)


def test_dot_product_depends_on_distance_only():
  rng = np.random.default_rng(1)
  q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 16)), jnp.float32) for _ in range(2))

  def dot(q_position, k_position):
    turned = (rope.apply_rope(x, jnp.array([[p]])) for x, p in ((q, q_position), (k, k_position)))
    return float(jnp.sum(next(turned) * next(turned)))

  np.testing.assert_allclose(dot(3, 10), dot(103, 110), atol=1e-4)
  assert abs(dot(3, 10) - dot(3, 11)) > 1e-3
