"""Layers that the towers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vsumjax.models.weights import WeightsConfig, weight
from vsumjax.ops import attention
from vsumjax.sharding import named


class Einsum(nn.Module):
  """One weight `w` and one `weights.contract` with it.

  `fan_in` axes of the weight set the scale of its initialisation.
  stacked: the first axis of w holds several weights, and the call returns as many outputs.
  """

  shape: Sequence[int]
  names: Sequence[str | None]
  fan_in: int | tuple[int, ...]
  fan_out: int | tuple[int, ...]
  stacked: bool = False
  weights: WeightsConfig = WeightsConfig()

  @nn.compact
  def __call__(self, equation: str, x: jax.Array) -> Any:
    init = nn.initializers.variance_scaling(
      1.0, "fan_in", "normal", self.fan_in, self.fan_out, (0,) if self.stacked else ()
    )
    w = weight(
      self, self.weights, "w", init, self.names, self.shape, equation, stacked=self.stacked
    )
    return w(x)


class Dense(nn.Module):
  """`x · kernel + bias` over any number of in and out axes, named as in big_vision's ViT."""

  in_shape: Sequence[int]
  out_shape: Sequence[int]
  names: Sequence[str | None]
  weights: WeightsConfig = WeightsConfig()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    num_in, num_out = len(self.in_shape), len(self.out_shape)
    init = nn.initializers.variance_scaling(
      1.0, "fan_avg", "uniform", tuple(range(num_in)), tuple(range(num_in, num_in + num_out))
    )
    shape = (*self.in_shape, *self.out_shape)
    ins, outs = "abc"[:num_in], "xyz"[:num_out]
    equation = f"n{ins},{ins}{outs}->n{outs}"
    kernel = weight(self, self.weights, "kernel", init, self.names, shape, equation)
    zeros = named(nn.initializers.zeros, *self.names[num_in:])
    bias = self.param("bias", zeros, tuple(self.out_shape))
    y = kernel(x)
    return y + like(y, bias.astype(x.dtype))


def rematted(block: type[nn.Module], *, keep_matmuls: bool, **kwargs: Any) -> type[nn.Module]:
  """A block whose backward pass computes most of its activations again.

  keep_matmuls: keep what weights were multiplied to, and the result of attention, so that only what
    is cheap is computed twice; False keeps the block's input alone.
  """
  policies = jax.checkpoint_policies
  policy = policies.save_from_both_policies(
    policies.dots_with_no_batch_dims_saveable,
    policies.save_only_these_names(attention.RESULT),
  )
  return nn.remat(block, prevent_cse=False, policy=policy if keep_matmuls else None, **kwargs)


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
