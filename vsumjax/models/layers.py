"""Layers that the towers share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vsumjax import sharding
from vsumjax.models import rows
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
  def __call__(self, x: jax.Array, **of: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """of: see `weights.contract`."""
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
    y = kernel(x, **of)
    return y + for_rows(bias.astype(x.dtype), y, *self.names[num_in:])


def rematted(block: type[nn.Module], *, keep_matmuls: bool, **kwargs: Any) -> type[nn.Module]:
  """A block whose backward pass computes most of its activations again.

  keep_matmuls: keep what weights were multiplied to, and the result of attention, so that only what
    is cheap is computed twice; False keeps the block's input alone.
  """
  policies = jax.checkpoint_policies
  policy = policies.save_from_both_policies(
    policies.dots_with_no_batch_dims_saveable,
    policies.save_only_these_names(attention.KEPT),
  )
  return nn.remat(block, prevent_cse=False, policy=policy if keep_matmuls else None, **kwargs)


def for_rows(v: jax.Array, x: jax.Array, *names: str | None) -> jax.Array:
  """A scale or bias v, with the axes `names`, to combine with x, whose last axes are v's.

  Where devices share the rows of x, each row has its own copy, so that the gradient stays with its
  device until `rows.sum_over_rows`. Left to XLA, all devices sum it at once while the cores
  stand still.
  """
  num_rows = x.shape[0]
  if rows.shares_rows(num_rows):
    v = _copy_for_rows(names, num_rows, v)
    return v.reshape(num_rows, *(1,) * (x.ndim - v.ndim), *v.shape[1:])
  return v.reshape((1,) * (x.ndim - v.ndim) + v.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _copy_for_rows(names: tuple[str | None, ...], num_rows: int, v: jax.Array) -> jax.Array:
  whole = jnp.broadcast_to(rows.gather(v, *names), (num_rows, *v.shape))
  return sharding.constrain(whole, "batch", *(None,) * v.ndim)


def _copy_forward(names: tuple[str | None, ...], num_rows: int, v: jax.Array) -> tuple:
  return _copy_for_rows(names, num_rows, v), None


def _copy_backward(names: tuple[str | None, ...], num_rows: int, _: None, dv: jax.Array) -> tuple:
  total = rows.sum_over_rows(lambda dv: dv.sum(axis=0), (dv,), *names)
  return (total.astype(dv.dtype),)


_copy_for_rows.defvjp(_copy_forward, _copy_backward)


def rms_norm(
  x: Float[Array, "*n D"], scale: Float[Array, "*#n D"], eps: float = 1e-6
) -> Float[Array, "*n D"]:
  """x / rms(x) · (1 + scale), in float32 inside, as in Gemma."""
  x32 = x.astype(jnp.float32)
  square = checkpoint_name(jnp.mean(x32**2, axis=-1, keepdims=True), attention.KEPT)
  normed = x32 * jax.lax.rsqrt(square + eps)
  return (normed * (1 + scale.astype(jnp.float32))).astype(x.dtype)


class RMSNorm(nn.Module):
  """`rms_norm` with a learned scale."""

  @nn.compact
  def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
    scale = self.param("scale", named(nn.initializers.zeros, "width"), (x.shape[-1],))
    return rms_norm(x, for_rows(scale, x, "width"))


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
    scale, bias = (for_rows(v, x, "width") for v in (scale, bias))
    return (normed * scale + bias).astype(x.dtype)
