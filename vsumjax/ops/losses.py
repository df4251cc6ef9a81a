"""Losses over score classes. Each returns (sum, weight); divide last.

A weight of 0 removes an entry whatever its logits or targets hold, NaN included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Pair = tuple[Float[Array, ""], Float[Array, ""]]
DIRECTIONS = ("forward", "reverse", "js")


def weighted(value: Float[Array, "*n"], weight: Float[Array, "*n"]) -> Pair:
  """(sum of weight · value, sum of weight), blind to values whose weight is 0."""
  return jnp.sum(jnp.where(weight > 0, value * weight, 0.0)), jnp.sum(weight)


def cross_entropy_loss(
  logits: Float[Array, "*n C"], targets: Float[Array, "*n C"], weight: Float[Array, "*n"]
) -> Pair:
  """-Σ_c targets_c · log p_c; targets may be hard (one-hot) or a histogram."""
  logp = jax.nn.log_softmax(present(logits, weight).astype(jnp.float32))
  return weighted(-jnp.sum(present(targets, weight) * logp, axis=-1), weight)


def kl_loss(
  student_logits: Float[Array, "*n C"],
  teacher_logits: Float[Array, "*n C"],
  weight: Float[Array, "*n"],
  *,
  temperature: float,
  direction: str,
) -> Pair:
  """T² · divergence between the classes of teacher p and student q at temperature T.

  Directions:
    forward: KL(p ‖ q).
    reverse: KL(q ‖ p), the formula of DEEVISum (2504.21831).
    js: Jensen-Shannon, ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q): at most log 2, and a quarter
      of the others where p and q are close (Lin, 1991).

  T² keeps the size of the gradient (Hinton et al., 1503.02531). No gradient flows to the teacher.
  """
  if direction not in DIRECTIONS:
    raise ValueError(f"direction {direction!r} is not one of {DIRECTIONS}")
  teacher = jax.lax.stop_gradient(present(teacher_logits, weight)).astype(jnp.float32)
  logq = jax.nn.log_softmax(present(student_logits, weight).astype(jnp.float32) / temperature)
  logp = jax.nn.log_softmax(teacher / temperature)
  if direction == "forward":
    divergence = _kl(logp, logq)
  elif direction == "reverse":
    divergence = _kl(logq, logp)
  else:
    logm = jnp.logaddexp(logp, logq) - jnp.log(2.0)
    divergence = 0.5 * (_kl(logp, logm) + _kl(logq, logm))
  return weighted(temperature**2 * divergence, weight)


def _kl(logp: Float[Array, "*n C"], logq: Float[Array, "*n C"]) -> Float[Array, "*n"]:
  return jnp.sum(jnp.exp(logp) * (logp - logq), axis=-1)


def ranking_loss(
  logits: Float[Array, "*n C"], targets: Float[Array, "*n C"], weight: Float[Array, "*n"]
) -> Pair:
  """Mean of log(1 + exp(s_j - s_i)) over all pairs whose labels put i above j, times the weight.

  s is the expected level, Σ_c c · p_c, which is also what orders the segments of a summary; labels
  are compared by theirs. A pair has the product of its weights. Entries without a label (targets
  of zeros) and ties are in no pair; without pairs the loss is 0. Pairs are of the whole batch, so
  that n entries take n² numbers. RankNet (Burges et al., 2005) with scores of at most C.
  """
  targets = present(targets, weight)
  weight = jnp.where(jnp.sum(targets, axis=-1) > 0, weight, 0.0)
  levels = jnp.arange(targets.shape[-1], dtype=jnp.float32)
  probs = jax.nn.softmax(present(logits, weight).astype(jnp.float32))
  score, label, weight = (x.reshape(-1) for x in (probs @ levels, targets @ levels, weight))
  above = label[:, None] > label[None, :]
  pairs = jnp.where(above, weight[:, None] * weight[None, :], 0.0)
  total = jnp.sum(pairs * jax.nn.softplus(score[None, :] - score[:, None]))
  num_pairs = jnp.sum(pairs)
  mean = total / jnp.where(num_pairs > 0, num_pairs, 1.0)
  return mean * jnp.sum(weight), jnp.sum(weight)


def present(x: Float[Array, "*n C"], weight: Float[Array, "*n"]) -> Float[Array, "*n C"]:
  """x with zeros where the weight is 0, so that garbage there reaches no gradient either."""
  return jnp.where(weight[..., None] > 0, x, 0.0)
