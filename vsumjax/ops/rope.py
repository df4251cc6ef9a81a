"""Rotary position embedding, half-split as in Gemma."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def apply_rope(
  x_BTHS: Float[Array, "B T H S"], position_BT: Int[Array, "B T"], base: float = 10_000.0
) -> Float[Array, "B T H S"]:
  """Rotates pairs (i, i + S/2) by position · base^(-2i/S) (RoFormer, 2104.09864), in float32."""
  S = x_BTHS.shape[-1]
  timescale = base ** (2 * jnp.arange(S // 2, dtype=jnp.float32) / S)
  angle = position_BT[:, :, None, None] / timescale.reshape(1, 1, 1, -1)
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  x1, x2 = jnp.split(x_BTHS.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)
  return rotated.astype(x_BTHS.dtype)
