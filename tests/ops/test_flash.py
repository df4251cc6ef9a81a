"""The TPU's kernels, interpreted, beside the attention that runs on a CPU."""

import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax.ops import attention, flash

CASES = {
  "plain": {"masked": False},
  "prefix": {},
  "padding": {"padding": 9},
  "prefix and text": {"text": 20, "padding": 3},
  "window": {"text": 60, "padding": 5, "window": 16},
  "two blocks": {"T": 600, "text": 40, "padding": 7},
  "no cap, no groups": {"cap": 0.0, "heads": 2},
}


def example(T=150, text=0, padding=0, window=0, masked=True, cap=50.0, heads=4, S=24):
  """q, k, v, a gradient, the mask, the numbers that say the same, and the soft cap."""
  B, K = 2, 2
  rng = np.random.default_rng(0)
  shapes = [(B, T, heads, S), (B, T, K, S), (B, T, K, S), (B, T, heads, S)]
  arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
  if not masked:
    return arrays, None, None, cap
  mask_ar = np.zeros((B, T), np.int32)
  mask_ar[:, T - text :] = 1
  input_mask = np.ones((B, T), bool)
  # Padding between prompt and text, of another length in each row, as batches have it.
  input_mask[0, T - text - padding : T - text] = False
  input_mask, mask_ar = jnp.asarray(input_mask), jnp.asarray(mask_ar)
  mask = attention.make_attention_mask(input_mask, mask_ar)
  position = attention.positions(input_mask)
  if window:
    mask &= attention.window_mask(position, mask_ar, window)
  seen = attention.visibility(input_mask, mask_ar, window)
  return arrays, mask, seen, cap


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("bfloat16", 3e-2)])
def test_values_and_gradients_are_those_of_the_reference(name, dtype, bound):
  (q, k, v, dout), mask, seen, cap = example(**CASES[name])
  q, k, v, dout = (x.astype(dtype) for x in (q, k, v, dout))
  out, logsumexp = attention.attend_blocks(cap, 0, q, k, v, mask)
  got, got_logsumexp = flash.flash_forward(q, k, v, seen, cap=cap, interpret=True)
  close = {"rtol": bound, "atol": bound}
  np.testing.assert_allclose(got.astype(np.float32), out.astype(np.float32), **close)
  np.testing.assert_allclose(got_logsumexp, logsumexp, **close)
  want = attention.attend_blocks_backward(cap, 0, q, k, v, mask, out, logsumexp, dout)
  grads = flash.flash_backward(q, k, v, seen, out, logsumexp, dout, cap=cap, interpret=True)
  for a, b in zip(grads, want, strict=True):
    scale = float(jnp.abs(b.astype(jnp.float32)).max())
    np.testing.assert_allclose(
      a.astype(np.float32), b.astype(np.float32), rtol=bound, atol=bound * scale
    )
