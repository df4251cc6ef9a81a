"""Pooling of vision tokens."""

from __future__ import annotations

import math

from jaxtyping import Array, Float


def pool_tokens(x_ITD: Float[Array, "I T D"], num_tokens: int) -> Float[Array, "I P D"]:
  """Averages a square grid of T tokens over square windows down to P = `num_tokens`.

  P = T is the identity. Example: T = 36 (6 x 6), P = 9: means of 2 x 2 neighbours.

  Raises:
    ValueError: if T or P is not a square, or the side of P does not divide that of T.
  """
  I, T, D = x_ITD.shape
  side, pooled = math.isqrt(T), math.isqrt(num_tokens)
  if side**2 != T or pooled**2 != num_tokens or side % pooled:
    raise ValueError(f"cannot pool {T} tokens to {num_tokens}: sides must be whole and divide")
  w = side // pooled
  return x_ITD.reshape(I, pooled, w, pooled, w, D).mean(axis=(2, 4)).reshape(I, num_tokens, D)
