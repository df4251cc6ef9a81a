"""The LM head over a large vocabulary, a chunk of it at a time, so that [n, V] never exists.

Logits are soft_cap(hidden · embeddingᵀ, cap) / temperature, Gemma's tied head; `hidden` is what
that head reads, after the final norm. They are summed up in float32 from factors in the dtype of
`hidden`, and computed again in the backward pass.

Chunk k of K holds the ids k, k + K, k + 2K, ...: of an embedding whose vocabulary is sharded, every
device then works on rows of its own in every chunk.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vsumjax.ops.attention import MASKED_LOGIT, soft_cap

# PaliGemma's 257,152 tokens are 49 chunks of this size: none is padded, so none is copied.
CHUNK = 5248


def logits_and_logsumexp(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  ids: Int[Array, "*n J"],
  *,
  cap: float,
  temperature: float = 1.0,
  chunk: int = CHUNK,
  without_ids: bool = False,
) -> tuple[Float[Array, "*n J"], Float[Array, "*n"]]:
  """Logits / temperature of the tokens `ids`, and the logsumexp of those of the vocabulary.

  ids: in 0 .. V - 1; some may be alike.
  without_ids: the logsumexp leaves these tokens out. (Subtracting them afterwards would cancel.)
  """
  return _at_and_logsumexp(cap, temperature, chunk, without_ids, hidden, embedding_VD, ids)


def kl_of_heads(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  teacher_hidden: Float[Array, "*n W"],
  teacher_embedding_VW: Float[Array, "V W"],
  *,
  cap: float,
  teacher_cap: float,
  temperature: float,
  chunk: int = CHUNK,
) -> Float[Array, "*n"]:
  """KL(teacher ‖ student) over the vocabulary; W is the teacher's width. The teacher is fixed."""
  arrays = (hidden, embedding_VD, teacher_hidden, teacher_embedding_VW)
  return _kl_of_heads(cap, teacher_cap, temperature, chunk, *arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _at_and_logsumexp(
  cap: float,
  temperature: float,
  chunk: int,
  without_ids: bool,
  hidden: jax.Array,
  embedding_VD: jax.Array,
  ids: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  head = _Head.build(hidden, embedding_VD, cap, temperature, chunk)

  def step(carry: tuple[jax.Array, _RunningSum], k: jax.Array) -> tuple[tuple, None]:
    at, total = carry
    logits, rows = head.logits(k), head.rows_of(k, ids)
    at += jnp.take_along_axis(logits, rows, axis=-1, mode="fill", fill_value=0)
    if without_ids:
      logits = _put(logits, rows, MASKED_LOGIT)
    return (at, total.add(logits)), None

  start = jnp.zeros(ids.shape, jnp.float32), _RunningSum.empty(hidden.shape[:-1])
  (at, total), _ = jax.lax.scan(step, start, head.chunks())
  return at, total.log()


def _at_and_logsumexp_forward(
  cap: float, temperature: float, chunk: int, without_ids: bool, *arrays: jax.Array
) -> tuple[tuple, tuple]:
  at, logsumexp = _at_and_logsumexp(cap, temperature, chunk, without_ids, *arrays)
  return (at, logsumexp), (*arrays, logsumexp)


def _at_and_logsumexp_backward(
  cap: float, temperature: float, chunk: int, without_ids: bool, saved: tuple, cotangents: tuple
) -> tuple:
  hidden, embedding_VD, ids, logsumexp = saved
  dat, dlogsumexp = cotangents
  head = _Head.build(hidden, embedding_VD, cap, temperature, chunk)

  def dlogits(k: jax.Array, logits: jax.Array) -> jax.Array:
    rows = head.rows_of(k, ids)
    share = jnp.exp(logits - logsumexp[..., None])
    if without_ids:
      share = _put(share, rows, 0.0)
    return _add(dlogsumexp[..., None] * share, rows, dat)

  return *head.gradients(dlogits), None


_at_and_logsumexp.defvjp(_at_and_logsumexp_forward, _at_and_logsumexp_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _kl_of_heads(
  cap: float, teacher_cap: float, temperature: float, chunk: int, *arrays: jax.Array
) -> jax.Array:
  return _kl_of_heads_forward(cap, teacher_cap, temperature, chunk, *arrays)[0]


def _kl_of_heads_forward(
  cap: float, teacher_cap: float, temperature: float, chunk: int, *arrays: jax.Array
) -> tuple[jax.Array, tuple]:
  student = _Head.build(*arrays[:2], cap, temperature, chunk)
  teacher = _Head.build(*arrays[2:], teacher_cap, temperature, chunk)

  def step(carry: tuple[_RunningSum, _RunningSum, jax.Array], k: jax.Array) -> tuple[tuple, None]:
    student_sum, teacher_sum, inner = carry
    logits, teacher_logits = student.logits(k), teacher.logits(k)
    added = teacher_sum.add(teacher_logits)
    share = jnp.exp(teacher_logits - added.max[..., None])
    inner *= jnp.exp(teacher_sum.max - added.max)
    inner += jnp.sum(share * (teacher_logits - logits), axis=-1)
    return (student_sum.add(logits), added, inner), None

  empty = _RunningSum.empty(arrays[0].shape[:-1])
  (student_sum, teacher_sum, inner), _ = jax.lax.scan(
    step, (empty, empty, empty.sum), student.chunks()
  )
  logsumexp, teacher_logsumexp = student_sum.log(), teacher_sum.log()
  kl = inner / teacher_sum.sum - teacher_logsumexp + logsumexp
  return kl, (*arrays, logsumexp, teacher_logsumexp)


def _kl_of_heads_backward(
  cap: float, teacher_cap: float, temperature: float, chunk: int, saved: tuple, dkl: jax.Array
) -> tuple:
  *arrays, logsumexp, teacher_logsumexp = saved
  student = _Head.build(*arrays[:2], cap, temperature, chunk)
  teacher = _Head.build(*arrays[2:], teacher_cap, temperature, chunk)

  def dlogits(k: jax.Array, logits: jax.Array) -> jax.Array:
    q = jnp.exp(logits - logsumexp[..., None])
    p = jnp.exp(teacher.logits(k) - teacher_logsumexp[..., None])
    return dkl[..., None] * (q - p)

  return *student.gradients(dlogits), None, None


_kl_of_heads.defvjp(_kl_of_heads_forward, _kl_of_heads_backward)


class _RunningSum(NamedTuple):
  """Sum of exponentials of what was added so far, as sum · exp(max)."""

  max: jax.Array
  sum: jax.Array

  @classmethod
  def empty(cls, shape: tuple[int, ...]) -> _RunningSum:
    return cls(jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.float32))

  def add(self, logits: jax.Array) -> _RunningSum:
    highest = jnp.maximum(self.max, logits.max(axis=-1))
    added = jnp.exp(logits - highest[..., None]).sum(axis=-1)
    return _RunningSum(highest, self.sum * jnp.exp(self.max - highest) + added)

  def log(self) -> jax.Array:
    return self.max + jnp.log(self.sum)


@dataclasses.dataclass(frozen=True)
class _Head:
  """The LM head over K chunks of C tokens; logits are those divided by the temperature."""

  hidden: jax.Array
  table_CKD: jax.Array
  vocab_size: int
  cap: float
  temperature: float

  @classmethod
  def build(
    cls, hidden: jax.Array, embedding_VD: jax.Array, cap: float, temperature: float, chunk: int
  ) -> _Head:
    V, D = embedding_VD.shape
    K = -(-V // chunk)
    padded_VD = jnp.pad(embedding_VD, ((0, -V % K), (0, 0)))
    return cls(hidden, padded_VD.reshape(-1, K, D), V, cap, temperature)

  def chunks(self) -> jax.Array:
    return jnp.arange(self.table_CKD.shape[1])

  def rows_of(self, k: jax.Array, ids: jax.Array) -> jax.Array:
    """Where in chunk k each id lies; C where in none of its rows."""
    C, K, _ = self.table_CKD.shape
    return jnp.where(ids % K == k, ids // K, C)

  def logits(self, k: jax.Array) -> jax.Array:
    """f32[*n, C] of chunk k; `MASKED_LOGIT` behind the end of the vocabulary."""
    logits = jnp.einsum(
      "...D,CD->...C", self.hidden, self._rows_CD(k), preferred_element_type=jnp.float32
    )
    logits = soft_cap(logits, self.cap) / self.temperature
    row = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jnp.where(row * self.table_CKD.shape[1] + k < self.vocab_size, logits, MASKED_LOGIT)

  def gradients(
    self, dlogits_of: Callable[[jax.Array, jax.Array], jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    """Of hidden and embedding; dlogits_of(k, logits of chunk k) -> their gradient."""

    def step(carry: tuple[jax.Array, jax.Array], k: jax.Array) -> tuple[tuple, None]:
      dhidden, dtable_CKD = carry
      added, drows_CD = self._chunk_gradients(k, dlogits_of)
      dtable_CKD = jax.lax.dynamic_update_index_in_dim(dtable_CKD, drows_CD, k, 1)
      return (dhidden + added, dtable_CKD), None

    start = jnp.zeros(self.hidden.shape, jnp.float32), jnp.zeros_like(self.table_CKD)
    (dhidden, dtable_CKD), _ = jax.lax.scan(step, start, self.chunks())
    dembedding_VD = dtable_CKD.reshape(-1, dtable_CKD.shape[-1])[: self.vocab_size]
    return dhidden.astype(self.hidden.dtype), dembedding_VD

  def _chunk_gradients(
    self, k: jax.Array, dlogits_of: Callable[[jax.Array, jax.Array], jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    logits = self.logits(k)
    dlogits = dlogits_of(k, logits) / self.temperature
    if self.cap:
      dlogits *= 1 - (logits * self.temperature / self.cap) ** 2
    dlogits = dlogits.astype(self.hidden.dtype)
    dhidden = jnp.einsum(
      "...C,CD->...D", dlogits, self._rows_CD(k), preferred_element_type=jnp.float32
    )
    leading = tuple(range(dlogits.ndim - 1))
    drows_CD = jnp.tensordot(
      dlogits, self.hidden, (leading, leading), preferred_element_type=jnp.float32
    )
    return dhidden, drows_CD.astype(self.table_CKD.dtype)

  def _rows_CD(self, k: jax.Array) -> jax.Array:
    rows_CD = jax.lax.dynamic_index_in_dim(self.table_CKD, k, axis=1, keepdims=False)
    return rows_CD.astype(self.hidden.dtype)


@functools.partial(jnp.vectorize, signature="(c),(j),()->(c)")
def _put(x_C: jax.Array, index_J: jax.Array, value: jax.Array) -> jax.Array:
  return x_C.at[index_J].set(value, mode="drop")


@functools.partial(jnp.vectorize, signature="(c),(j),(j)->(c)")
def _add(x_C: jax.Array, index_J: jax.Array, value_J: jax.Array) -> jax.Array:
  return x_C.at[index_J].add(value_J, mode="drop")
