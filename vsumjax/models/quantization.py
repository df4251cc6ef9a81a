"""Weights kept in int8 or int4, by qwix; activations keep their dtype.

A quantised weight is a `qwix.QArray` in the tree of parameters: `qvalue` of the weight's shape, and
`scale` of the same rank, a scale for each tile of the weight. int8 has one scale for each output
channel, int4 one for every `TILE` inputs of it (as QLoRA, 2305.14314, has for every 64 weights).

qwix's own way into a model, `PtqProvider`, replaces `jnp.einsum` while a model is traced. It takes
a part of a stacked weight for the weight itself, so the stored arrays are made and read here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from flax import traverse_util

from vsumjax.sharding import named
from vsumjax.types import InputError

KINDS = ("int8", "int4")
TILE = 64
# What the decoder's layers multiply with. The embedding, norms and vision tower stay as they are.
PATHS = re.compile(r"llm/layers/.*")


def tile_shape(kind: str, shape: Sequence[int], contracted: Collection[int]) -> tuple[int, ...]:
  """How many values of each axis share a scale.

  Example: of w_HDS [8, 2304, 256] contracted over D, (1, 2304, 1) in int8, (1, 64, 1) in int4.
  """
  tiles = [size if axis in contracted else 1 for axis, size in enumerate(shape)]
  if kind == "int4":
    last = max(contracted)
    tiles = [math.gcd(size, TILE) if axis == last else 1 for axis, size in enumerate(shape)]
  return tuple(tiles)


def quantize(w: jax.Array, kind: Any, tiles: Sequence[int]) -> qwix.QArray:
  """Symmetric, by the largest absolute value of each tile; float32 scales."""
  return qwix.quantize(
    w.astype(jnp.float32),
    jnp.dtype(kind),
    channelwise_axes=[axis for axis, tile in enumerate(tiles) if tile == 1],
    tiled_axes={axis: tile for axis, tile in enumerate(tiles) if tile > 1},
  )


def quantized(
  init: Callable[..., jax.Array],
  names: Sequence[str | None],
  kind: str,
  contracted: tuple[int, ...],
) -> Callable[..., qwix.QArray]:
  """Wraps an initialiser so that its parameter is quantised and carries the names of its axes."""

  def init_quantized(key: jax.Array, shape: Sequence[int]) -> qwix.QArray:
    tiles = tile_shape(kind, shape, contracted)
    q = quantize(init(key, shape), kind, tiles)
    # The scales of a tiled axis may be too few to divide among its devices: each has them all.
    scale_names = [name if tile == 1 else None for name, tile in zip(names, tiles, strict=True)]
    return dataclasses.replace(
      q,
      qvalue=named(lambda: q.qvalue, *names)(),
      scale=named(lambda: q.scale, *scale_names)(),
    )

  return init_quantized


def quantize_params(params: Any, abstract: Any) -> Any:
  """Parameters in the form that a config with `quantize` has, one leaf at a time.

  Beside the input and the output it takes the float32 copy of one layer of one leaf, and that leaf
  quantised once more.

  Args:
    params: arrays, of all of the model or of a part of it.
    abstract: what they shall be: shapes and shardings of the quantised model's parameters, as
      `Experiment.abstract_params` gives them.

  Raises:
    InputError: for a leaf that the model lacks or that has another shape there.
  """
  wanted = traverse_util.flatten_dict(abstract)
  done = {}
  for path, leaf in traverse_util.flatten_dict(params).items():
    want = wanted.get(path)
    if want is None or want.shape != leaf.shape:
      there = "absent" if want is None else want.shape
      raise InputError(f"{'/'.join(path)} is {leaf.shape}, and {there} in the quantised model")
    # Waiting for each keeps the memory of one leaf at a time.
    done[path] = jax.block_until_ready(quantize_leaf(leaf, want))
  return traverse_util.unflatten_dict(done)


def quantize_leaf(leaf: jax.Array, abstract: Any) -> Any:
  """The leaf as `abstract` is: quantised if that is a QArray, and in its shardings.

  A quantised leaf leads with the layers, as all under `PATHS` do.
  """
  if not isinstance(abstract, qwix.QArray):
    return leaf
  tiles = abstract.scale_tile_shape[1:]
  # Layer by layer, so that the float32 copy is of one. (In a `lax.map` XLA:CPU makes it of all.)
  of_layer = jax.jit(lambda w_L, layer: quantize(w_L[layer], abstract.qtype, tiles))
  stack = jax.jit(
    lambda parts: jax.tree.map(lambda *xs: jnp.stack(xs), *parts),
    out_shardings=jax.tree.map(lambda x: x.sharding, abstract),
  )
  return stack([jax.block_until_ready(of_layer(leaf, layer)) for layer in range(len(leaf))])
