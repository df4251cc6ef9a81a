"""Layers that the towers share."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vsumjax.sharding import named


class Einsum(nn.Module):
  """One weight `w` and one einsum with it, in the dtype of the input.

  `fan_in` axes of the weight set the scale of its initialisation.
  """

  shape: Sequence[int]
  names: Sequence[str | None]
  fan_in: int | tuple[int, ...]
  fan_out: int | tuple[int, ...]
  batch_axis: int | tuple[int, ...] = ()

  @nn.compact
  def __call__(self, equation: str, x: jax.Array) -> jax.Array:
    init = nn.initializers.variance_scaling(
      1.0, "fan_in", "normal", self.fan_in, self.fan_out, self.batch_axis
    )
    w = self.param("w", named(init, *self.names), tuple(self.shape))
    return jnp.einsum(equation, x, w.astype(x.dtype))


class Dense(nn.Module):
  """`x · kernel + bias` over any number of in and out axes, named as in big_vision's ViT."""

  in_shape: Sequence[int]
  out_shape: Sequence[int]
  names: Sequence[str | None]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    num_in, num_out = len(self.in_shape), len(self.out_shape)
    init = nn.initializers.variance_scaling(
      1.0, "fan_avg", "uniform", tuple(range(num_in)), tuple(range(num_in, num_in + num_out))
    )
    shape = (*self.in_shape, *self.out_shape)
    kernel = self.param("kernel", named(init, *self.names), shape)
    zeros = named(nn.initializers.zeros, *self.names[num_in:])
    bias = self.param("bias", zeros, tuple(self.out_shape))
    y = jax.lax.dot_general(
      x,
      kernel.astype(x.dtype),
      ((tuple(range(x.ndim - num_in, x.ndim)), tuple(range(num_in))), ((), ())),
    )
    return y + like(y, bias.astype(x.dtype))


def like(x: jax.Array, y: jax.Array) -> jax.Array:
  """y with leading axes of 1 up to the rank of x: no silent rank promotion."""
  return y.reshape((1,) * (x.ndim - y.ndim) + y.shape)


def rms_norm(
  x: Float[Array, "*n D"], scale: Float[Array, "*#n D"], eps: float = 1e-6
) -> Float[Array, "*n D"]:
  """x / rms(x) · (1 + scale), in float32 inside, as in Gemma."""
  x32 = x.astype(jnp.float32)
  normed = x32 * jax.lax.rsqrt(jnp.mean(x32**2, axis=-1, keepdims=True) + eps)
  return (normed * (1 + scale.astype(jnp.float32))).astype(x.dtype)


class RMSNorm(nn.Module):
  """`rms_norm` with a learned scale."""

  @nn.compact
  def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
    scale = self.param("scale", named(nn.initializers.zeros, "width"), (x.shape[-1],))
    return rms_norm(x, like(x, scale))


class LayerNorm(nn.Module):
  """Layer norm with scale and bias, eps 1e-6, in float32 inside."""

  @nn.compact
  def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
    shape = (x.shape[-1],)
    scale = self.param("scale", named(nn.initializers.ones, "width"), shape)
    bias = self.param("bias", named(nn.initializers.zeros, "width"), shape)
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return (normed * like(x, scale) + like(x, bias)).astype(x.dtype)
