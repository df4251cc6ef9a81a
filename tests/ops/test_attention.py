import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax.ops import attention, reference


@pytest.mark.parametrize(
  ("mask_ar", "expected"),
  [
    ([0, 0, 0], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    ([1, 1, 1], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
    ([0, 0, 1], [[1, 1, 0], [1, 1, 0], [1, 1, 1]]),
    ([0, 1, 0], [[1, 0, 0], [1, 1, 1], [1, 1, 1]]),
  ],
)
def test_mask_ar_makes_blocks(mask_ar, expected):
  mask = attention.make_attention_mask(jnp.ones((1, 3), bool), jnp.array([mask_ar]))
  np.testing.assert_array_equal(mask[0], np.array(expected, bool))


def test_padding_is_never_a_key():
  mask = attention.make_attention_mask(jnp.array([[True, False, True]]), jnp.zeros((1, 3), int))
  np.testing.assert_array_equal(mask[0], [[True, False, True]] * 3)


def test_mask_equals_reference():
  rng = np.random.default_rng(0)
  valid, mask_ar = rng.random((4, 9)) < 0.7, rng.integers(0, 2, (4, 9))
  got = attention.make_attention_mask(jnp.asarray(valid), jnp.asarray(mask_ar))
  np.testing.assert_array_equal(got, reference.attention_mask(valid, mask_ar))


@pytest.mark.parametrize(
  ("mask_ar", "expected"),
  [
    ([1, 1, 1, 1], [[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]),
    ([0, 0, 0, 1], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]),
    ([0, 0, 0, 0], [[1, 1, 1, 1]] * 4),
  ],
)
def test_window_cuts_the_past_outside_of_the_block(mask_ar, expected):
  mask = attention.window_mask(jnp.arange(4)[None], jnp.array([mask_ar]), 2)
  np.testing.assert_array_equal(mask[0], np.array(expected, bool))


def test_positions_skip_padding():
  got = attention.positions(jnp.array([[True, True, False, True], [False, True, True, True]]))
  np.testing.assert_array_equal(got, [[0, 1, 1, 2], [0, 0, 1, 2]])


def _qkvm(num_kv_heads):
  rng = np.random.default_rng(1)
  q = rng.normal(size=(2, 5, 4, 8)).astype(np.float32) * 3
  k, v = (rng.normal(size=(2, 7, num_kv_heads, 8)).astype(np.float32) for _ in range(2))
  mask = rng.random((2, 5, 7)) < 0.5
  mask[..., 0] = True
  return q, k, v, mask


@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_attend_equals_reference(num_kv_heads, cap):
  q, k, v, mask = _qkvm(num_kv_heads)
  got = attention.attend(*map(jnp.asarray, (q, k, v, mask)), cap=cap)
  np.testing.assert_allclose(got, reference.attend(q, k, v, mask, cap), atol=2e-6)


@pytest.mark.parametrize("block", [2, 3, 5])
@pytest.mark.parametrize("masked", [True, False])
def test_blocks_of_queries_equal_all_at_once(block, masked):
  q, k, v, mask = map(jnp.asarray, _qkvm(2))
  mask = mask if masked else None
  whole = attention.attend_blocks(5.0, 0, q, k, v, mask)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    whole,
    attention.attend_blocks(5.0, block, q, k, v, mask),
  )
  args = (q, k, v, mask, *whole, jnp.cos(whole[0] * 9))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    attention.attend_blocks_backward(5.0, 0, *args),
    attention.attend_blocks_backward(5.0, block, *args),
  )


@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_gradients_equal_those_of_plain_softmax_attention(num_kv_heads, cap):
  q, k, v, mask = map(jnp.asarray, _qkvm(num_kv_heads))

  def plain(q, k, v):
    repeats = q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, repeats, axis=2), jnp.repeat(v, repeats, axis=2)
    logits = attention.soft_cap(jnp.einsum("bths,buhs->bhtu", q, k), cap)
    probs = jax.nn.softmax(jnp.where(mask[:, None], logits, -1e9))
    return jnp.einsum("bhtu,buhs->bths", probs, v)

  def grads(attend):
    return jax.grad(lambda *x: jnp.sin(attend(*x)).sum(), (0, 1, 2))(q, k, v)

  ours = grads(lambda q, k, v: attention.attend(q, k, v, mask, cap=cap))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, grads(plain))


def test_cap_changes_attention():
  q, k, v, mask = map(jnp.asarray, _qkvm(2))
  difference = attention.attend(q, k, v, mask, cap=5.0) - attention.attend(q, k, v, mask)
  assert jnp.abs(difference).max() > 1e-2


def test_masked_keys_get_no_gradient():
  q, k, v, mask = map(jnp.asarray, _qkvm(2))
  mask = mask.at[:, :, 3].set(False)
  grads = jax.grad(lambda k, v: attention.attend(q, k, v, mask, cap=5.0).sum(), (0, 1))(k, v)
  for grad in grads:
    assert jnp.all(grad[:, 3] == 0)
    assert jnp.any(grad != 0)


def test_soft_cap_values():
  x = jnp.array([-1000.0, 0.0, 0.1, 1000.0])
  np.testing.assert_allclose(attention.soft_cap(x, 30.0), [-30, 0, 0.1, 30], atol=1e-5)
  np.testing.assert_array_equal(attention.soft_cap(x, 0.0), x)
