"""Losses over score classes. Each returns (sum, weight); divide last.

A weight of 0 removes an entry whatever its logits or targets hold, NaN included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Pair = tuple[Float[Array, ""], Float[Array, ""]]


def weighted(value: Float[Array, "*n"], weight: Float[Array, "*n"]) -> Pair:
  """(sum of weight · value, sum of weight), blind to values whose weight is 0."""
  return jnp.sum(jnp.where(weight > 0, value * weight, 0.0)), jnp.sum(weight)


def cross_entropy_loss(
  logits: Float[Array, "*n C"], targets: Float[Array, "*n C"], weight: Float[Array, "*n"]
) -> Pair:
  """-Σ_c targets_c · log p_c; targets may be hard (one-hot) or a histogram."""
  logp = jax.nn.log_softmax(_present(logits, weight).astype(jnp.float32))
  return weighted(-jnp.sum(_present(targets, weight) * logp, axis=-1), weight)


def kl_loss(
  student_logits: Float[Array, "*n C"],
  teacher_logits: Float[Array, "*n C"],
  weight: Float[Array, "*n"],
  *,
  temperature: float,
  reverse: bool,
) -> Pair:
  """T² · KL between the classes of teacher and student at temperature T.

  forward is KL(teacher ‖ student); reverse is KL(student ‖ teacher), the formula of DEEVISum
  (2504.21831). T² keeps the size of the gradient (Hinton et al., 1503.02531). No gradient flows
  to the teacher.
  """
  teacher = jax.lax.stop_gradient(_present(teacher_logits, weight)).astype(jnp.float32)
  logq = jax.nn.log_softmax(_present(student_logits, weight).astype(jnp.float32) / temperature)
  logp = jax.nn.log_softmax(teacher / temperature)
  if reverse:
    logp, logq = logq, logp
  kl = jnp.sum(jnp.exp(logp) * (logp - logq), axis=-1)
  return weighted(temperature**2 * kl, weight)


def _present(x: Float[Array, "*n C"], weight: Float[Array, "*n"]) -> Float[Array, "*n C"]:
  """x with zeros where the weight is 0, so that garbage there reaches no gradient either."""
  return jnp.where(weight[..., None] > 0, x, 0.0)
