"""Attention: masks, soft caps and grouped queries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

# Smaller than any soft-capped logit, and finite, so that a row without keys stays finite.
MASKED_LOGIT = -(2.0**30)
NEVER = 2**30  # the block of a key that no query sees

# Name of what a backward pass that keeps matmuls does not compute again, for `jax.checkpoint`.
KEPT = "kept"

# Queries to a block on a CPU. The forward pass of 8 x 384 tokens takes a third of the time.
CPU_BLOCK = 64


@struct.dataclass
class Visibility:
  """What masks of [T, U] say, in a few numbers of each token.

  q_block: i32[B, T], k_block: i32[B, U]: a query sees the keys of its own block and of earlier
    ones; `NEVER` is the block of padding.
  q_position: i32[B, T], k_position: i32[B, U], window: i32[]: outside of its own block it sees only
    keys less than `window` positions before it. None where no window can act.
  """

  q_block: jax.Array
  k_block: jax.Array
  q_position: jax.Array | None = None
  k_position: jax.Array | None = None
  window: jax.Array | None = None


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


def visibility(
  input_mask_BT: Bool[Array, "B T"], mask_ar_BT: Int[Array, "B T"], window: int = 0
) -> Visibility:
  """What `make_attention_mask` says, and `window_mask` where a window of that size can act."""
  block_BT = jnp.cumsum(mask_ar_BT, axis=1)
  seen = Visibility(block_BT, jnp.where(input_mask_BT, block_BT, NEVER))
  if not 0 < window < input_mask_BT.shape[1]:
    return seen
  position_BT = positions(input_mask_BT)
  return seen.replace(
    q_position=position_BT, k_position=position_BT, window=jnp.asarray(window, jnp.int32)
  )


def soft_cap(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
  """cap · tanh(x / cap), the logit soft cap of Gemma 2; `cap` 0 leaves x as it is."""
  return cap * jnp.tanh(x / cap) if cap else x


def attend(
  q_BTHS: Float[Array, "B T H S"],
  k_BUKS: Float[Array, "B U K S"],
  v_BUKS: Float[Array, "B U K S"],
  mask_BTU: Bool[Array, "B T U"] | None = None,
  *,
  cap: float = 0.0,
) -> Float[Array, "B T H S"]:
  """Softmax attention with H / K query heads for each key head. q comes scaled.

  Logits, soft cap and softmax are float32 whatever the inputs are. The backward pass computes the
  probabilities again from the row sums (as FlashAttention does, 2205.14135), so nothing of shape
  [B, H, T, U] is kept between the passes. No mask: every query sees every key.
  """
  return _attend(q_BTHS, k_BUKS, v_BUKS, mask_BTU, cap)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(
  q_BTHS: jax.Array, k_BUKS: jax.Array, v_BUKS: jax.Array, mask_BTU: jax.Array | None, cap: float
) -> jax.Array:
  return _attend_forward(q_BTHS, k_BUKS, v_BUKS, mask_BTU, cap)[0]


def _attend_forward(
  q_BTHS: jax.Array, k_BUKS: jax.Array, v_BUKS: jax.Array, mask_BTU: jax.Array | None, cap: float
) -> tuple[jax.Array, tuple]:
  result = _by_platform(attend_blocks, cap, q_BTHS, k_BUKS, v_BUKS, mask_BTU)
  out_BTHS, logsumexp_BTH = checkpoint_name(result, KEPT)
  return out_BTHS, (q_BTHS, k_BUKS, v_BUKS, mask_BTU, out_BTHS, logsumexp_BTH)


def _attend_backward(cap: float, saved: tuple, dout_BTHS: jax.Array) -> tuple:
  return *_by_platform(attend_blocks_backward, cap, *saved, dout_BTHS), None


_attend.defvjp(_attend_forward, _attend_backward)


def _by_platform(function: Callable[..., Any], cap: float, *args: Any) -> Any:
  """Blocks of queries on a CPU, whose caches hold the logits of a block; elsewhere all at once."""
  blocks = functools.partial(function, cap, CPU_BLOCK)
  return jax.lax.platform_dependent(*args, cpu=blocks, default=functools.partial(function, cap, 0))


def attend_blocks(
  cap: float,
  block: int,
  q_BTHS: jax.Array,
  k_BUKS: jax.Array,
  v_BUKS: jax.Array,
  mask_BTU: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """Attention of `block` queries at a time (0: of all), and each query's logsumexp, [B, T, H]."""
  k_BKUS, v_BKUS = k_BUKS.swapaxes(1, 2), v_BUKS.swapaxes(1, 2)

  def attend_block(_: None, xs: tuple) -> tuple[None, tuple[jax.Array, jax.Array]]:
    q_BTHS, mask_BTU = xs
    logits_BKXU = _capped_logits(_heads_first(q_BTHS, k_BKUS), k_BKUS, mask_BTU, cap)
    max_BKX1 = logits_BKXU.max(axis=-1, keepdims=True)
    weight_BKXU = jnp.exp(logits_BKXU - max_BKX1)
    sum_BKX1 = weight_BKXU.sum(axis=-1, keepdims=True)
    out_BKXS = _matmul("BKXU,BKUS->BKXS", weight_BKXU.astype(v_BKUS.dtype), v_BKUS) / sum_BKX1
    T = q_BTHS.shape[1]
    logsumexp_BTH = _heads_last(max_BKX1 + jnp.log(sum_BKX1), T)[..., 0]
    return None, (_heads_last(out_BKXS.astype(v_BKUS.dtype), T), logsumexp_BTH)

  return _scan_queries(attend_block, None, block, (q_BTHS, mask_BTU))[1]


def attend_blocks_backward(
  cap: float,
  block: int,
  q_BTHS: jax.Array,
  k_BUKS: jax.Array,
  v_BUKS: jax.Array,
  mask_BTU: jax.Array | None,
  out_BTHS: jax.Array,
  logsumexp_BTH: jax.Array,
  dout_BTHS: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradients of q, k and v.

  dP = dO·Vᵀ and dlogit = P · (dP - rowsum(dO · O)) · (1 - (logit / cap)²) where not masked.
  """
  k_BKUS, v_BKUS = k_BUKS.swapaxes(1, 2), v_BUKS.swapaxes(1, 2)
  dtype = q_BTHS.dtype
  inner_BTH = (dout_BTHS.astype(jnp.float32) * out_BTHS).sum(axis=-1)

  def attend_block_backward(dkv_BKUS: tuple, xs: tuple) -> tuple[tuple, jax.Array]:
    q_BTHS, mask_BTU, dout_BTHS, *rows_BTH = xs
    dk_BKUS, dv_BKUS = dkv_BKUS
    q_BKXS, dout_BKXS = (_heads_first(x, k_BKUS) for x in (q_BTHS, dout_BTHS))
    logsumexp_BKX1, inner_BKX1 = (_heads_first(x[..., None], k_BKUS) for x in rows_BTH)
    logits_BKXU = _capped_logits(q_BKXS, k_BKUS, mask_BTU, cap)
    probs_BKXU = jnp.exp(logits_BKXU - logsumexp_BKX1)
    dv_BKUS += _matmul("BKXU,BKXS->BKUS", probs_BKXU.astype(dtype), dout_BKXS)
    dprobs_BKXU = _matmul("BKXS,BKUS->BKXU", dout_BKXS, v_BKUS)
    dlogits_BKXU = probs_BKXU * (dprobs_BKXU - inner_BKX1)
    if cap:
      dlogits_BKXU *= 1 - (logits_BKXU / cap) ** 2
    # A row without keys weighs all of them alike, and none of them by way of q and k.
    dlogits_BKXU = jnp.where(logits_BKXU > MASKED_LOGIT, dlogits_BKXU, 0).astype(dtype)
    dk_BKUS += _matmul("BKXU,BKXS->BKUS", dlogits_BKXU, q_BKXS)
    dq_BKXS = _matmul("BKXU,BKUS->BKXS", dlogits_BKXU, k_BKUS)
    return (dk_BKUS, dv_BKUS), _heads_last(dq_BKXS.astype(dtype), q_BTHS.shape[1])

  zeros = jnp.zeros(k_BKUS.shape, jnp.float32)
  (dk_BKUS, dv_BKUS), dq_BTHS = _scan_queries(
    attend_block_backward,
    (zeros, zeros),
    block,
    (q_BTHS, mask_BTU, dout_BTHS, logsumexp_BTH, inner_BTH),
  )
  return dq_BTHS, dk_BKUS.swapaxes(1, 2).astype(dtype), dv_BKUS.swapaxes(1, 2).astype(dtype)


def _matmul(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def _heads_first(x_BTHS: jax.Array, k_BKUS: jax.Array) -> jax.Array:
  """[B, K, X, S] with X = G·T, the queries of one key head: products are plain batched matmuls."""
  B, T, _, S = x_BTHS.shape
  x_BTKGS = x_BTHS.reshape(B, T, k_BKUS.shape[1], -1, S)
  return x_BTKGS.transpose(0, 2, 3, 1, 4).reshape(B, k_BKUS.shape[1], -1, S)


def _heads_last(x_BKXS: jax.Array, T: int) -> jax.Array:
  B, K, _, S = x_BKXS.shape
  return x_BKXS.reshape(B, K, -1, T, S).transpose(0, 3, 1, 2, 4).reshape(B, T, -1, S)


def _capped_logits(
  q_BKXS: jax.Array, k_BKUS: jax.Array, mask_BTU: jax.Array | None, cap: float
) -> jax.Array:
  logits_BKXU = soft_cap(_matmul("BKXS,BKUS->BKXU", q_BKXS, k_BKUS), cap)
  if mask_BTU is None:
    return logits_BKXU
  B, K, _, U = logits_BKXU.shape
  logits_BKGTU = logits_BKXU.reshape(B, K, -1, mask_BTU.shape[1], U)
  return jnp.where(mask_BTU[:, None, None], logits_BKGTU, MASKED_LOGIT).reshape(logits_BKXU.shape)


def _scan_queries(
  body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, block: int, arrays_BT: Any
) -> tuple[Any, Any]:
  """`lax.scan` over blocks of the axis T (the second) of all arrays, padded to whole blocks."""
  B, T = arrays_BT[0].shape[:2]
  if not 0 < block < T:
    return body(carry, arrays_BT)

  def split(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (0, -T % block), *((0, 0),) * (x.ndim - 2)))
    return padded.reshape(B, -1, block, *x.shape[2:]).swapaxes(0, 1)

  def join(y: jax.Array) -> jax.Array:
    return y.swapaxes(0, 1).reshape(B, -1, *y.shape[3:])[:, :T]

  carry, blocks = jax.lax.scan(body, carry, jax.tree.map(split, arrays_BT))
  return carry, jax.tree.map(join, blocks)
