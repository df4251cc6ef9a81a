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

from vsumjax.models import lora, quantization, rows
from vsumjax.sharding import named


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
  """lora: which weights have adapters. quantize: "" or one of `quantization.KINDS`."""

  lora: lora.LoraConfig = dataclasses.field(default_factory=lora.LoraConfig)
  quantize: str = ""


Names = tuple[str | None, ...]


def _itself(x: jax.Array) -> jax.Array:
  return x


def contract(
  equation: str,
  *xs: jax.Array,
  w: jax.Array,
  names: Names | None = None,
  of: Callable[..., jax.Array] = _itself,
) -> jax.Array:
  """`einsum` of x = of(*xs) with a weight in the dtype of x; `n` is all leading axes of x.

  Example: contract("nD,DM->nM", x_BTD, w=w_DM) is x_BTM. The tokens lie in one axis meanwhile,
  which makes the weight's gradient one matmul; XLA:CPU copies both sides of a sum over (B, T).

  Args:
    xs: arrays of one shape. of: an elementwise function of them.
    names: of the axes of w; where they lie on devices that share the rows, the weight is gathered
      in the dtype of x, and its gradient is summed into the parts that it is kept in.
  """
  lead = xs[0].shape[: xs[0].ndim - equation.index(",") + 1]
  xs = tuple(x.reshape(-1, *x.shape[len(lead) :]) for x in xs)
  if names and rows.is_spread(len(xs[0]), *names):
    y = _spread_product(equation, names, of, xs, w)
  else:
    x = of(*xs)
    y = jnp.einsum(equation, x, w.astype(x.dtype))
  return y.reshape(*lead, *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _spread_product(
  equation: str, names: Names, of: Callable, xs: tuple[jax.Array, ...], w: jax.Array
) -> jax.Array:
  return _spread_forward(equation, names, of, xs, w)[0]


def _spread_forward(
  equation: str, names: Names, of: Callable, xs: tuple[jax.Array, ...], w: jax.Array
) -> tuple[jax.Array, tuple]:
  """Keeps the weight in parts: it is gathered once more for the backward pass.

  The product stands here by itself, where the policies of `jax.checkpoint` see it.
  """
  x = of(*xs)
  return jnp.einsum(equation, x, rows.gather(w.astype(x.dtype), *names)), (xs, w)


def _spread_backward(
  equation: str, names: Names, of: Callable, saved: tuple, dy: jax.Array
) -> tuple[tuple[jax.Array, ...], jax.Array]:
  xs, w = saved
  (x_axes, w_axes), y_axes = equation.split("->")[0].split(","), equation.split("->")[1]
  whole = rows.gather(w.astype(dy.dtype), *names)
  x, pull_back = jax.vjp(of, *xs)
  dxs = pull_back(jnp.einsum(f"{y_axes},{w_axes}->{x_axes}", dy, whole))
  if of is not _itself:
    # x and dxs are one pass over xs, behind the product above. Apart, XLA:TPU copies what a scan
    # kept of xs before it reads it.
    x, dxs = jax.lax.optimization_barrier((x, dxs))
  product = functools.partial(jnp.einsum, f"{x_axes},{y_axes}->{w_axes}")
  return dxs, rows.sum_over_rows(product, (x, dy), *names).astype(w.dtype)


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
  """Creates a parameter of `module`; returns `contract` with it: (*xs, of=...) -> y.

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
    w = qwix.dequantize(dataclasses.replace(w, qvalue=rows.gather(w.qvalue, *names)))
    names_of_one = None
  arrays = [w]
  if config.lora.adapts(path):
    arrays += _adapters(module, name, config.lora.rank, names, shape, ins, stacked)

  def multiply(*xs: jax.Array, of: Callable[..., jax.Array] = _itself) -> Any:
    contract_with = functools.partial(_contract, equation, xs, of, config.lora, names_of_one)
    if stacked:
      return tuple(contract_with(*part) for part in zip(*arrays, strict=True))
    return contract_with(*arrays)

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
  xs: tuple[jax.Array, ...],
  of: Callable[..., jax.Array],
  config: lora.LoraConfig,
  names: Names | None,
  w: jax.Array,
  *adapters: jax.Array,
) -> jax.Array:
  """x · w, or with the adapters a and b of w, x · w + alpha / rank · (x · a) · b."""
  y = contract(equation, *xs, w=w, names=names, of=of)
  if not adapters:
    return y
  a, b = adapters
  ins, outs = _axes_of(equation)
  (x_axes, w_axes), y_axes = equation.split("->")[0].split(","), equation.split("->")[1]
  in_axes, out_axes = ("".join(w_axes[axis] for axis in axes) for axes in (ins, outs))
  x_nR = contract(f"{x_axes},{in_axes}R->nR", *xs, w=a.squeeze(outs), of=of)
  return y + config.scale * contract(f"nR,{out_axes}R->{y_axes}", x_nR, w=b.squeeze(ins))
