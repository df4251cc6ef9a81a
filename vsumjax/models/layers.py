"""Layers that the towers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vsumjax.ops import attention
from vsumjax.sharding import named


def contract(equation: str, x: jax.Array, w: jax.Array) -> jax.Array:
  """`einsum` of x with a weight in the dtype of x; `n` stands for all leading axes of x.

  Example: contract("nD,DM->nM", x_BTD, w_DM) is x_BTM. The tokens lie in one axis meanwhile, which
  makes the weight's gradient one matmul; XLA:CPU copies both sides of a sum over (B, T).
  """
  lead = x.shape[: x.ndim - equation.index(",") + 1]
  y = jnp.einsum(equation, x.reshape(-1, *x.shape[len(lead) :]), w.astype(x.dtype))
  return y.reshape(*lead, *y.shape[1:])


class Einsum(nn.Module):
  """One weight `w` and one `contract` with it.

  `fan_in` axes of the weight set the scale of its initialisation.
  stacked: the first axis of w holds several weights, and the call returns as many outputs.
  """

  shape: Sequence[int]
  names: Sequence[str | None]
  fan_in: int | tuple[int, ...]
  fan_out: int | tuple[int, ...]
  stacked: bool = False

  @nn.compact
  def __call__(self, equation: str, x: jax.Array) -> Any:
    init = nn.initializers.variance_scaling(
      1.0, "fan_in", "normal", self.fan_in, self.fan_out, (0,) if self.stacked else ()
    )
    w = self.param("w", named(init, *self.names), tuple(self.shape))
    if self.stacked:
      return tuple(contract(equation, x, part) for part in w)
    return contract(equation, x, w)


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
    ins, outs = "abc"[:num_in], "xyz"[:num_out]
    y = contract(f"n{ins},{ins}{outs}->n{outs}", x, kernel)
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
