"""Losses over a vocabulary, from hidden states and the tied embedding. Each returns (sum, weight).

`hidden` is what Gemma's LM head reads, after the final norm, and `cap` the head's soft cap (see
`vocab_head`): neither pass holds [n, V]. A weight of 0 removes an entry whatever it holds, NaN
included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vsumjax.ops.losses import Pair, present, weighted
from vsumjax.ops.vocab_head import CHUNK, kl_of_heads, logits_and_logsumexp
from vsumjax.types import TokenTargets


def token_cross_entropy_loss(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  ids: Int[Array, "*n"],
  weight: Float[Array, "*n"],
  *,
  cap: float,
  chunk: int = CHUNK,
) -> Pair:
  """-log q of the token `ids`."""
  ids = jnp.where(weight > 0, ids, 0)[..., None]
  at, logsumexp = logits_and_logsumexp(
    present(hidden, weight), embedding_VD, ids, cap=cap, chunk=chunk
  )
  return weighted(logsumexp - at[..., 0], weight)


def topk_kl_loss(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  targets: TokenTargets,
  weight: Float[Array, "*n"],
  *,
  cap: float,
  temperature: float,
  chunk: int = CHUNK,
) -> Pair:
  """T² · KL(p ‖ q) over the teacher's J likeliest tokens and one bucket with all others.

  targets: `topk` records (see `TokenTargets`), at this temperature. Nothing is normalised over the
  J tokens: they and the bucket have their true probabilities in p and in q. It is at most the KL
  over all tokens (what is equal within the bucket in p and q does not count), and its gradient
  vanishes where q agrees on the J tokens.
  """
  targets = _present_targets(targets, weight)
  at, rest = logits_and_logsumexp(
    present(hidden, weight), embedding_VD, targets.ids, cap=cap, temperature=temperature,
    chunk=chunk, without_ids=True,
  )  # fmt: skip
  logsumexp = jnp.logaddexp(jax.nn.logsumexp(at, axis=-1), rest)
  head = jnp.exp(targets.values) * (targets.values - (at - logsumexp[..., None]))
  # Values are rounded where they are stored; their sum may pass 1 by that much.
  tail_p = -jnp.expm1(jnp.minimum(jax.nn.logsumexp(targets.values, axis=-1), 0.0))
  log_tail_p = jnp.log(jnp.where(tail_p > 0, tail_p, 1.0))
  kl = head.sum(axis=-1) + tail_p * (log_tail_p - (rest - logsumexp))
  return weighted(temperature**2 * kl, weight)


def sampled_kl_loss(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  targets: TokenTargets,
  weight: Float[Array, "*n"],
  *,
  cap: float,
  temperature: float,
  chunk: int = CHUNK,
) -> Pair:
  """An unbiased estimate of T² · KL(p ‖ q) over all tokens, from draws of the teacher p.

  targets: `sampled` records (see `TokenTargets`), at this temperature. The shares of the draws
  stand for p in the cross entropy; the entropy of p is exact. The expectation over draws of value
  and gradient are those of `full_kl_loss` (sparse logit sampling, 2503.16870). Single values may be
  below 0.
  """
  targets = _present_targets(targets, weight)
  at, logsumexp = logits_and_logsumexp(
    present(hidden, weight), embedding_VD, targets.ids, cap=cap, temperature=temperature,
    chunk=chunk,
  )  # fmt: skip
  cross_entropy = jnp.sum(targets.values * (logsumexp[..., None] - at), axis=-1)
  return weighted(temperature**2 * (cross_entropy - targets.entropy), weight)


def full_kl_loss(
  hidden: Float[Array, "*n D"],
  embedding_VD: Float[Array, "V D"],
  teacher_hidden: Float[Array, "*n W"],
  teacher_embedding_VW: Float[Array, "V W"],
  weight: Float[Array, "*n"],
  *,
  cap: float,
  teacher_cap: float,
  temperature: float,
  chunk: int = CHUNK,
) -> Pair:
  """T² · KL(p ‖ q) over all tokens, for a teacher that runs beside the student.

  W is the teacher's width. No gradient flows to the teacher.
  """
  kl = kl_of_heads(
    present(hidden, weight), embedding_VD, present(teacher_hidden, weight), teacher_embedding_VW,
    cap=cap, teacher_cap=teacher_cap, temperature=temperature, chunk=chunk,
  )  # fmt: skip
  return weighted(temperature**2 * kl, weight)


def _present_targets(targets: TokenTargets, weight: jax.Array) -> TokenTargets:
  here = (weight > 0)[..., None]
  return TokenTargets(
    ids=jnp.where(here, targets.ids, 0),
    values=jnp.where(here, jax.lax.stop_gradient(targets.values), 0.0),
    logsumexp=targets.logsumexp,
    entropy=jnp.where(weight > 0, jax.lax.stop_gradient(targets.entropy), 0.0),
  )
