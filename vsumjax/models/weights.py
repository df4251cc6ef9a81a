"""Weights as they are kept and multiplied with: plain or quantised, with adapters or without."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import qwix

from vsumjax import sharding
from vsumjax.models import lora, quantization
from vsumjax.sharding import named


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
  """lora: which weights have adapters. quantize: "" or one of `quantization.KINDS`."""

  lora: lora.LoraConfig = dataclasses.field(default_factory=lora.LoraConfig)
  quantize: str = ""


def contract(
  equation: str, x: jax.Array, w: jax.Array, names: tuple[str | None, ...] | None = None
) -> jax.Array:
  """`einsum` of x with a weight in the dtype of x; `n` stands for all leading axes of x.

  Example: contract("nD,DM->nM", x_BTD, w_DM) is x_BTM. The tokens lie in one axis meanwhile, which
  makes the weight's gradient one matmul; XLA:CPU copies both sides of a sum over (B, T).

  names: of the axes of w; where they lie on devices that share the rows, the weight is gathered in
    the dtype of x, and its gradient is summed into the parts that it is kept in.
  """
  lead = x.shape[: x.ndim - equation.index(",") + 1]
  x = x.reshape(-1, *x.shape[len(lead) :])
  if names and sharding.is_spread(len(x), *names):
    y = _spread_product(equation, names, x, w)
  else:
    y = jnp.einsum(equation, x, w.astype(x.dtype))
  return y.reshape(*lead, *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spread_product(
  equation: str, names: tuple[str | None, ...], x: jax.Array, w: jax.Array
) -> jax.Array:
  return _spread_forward(equation, names, x, w)[0]


def _spread_forward(
  equation: str, names: tuple[str | None, ...], x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Keeps the weight in parts: it is gathered once more for the backward pass.

  The product stands here by itself, where the policies of `jax.checkpoint` see it.
  """
  return jnp.einsum(equation, x, sharding.gather(w.astype(x.dtype), *names)), (x, w)


def _spread_backward(
  equation: str, names: tuple[str | None, ...], saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, w = saved
  (x_axes, w_axes), y_axes = equation.split("->")[0].split(","), equation.split("->")[1]
  whole = sharding.gather(w.astype(x.dtype), *names)
  dx = jnp.einsum(f"{y_axes},{w_axes}->{x_axes}", dy, whole)
  product = functools.partial(jnp.einsum, f"{x_axes},{y_axes}->{w_axes}")
  return dx, sharding.sum_over_rows(product, (x, dy), *names).astype(w.dtype)


_spread_product.defvjp(_spread_forward, _spread_backward)


def weight(
  module: nn.Module,
  config: WeightsConfig,
  name: str,
  init: Callable[..., jax.Array],
  names: Sequence[str | None],
  shape: Sequence[int],
  equation: str,
  *,
  stacked: bool = False,
) -> Callable[[jax.Array], Any]:
  """Creates a parameter of `module`; returns the function x -> `contract(equation, x, w)`.

  Whatever is multiplied with a weight goes through here, so that each may be quantised and adapted.

  stacked: the first axis of w holds several weights, and the function returns as many outputs.
  """
  path = "/".join((*module.path, name))
  ins, _ = _axes_of(equation, first=int(stacked))
  if config.quantize and quantization.PATHS.fullmatch(path):
    init_named = quantization.quantized(init, names, config.quantize, ins)
  else:
    init_named = named(init, *names)
  w = module.param(name, init_named, tuple(shape))
  names_of_one = tuple(names)[int(stacked) :]
  if isinstance(w, qwix.QArray):
    # Frozen, and smaller than what it unpacks to.
    w = qwix.dequantize(dataclasses.replace(w, qvalue=sharding.gather(w.qvalue, *names)))
    names_of_one = None
  arrays = [w]
  if config.lora.adapts(path):
    arrays += _adapters(module, name, config.lora.rank, names, shape, ins, stacked)

  def multiply(x: jax.Array) -> Any:
    if stacked:
      parts = zip(*arrays, strict=True)
      return tuple(_contract(equation, x, config.lora, names_of_one, *part) for part in parts)
    return _contract(equation, x, config.lora, names_of_one, *arrays)

  return multiply


def _axes_of(equation: str, first: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Which axes of the weight are contracted and which are not, the first of them numbered `first`.

  Example: of "nD,HDS->nHS" ((1,), (0, 2)).
  """
  x_axes, w_axes = equation.split("->")[0].split(",")
  numbered = list(enumerate(w_axes, first))
  ins = tuple(number for number, axis in numbered if axis in x_axes)
  return ins, tuple(number for number, axis in numbered if axis not in x_axes)


def _adapters(
  module: nn.Module,
  name: str,
  rank: int,
  names: Sequence[str | None],
  shape: Sequence[int],
  ins: tuple[int, ...],
  stacked: bool,
) -> tuple[jax.Array, jax.Array]:
  """The parameters a and b of a weight, in the shapes that `models.lora` tells."""
  outs = tuple(axis for axis in range(int(stacked), len(shape)) if axis not in ins)

  def create(suffix: str, init: Callable[..., jax.Array], absent: tuple[int, ...]) -> jax.Array:
    sizes = [1 if axis in absent else size for axis, size in enumerate(shape)]
    axis_names = [None if axis in absent else name for axis, name in enumerate(names)]
    return module.param(name + suffix, named(init, *axis_names, "rank"), (*sizes, rank))

  fan_in = math.prod(shape[axis] for axis in ins)
  a = create(lora.A, nn.initializers.normal(fan_in**-0.5), outs)
  return a, create(lora.B, nn.initializers.zeros, ins)


def _contract(
  equation: str,
  x: jax.Array,
  config: lora.LoraConfig,
  names: tuple[str | None, ...] | None,
  w: jax.Array,
  *adapters: jax.Array,
) -> jax.Array:
  """x · w, or with the adapters a and b of w, x · w + alpha / rank · (x · a) · b."""
  y = contract(equation, x, w, names)
  if not adapters:
    return y
  a, b = adapters
  ins, outs = _axes_of(equation)
  (x_axes, w_axes), y_axes = equation.split("->")[0].split(","), equation.split("->")[1]
  in_axes, out_axes = ("".join(w_axes[axis] for axis in axes) for axes in (ins, outs))
  x_nR = contract(f"{x_axes},{in_axes}R->nR", x, a.squeeze(outs))
  return y + config.scale * contract(f"nR,{out_axes}R->{y_axes}", x_nR, b.squeeze(ins))
