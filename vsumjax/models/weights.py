"""Weights as they are kept and multiplied with: plain or quantised, with adapters or without."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import qwix

from vsumjax.models import lora, quantization
from vsumjax.sharding import named


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
  """lora: which weights have adapters. quantize: "" or one of `quantization.KINDS`."""

  lora: lora.LoraConfig = dataclasses.field(default_factory=lora.LoraConfig)
  quantize: str = ""


def contract(equation: str, x: jax.Array, w: jax.Array) -> jax.Array:
  """`einsum` of x with a weight in the dtype of x; `n` stands for all leading axes of x.

  Example: contract("nD,DM->nM", x_BTD, w_DM) is x_BTM. The tokens lie in one axis meanwhile, which
  makes the weight's gradient one matmul; XLA:CPU copies both sides of a sum over (B, T).
  """
  lead = x.shape[: x.ndim - equation.index(",") + 1]
  y = jnp.einsum(equation, x.reshape(-1, *x.shape[len(lead) :]), w.astype(x.dtype))
  return y.reshape(*lead, *y.shape[1:])


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
  arrays = [qwix.dequantize(w) if isinstance(w, qwix.QArray) else w]
  if config.lora.adapts(path):
    arrays += _adapters(module, name, config.lora.rank, names, shape, ins, stacked)

  def multiply(x: jax.Array) -> Any:
    if stacked:
      return tuple(_contract(equation, x, config.lora, *part) for part in zip(*arrays, strict=True))
    return _contract(equation, x, config.lora, *arrays)

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
  equation: str, x: jax.Array, config: lora.LoraConfig, w: jax.Array, *adapters: jax.Array
) -> jax.Array:
  """x · w, or with the adapters a and b of w, x · w + alpha / rank · (x · a) · b."""
  y = contract(equation, x, w)
  if not adapters:
    return y
  a, b = adapters
  ins, outs = _axes_of(equation)
  (x_axes, w_axes), y_axes = equation.split("->")[0].split(","), equation.split("->")[1]
  in_axes, out_axes = ("".join(w_axes[axis] for axis in axes) for axes in (ins, outs))
  x_nR = contract(f"{x_axes},{in_axes}R->nR", x, a.squeeze(outs))
  return y + config.scale * contract(f"nR,{out_axes}R->{y_axes}", x_nR, b.squeeze(ins))
