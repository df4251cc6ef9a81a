"""Attention: masks, soft caps and grouped queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Smaller than any soft-capped logit, and finite, so that a row without keys stays finite.
MASKED_LOGIT = -(2.0**30)


def make_attention_mask(
  input_mask_BT: Bool[Array, "B T"], mask_ar_BT: Int[Array, "B T"]
) -> Bool[Array, "B T T"]:
  """Which keys (last axis) each query may see.

  A token sees every valid token of its own block and of earlier blocks; a block starts wherever
  `mask_ar` is 1. (The convention of big_vision's PaliGemma.) Examples, all tokens valid:

    mask_ar = [0, 0, 0, 0]   bidirectional: all see all
    mask_ar = [1, 1, 1, 1]   causal
    mask_ar = [0, 0, 1, 1]   prefix-LM: two bidirectional tokens, then causal:
                             [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]

  Padding is never seen. Its own rows see the valid tokens, which keeps them finite.
  """
  block_BT = jnp.cumsum(mask_ar_BT, axis=1)
  return (block_BT[:, None, :] <= block_BT[:, :, None]) & input_mask_BT[:, None, :]


def window_mask(
  position_BT: Int[Array, "B T"], mask_ar_BT: Int[Array, "B T"], window: int
) -> Bool[Array, "B T T"]:
  """Keys less than `window` positions before the query, or in the query's own block.

  As in transformers' PaliGemma 2: a bidirectional prefix sees itself whole, and only what follows
  it loses sight of the past. What lies ahead is `make_attention_mask`'s business. Example, window
  2, mask_ar = [0, 0, 1, 1]: [[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]].
  """
  block_BT = jnp.cumsum(mask_ar_BT, axis=1)
  near_BTT = position_BT[:, None, :] > position_BT[:, :, None] - window
  return near_BTT | (block_BT[:, None, :] == block_BT[:, :, None])


def positions(input_mask_BT: Bool[Array, "B T"]) -> Int[Array, "B T"]:
  """Index of each token among the valid ones: [1, 1, 0, 1] -> [0, 1, 1, 2]."""
  return jnp.maximum(jnp.cumsum(input_mask_BT, axis=1) - 1, 0)


def soft_cap(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
  """cap · tanh(x / cap), the logit soft cap of Gemma 2; `cap` 0 leaves x as it is."""
  return cap * jnp.tanh(x / cap) if cap else x


def attend(
  q_BTHS: Float[Array, "B T H S"],
  k_BUKS: Float[Array, "B U K S"],
  v_BUKS: Float[Array, "B U K S"],
  mask_BTU: Bool[Array, "B T U"],
  *,
  cap: float = 0.0,
) -> Float[Array, "B T H S"]:
  """Softmax attention with H / K query heads for each key head. q comes scaled.

  Logits, soft cap and softmax are float32 whatever the inputs are.
  """
  B, T, H, S = q_BTHS.shape
  q_BTKGS = q_BTHS.reshape(B, T, k_BUKS.shape[2], -1, S)
  logits_BKGTU = jnp.einsum(
    "BTKGS,BUKS->BKGTU", q_BTKGS, k_BUKS, preferred_element_type=jnp.float32
  )
  logits_BKGTU = soft_cap(logits_BKGTU, cap)
  logits_BKGTU = jnp.where(mask_BTU[:, None, None], logits_BKGTU, MASKED_LOGIT)
  probs_BKGTU = jax.nn.softmax(logits_BKGTU, axis=-1).astype(v_BUKS.dtype)
  return jnp.einsum("BKGTU,BUKS->BTKGS", probs_BKGTU, v_BUKS).reshape(B, T, H, S)
