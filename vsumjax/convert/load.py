"""Weights of any format straight into the shardings of a model, a leaf at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import qwix

from vsumjax.convert import tensors
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Weights
from vsumjax.models import lora
from vsumjax.models.quantization import quantize_leaf
from vsumjax.sharding import by_path
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class Loaded:
  """What `load_params` found.

  Attributes:
    params: the abstract tree with arrays; a leaf of `missing` is left abstract.
    missing: paths of exits and adapters that the source lacks, for the caller to initialise.
  """

  params: Any
  missing: tuple[str, ...]


def load_params(weights: Weights, abstract: Any) -> Loaded:
  """Reads every leaf into its sharding. Memory: this process's shards of one leaf, and a block.

  Args:
    weights: the source, opened.
    abstract: tree of ShapeDtypeStruct with shardings. Leaves are rounded to its dtypes, or
      quantised as its QArrays are, with the memory of one leaf more.

  Raises:
    InputError: a leaf is missing, left over or of another shape: all of them, by name.
  """
  wanted = by_path(abstract, is_leaf=_is_quantized)
  absent = sorted(wanted.keys() - weights.tensors.keys())
  missing = tuple(path for path in absent if lora.is_new(tuple(path.split("/"))))
  if gone := [path for path in absent if path not in missing]:
    lines = ", ".join(f"{path} {list(wanted[path].shape)}" for path in gone)
    raise InputError(f"{weights.source}: tensors missing: {lines}")
  if unknown := sorted(weights.tensors.keys() - wanted.keys()):
    lines = ", ".join(weights.tensors[path].describe() for path in unknown)
    raise InputError(f"{weights.source}: tensors that the model has not: {lines}")
  for path, tensor in weights.tensors.items():
    if tensor.shape != wanted[path].shape:
      raise InputError(f"{tensor.describe()}: the model's {path} is {list(wanted[path].shape)}")

  filled = [
    leaf if path in missing else _load_leaf(weights.tensors[path], leaf)
    for path, leaf in wanted.items()
  ]
  tree = jax.tree.structure(abstract, is_leaf=_is_quantized)
  return Loaded(jax.tree.unflatten(tree, filled), missing)


def _is_quantized(leaf: Any) -> bool:
  return isinstance(leaf, qwix.QArray)


def _load_leaf(tensor: LazyTensor, abstract: Any) -> Any:
  if not _is_quantized(abstract):
    return _load(tensor, abstract)
  plain = jax.ShapeDtypeStruct(tensor.shape, tensor.dtype, sharding=abstract.qvalue.sharding)
  return jax.block_until_ready(quantize_leaf(_load(tensor, plain), abstract))


def _load(tensor: LazyTensor, abstract: jax.ShapeDtypeStruct) -> jax.Array:
  """One pass over the file, whatever the number of devices; each block goes to all it is for."""
  indices = abstract.sharding.addressable_devices_indices_map(tensor.shape).values()
  regions = {_key(index, tensor.shape): tensors.full(index, tensor.shape) for index in indices}
  shards = {
    key: np.empty([s.stop - s.start for s in region], abstract.dtype)
    for key, region in regions.items()
  }
  for block in tensors.blocks(tensor):
    _fill(shards, regions, tensor, tensors.full(block, tensor.shape))
  return jax.make_array_from_callback(
    tensor.shape, abstract.sharding, lambda index: shards[_key(index, tensor.shape)]
  )


def _fill(shards, regions, tensor: LazyTensor, block: tensors.Region) -> None:
  """Reads a block, if any shard needs it, and copies to each shard what it needs of it."""
  rows = block[0]
  needed = {
    key: slice(max(rows.start, region[0].start), min(rows.stop, region[0].stop))
    for key, region in regions.items()
  }
  needed = {key: span for key, span in needed.items() if span.start < span.stop}
  if not needed:
    return
  content = tensor.read((rows,))
  for key, span in needed.items():
    region = regions[key]
    target = slice(span.start - region[0].start, span.stop - region[0].start)
    source = slice(span.start - rows.start, span.stop - rows.start)
    shards[key][target] = content[(source, *region[1:])]


def _key(index: tensors.Region, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
  return tuple((s.start, s.stop) for s in tensors.full(index, shape))
