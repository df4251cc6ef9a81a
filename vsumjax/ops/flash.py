"""Attention on a TPU, in kernels that keep no logits in HBM (2205.14135, 2307.08691).

Which keys a query sees follows from a few numbers of each token (`Visibility`), so that prefixes,
padding and windows differ from row to row and no mask of [T, U] exists. Kernels work on one key
head and its G query heads, in blocks of queries and keys; soft caps and softmax are in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vsumjax.ops.attention import MASKED_LOGIT, NEVER, Visibility

BLOCK = 512
_LANES, _SUBLANES = 128, 8


@dataclasses.dataclass(frozen=True)
class _Sizes:
  """Of one call, padded to whole blocks: B rows, K key heads, G queries to a key head."""

  B: int
  K: int
  G: int
  T: int
  U: int
  S: int
  block_q: int
  block_k: int

  @property
  def q_blocks(self) -> int:
    return self.G * self.T // self.block_q

  @property
  def k_blocks(self) -> int:
    return self.U // self.block_k


def flash_forward(
  q_BTHS: jax.Array,
  k_BUKS: jax.Array,
  v_BUKS: jax.Array,
  seen: Visibility | None,
  *,
  cap: float,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """What `attention.attend_blocks` gives: the result [B, T, H, S] and each query's logsumexp."""
  sizes, (q, k, v), vectors = _lay_out(q_BTHS, k_BUKS, v_BUKS, seen)
  out_shape = (
    jax.ShapeDtypeStruct(q.shape, q_BTHS.dtype),
    jax.ShapeDtypeStruct((*q.shape[:2], _SUBLANES, sizes.T), jnp.float32),
  )
  out, logsumexp = _call(
    functools.partial(_forward_kernel, cap=cap, has_window=_has_window(seen)),
    sizes,
    inner="k",
    inputs=[(q, "q"), (k, "k"), (v, "k")],
    vectors=vectors,
    outputs=[(out_shape[0], "q"), (out_shape[1], "q_row")],
    scratch=[(_SUBLANES, sizes.block_q)] * 2 + [(sizes.S, sizes.block_q)],
    products=2,
    interpret=interpret,
  )
  T, S = q_BTHS.shape[1], q_BTHS.shape[3]
  return _heads_inside(out)[:, :T, :, :S], logsumexp[:, :, 0, :T].transpose(1, 2, 0)


def flash_backward(
  q_BTHS: jax.Array,
  k_BUKS: jax.Array,
  v_BUKS: jax.Array,
  seen: Visibility | None,
  out_BTHS: jax.Array,
  logsumexp_BTH: jax.Array,
  dout_BTHS: jax.Array,
  *,
  cap: float,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradients of q, k and v; see `attention.attend_blocks_backward`."""
  sizes, (q, k, v), vectors = _lay_out(q_BTHS, k_BUKS, v_BUKS, seen)
  inner_BTH = (dout_BTHS.astype(jnp.float32) * out_BTHS).sum(axis=-1)
  dout = _heads_first(_pad(dout_BTHS, sizes.T, sizes.S))
  rows = [_rows_of(x, sizes) for x in (logsumexp_BTH, inner_BTH)]
  inputs = [(q, "q"), (k, "k"), (v, "k"), (dout, "q"), (rows[0], "q_row"), (rows[1], "q_row")]
  options = {"cap": cap, "has_window": _has_window(seen)}
  dq = _call(
    functools.partial(_dq_kernel, **options),
    sizes,
    inner="k",
    inputs=inputs,
    vectors=vectors,
    outputs=[(jax.ShapeDtypeStruct(q.shape, q.dtype), "q")],
    scratch=[(sizes.block_q, sizes.S)],
    products=3,
    interpret=interpret,
  )[0]
  dk, dv = _call(
    functools.partial(_dkv_kernel, **options),
    sizes,
    inner="q",
    inputs=inputs,
    vectors=vectors,
    outputs=[(jax.ShapeDtypeStruct(x.shape, x.dtype), "k") for x in (k, v)],
    scratch=[(sizes.block_k, sizes.S)] * 2,
    products=4,
    interpret=interpret,
  )
  T, U, S = q_BTHS.shape[1], k_BUKS.shape[1], q_BTHS.shape[3]
  dk_BUKS, dv_BUKS = (_heads_inside(x)[:, :U, :, :S] for x in (dk, dv))
  return _heads_inside(dq)[:, :T, :, :S], dk_BUKS, dv_BUKS


def _forward_kernel(q, k, v, *refs, cap: float, has_window: bool):
  *vectors, out, logsumexp, max_ref, sum_ref, total = refs
  j, last = pl.program_id(3), pl.num_programs(3) - 1

  @pl.when(j == 0)
  def _start():
    max_ref[...] = jnp.full_like(max_ref, MASKED_LOGIT)
    sum_ref[...] = jnp.zeros_like(sum_ref)
    total[...] = jnp.zeros_like(total)

  logits_UQ, _ = _logits(k[0, 0], q[0, 0], vectors, cap, has_window)
  before = max_ref[...][:1]
  most = jnp.maximum(before, logits_UQ.max(axis=0, keepdims=True))
  weight_UQ = jnp.exp(logits_UQ - most)
  shrink = jnp.exp(before - most)
  sum_ref[...] = jnp.broadcast_to(
    shrink * sum_ref[...][:1] + weight_UQ.sum(axis=0, keepdims=True), sum_ref.shape
  )
  max_ref[...] = jnp.broadcast_to(most, max_ref.shape)
  total[...] = total[...] * shrink + _dot(v[0, 0], weight_UQ.astype(v.dtype), 0, 0)

  @pl.when(j == last)
  def _end():
    sums = sum_ref[...][:1]
    out[0, 0] = (total[...] / sums).T.astype(out.dtype)
    logsumexp[0, 0] = jnp.broadcast_to(max_ref[...][:1] + jnp.log(sums), logsumexp.shape[2:])


def _dq_kernel(q, k, v, dout, logsumexp, inner, *refs, cap: float, has_window: bool):
  *vectors, dq, total = refs
  j, last = pl.program_id(3), pl.num_programs(3) - 1

  @pl.when(j == 0)
  def _start():
    total[...] = jnp.zeros_like(total)

  _, dlogits_UQ = _gradients(q, k, v, dout, logsumexp, inner, vectors, cap, has_window)
  total[...] += _dot(dlogits_UQ.astype(k.dtype), k[0, 0], 0, 0)

  @pl.when(j == last)
  def _end():
    dq[0, 0] = total[...].astype(dq.dtype)


def _dkv_kernel(q, k, v, dout, logsumexp, inner, *refs, cap: float, has_window: bool):
  *vectors, dk, dv, dk_total, dv_total = refs
  i, last = pl.program_id(3), pl.num_programs(3) - 1

  @pl.when(i == 0)
  def _start():
    dk_total[...] = jnp.zeros_like(dk_total)
    dv_total[...] = jnp.zeros_like(dv_total)

  probs_UQ, dlogits_UQ = _gradients(q, k, v, dout, logsumexp, inner, vectors, cap, has_window)
  dv_total[...] += _dot(probs_UQ.astype(dout.dtype), dout[0, 0], 1, 0)
  dk_total[...] += _dot(dlogits_UQ.astype(q.dtype), q[0, 0], 1, 0)

  @pl.when(i == last)
  def _end():
    dk[0, 0] = dk_total[...].astype(dk.dtype)
    dv[0, 0] = dv_total[...].astype(dv.dtype)


def _gradients(q, k, v, dout, logsumexp, inner, vectors, cap, has_window):
  """Probabilities and the gradient of the logits before the soft cap, keys by queries."""
  logits_UQ, is_seen_UQ = _logits(k[0, 0], q[0, 0], vectors, cap, has_window)
  probs_UQ = jnp.exp(logits_UQ - logsumexp[0, 0][:1])
  dprobs_UQ = _dot(v[0, 0], dout[0, 0], 1, 1)
  dlogits_UQ = probs_UQ * (dprobs_UQ - inner[0, 0][:1])
  if cap:
    dlogits_UQ *= 1 - (logits_UQ / cap) ** 2
  if is_seen_UQ is not None:
    # A row without keys weighs all of them alike, and none of them by way of q and k.
    dlogits_UQ = jnp.where(is_seen_UQ, dlogits_UQ, 0)
  return probs_UQ, dlogits_UQ


def _logits(k_US, q_QS, vectors, cap, has_window):
  """Soft-capped, masked logits, keys by queries: what belongs to a query is a row of lanes."""
  logits_UQ = _dot(k_US, q_QS, 1, 1)
  if cap:
    logits_UQ = cap * jnp.tanh(logits_UQ / cap)
  if not vectors:
    return logits_UQ, None
  q_block, k_block = vectors[0][0][:1], vectors[1][0][:, :1]
  is_seen_UQ = k_block <= q_block
  if has_window:
    q_position, k_position = vectors[2][0][:1], vectors[3][0][:, :1]
    # `q_position` is the first one that is still in the window.
    is_seen_UQ &= (k_position >= q_position) | (k_block == q_block)
  return jnp.where(is_seen_UQ, logits_UQ, MASKED_LOGIT), is_seen_UQ


def _dot(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
  dims = (((x_axis,), (y_axis,)), ((), ()))
  return jax.lax.dot_general(x, y, dims, preferred_element_type=jnp.float32)


def _has_window(seen: Visibility | None) -> bool:
  return seen is not None and seen.window is not None


def _lay_out(
  q_BTHS: jax.Array, k_BUKS: jax.Array, v_BUKS: jax.Array, seen: Visibility | None
) -> tuple[_Sizes, tuple[jax.Array, jax.Array, jax.Array], list[tuple[jax.Array, str]]]:
  """Sizes; q, k and v with heads first, padded to whole blocks and lanes; the vectors of `seen`."""
  B, T, H, S = q_BTHS.shape
  U, K = k_BUKS.shape[1:3]
  block_q, block_k = (min(BLOCK, -(-n // _LANES) * _LANES) for n in (T, U))
  T_padded, U_padded, S_padded = (
    -(-T // block_q) * block_q,
    -(-U // block_k) * block_k,
    -(-S // 128) * 128,
  )
  sizes = _Sizes(B, K, H // K, T_padded, U_padded, S_padded, block_q, block_k)
  q = _heads_first(_pad(q_BTHS, T_padded, S_padded))
  k, v = (_heads_first(_pad(x, U_padded, S_padded)) for x in (k_BUKS, v_BUKS))
  if seen is None:
    if U_padded == U:
      return sizes, (q, k, v), []
    zeros = jnp.zeros((B, 1), jnp.int32)
    seen = Visibility(jnp.broadcast_to(zeros, (B, T)), jnp.broadcast_to(zeros, (B, U)))
  vectors = [_q_vector(seen.q_block, sizes), _k_vector(seen.k_block, sizes)]
  if seen.window is not None:
    first = seen.q_position - seen.window + 1
    vectors += [_q_vector(first, sizes), _k_vector(seen.k_position, sizes)]
  return sizes, (q, k, v), vectors


def _q_vector(x_BT: jax.Array, sizes: _Sizes) -> tuple[jax.Array, str]:
  """i32[B, sublanes, T]: a number a query, along lanes."""
  x_BT = jnp.pad(x_BT, ((0, 0), (0, sizes.T - x_BT.shape[1])))
  return jnp.broadcast_to(x_BT[:, None], (sizes.B, _SUBLANES, sizes.T)), "q_vector"


def _k_vector(x_BU: jax.Array, sizes: _Sizes) -> tuple[jax.Array, str]:
  """i32[B, U, lanes]: a number a key, along sublanes; padding is in no block."""
  x_BU = jnp.pad(x_BU, ((0, 0), (0, sizes.U - x_BU.shape[1])), constant_values=NEVER)
  return jnp.broadcast_to(x_BU[:, :, None], (sizes.B, sizes.U, _LANES)), "k_vector"


def _pad(x: jax.Array, length: int, width: int) -> jax.Array:
  return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, width - x.shape[3])))


def _heads_first(x_BTHS: jax.Array) -> jax.Array:
  """[H, B, T, S], which a matmul yields and takes as it is: its tokens stay in one piece."""
  return x_BTHS.transpose(2, 0, 1, 3)


def _heads_inside(x_HBTS: jax.Array) -> jax.Array:
  return x_HBTS.transpose(1, 2, 0, 3)


def _rows_of(x_BTH: jax.Array, sizes: _Sizes) -> jax.Array:
  """f32[H, B, sublanes, T]: a number a query, along lanes."""
  x_HBT = jnp.pad(x_BTH, ((0, 0), (0, sizes.T - x_BTH.shape[1]), (0, 0))).transpose(2, 0, 1)
  return jnp.broadcast_to(x_HBT[:, :, None], (*x_HBT.shape[:2], _SUBLANES, sizes.T))


def _call(
  kernel: Any,
  sizes: _Sizes,
  *,
  inner: str,
  inputs: list[tuple[jax.Array, str]],
  vectors: list[tuple[jax.Array, str]],
  outputs: list[tuple[jax.ShapeDtypeStruct, str]],
  scratch: list[tuple[int, int]],
  products: int,
  interpret: bool,
) -> Any:
  """Runs a kernel over rows, key heads, and blocks of queries and keys, `inner` ones last."""
  z = sizes
  of_T = z.T // z.block_q

  def at(b, h, outer, inside):
    i, j = (outer, inside) if inner == "k" else (inside, outer)
    return b, h, i, j

  def head(h, i):
    return h * z.G + i // of_T

  def spec(kind: str) -> pl.BlockSpec:
    shape, index = {
      "q": ((1, 1, z.block_q, z.S), lambda b, h, i, j: (head(h, i), b, i % of_T, 0)),
      "k": ((1, 1, z.block_k, z.S), lambda b, h, i, j: (h, b, j, 0)),
      "q_row": ((1, 1, _SUBLANES, z.block_q), lambda b, h, i, j: (head(h, i), b, 0, i % of_T)),
      "q_vector": ((1, _SUBLANES, z.block_q), lambda b, h, i, j: (b, 0, i % of_T)),
      "k_vector": ((1, z.block_k, _LANES), lambda b, h, i, j: (b, j, 0)),
    }[kind]
    return pl.BlockSpec(shape, lambda *grid: index(*at(*grid)))

  logits = z.B * z.K * z.G * z.T * z.U
  arrays = [*inputs, *vectors]
  moved = sum(x.size * x.dtype.itemsize for x, _ in [*arrays, *outputs])
  steps = (z.q_blocks, z.k_blocks) if inner == "k" else (z.k_blocks, z.q_blocks)
  return pl.pallas_call(
    kernel,
    grid=(z.B, z.K, *steps),
    in_specs=[spec(kind) for _, kind in arrays],
    out_specs=[spec(kind) for _, kind in outputs],
    out_shape=[shape for shape, _ in outputs],
    scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * products * logits * z.S, transcendentals=2 * logits, bytes_accessed=moved
    ),
    interpret=interpret,
  )(*(x for x, _ in arrays))
