"""What the devices that share the rows of a batch do together: gather, sum, exchange."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.ops import collectives


def shares_rows(num_rows: int) -> bool:
  """Whether several devices share `num_rows` rows, which divide among them; not without a mesh."""
  if not sharding.has_mesh():
    return False
  mesh, rules = sharding.active("shares_rows")
  places = math.prod(mesh.shape[axis] for axis in sharding.as_tuple(rules.batch))
  return places > 1 and num_rows % places == 0


def is_spread(num_rows: int, *names: str | None) -> bool:
  """Whether a weight lies in parts on devices that share `num_rows` rows; see `shares_rows`."""
  if not shares_rows(num_rows):
    return False
  mesh, rules = sharding.active("is_spread")
  return any(mesh.shape[axis] > 1 for axes in _shared(names, rules) for axis in axes)


def _shared(names: Sequence[str | None], rules: sharding.LogicalRules) -> list[tuple[str, ...]]:
  """On which of the mesh axes that share rows each axis of a weight lies."""
  batch = sharding.as_tuple(rules.batch)
  spec = [sharding.as_tuple(axes) for axes in sharding.spec_for(names, rules)]
  return [tuple(axis for axis in axes if axis in batch) for axes in spec]


def gather(w: jax.Array, *names: str | None) -> jax.Array:
  """Constrains a weight to be whole on all devices that share the rows of a batch.

  Without it XLA may multiply by parts of a weight that is spread over an axis that the product
  sums over, in a loop of thin products. Other mesh axes keep their parts.

  Raises:
    RuntimeError: without a mesh.
  """
  mesh, rules = sharding.active("gather")
  batch = sharding.as_tuple(rules.batch)
  spec = [sharding.as_tuple(axes) for axes in sharding.spec_for(names, rules)]
  kept = [tuple(axis for axis in axes if axis not in batch) for axes in spec]
  return jax.lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec(*kept)))


def take_rows(table: jax.Array, index: jax.Array, name: str, dtype: Any) -> jax.Array:
  """`table[index]` of a table whose last axis lies in parts on devices that share `index`.

  Every device takes its part of all rows that they share; these are exchanged for whole rows of its
  own. The gradient is added up in the part of the table; XLA would make one of the whole table.

  Args:
    table: [V, D], D the axis `name`. index: int[B, ...]. dtype: in which rows travel.
  """
  mesh, rules = sharding.active("take_rows")
  batch = sharding.as_tuple(rules.batch)
  (shared,) = _shared((name,), rules)

  def of_device(table: jax.Array, index: jax.Array) -> jax.Array:
    every = jax.lax.all_gather(index, shared, tiled=True)
    rows = jnp.take(table, every, axis=0, mode="clip").astype(dtype)
    return jax.lax.all_to_all(rows, shared, split_axis=0, concat_axis=rows.ndim - 1, tiled=True)

  return jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=(PartitionSpec(None, shared), PartitionSpec(batch)),
    out_specs=PartitionSpec(batch),
    axis_names=set(batch),
    check_vma=False,
  )(table, index)


def sum_over_rows(
  product: Callable[..., jax.Array], rows: Sequence[jax.Array], *names: str | None
) -> jax.Array:
  """The sum of `product` of all devices' rows, in parts as a weight with these names lies.

  Args:
    product: of some rows; the sum of it over all rows is wanted.
    rows: arrays whose leading axis lies on the batch axes.
  """
  mesh, rules = sharding.active("sum_over_rows")
  batch = sharding.as_tuple(rules.batch)
  spec = _shared(names, rules)
  rest = [axis for axis in batch if not any(axis in axes for axes in spec)]
  reduce_scatter, all_reduce = _sums(mesh)

  def of_device(*rows: jax.Array) -> jax.Array:
    total = product(*rows)
    for dim, axes in enumerate(spec):
      for axis in axes:
        total = reduce_scatter(total, axis, dim)
    for axis in rest:
      total = all_reduce(total, axis)
    return total

  return jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=PartitionSpec(batch),
    out_specs=PartitionSpec(*spec),
    axis_names=set(batch),
    check_vma=False,
  )(*rows)


def exchanges_behind_compute(mesh: Mesh) -> bool:
  """Whether all-to-alls may travel while the cores of this mesh compute.

  The compiler refuses that on a v5e of more than 16 chips; but there it makes real reduce-scatters,
  and no all-reduce, of sums over the 16 chips of a row.
  """
  devices = list(mesh.devices.flat)
  slices = {getattr(device, "slice_index", 0) for device in devices}
  is_large_v5e = devices[0].device_kind == "TPU v5 lite" and len(devices) > 16
  return devices[0].platform == "tpu" and len(slices) == 1 and not is_large_v5e


def _sums(mesh: Mesh) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
  """What sums over an axis, into parts and as a whole."""
  if exchanges_behind_compute(mesh):
    return collectives.exchange_reduce_scatter, collectives.exchange_all_reduce
  return collectives.psum_scatter, jax.lax.psum


def why_not_by_rows(num_rows: int) -> str:
  """Why `map_rows` of kernels for a TPU cannot serve `num_rows` rows; "" where it can."""
  if not sharding.has_mesh():
    return "there is no mesh"
  mesh, rules = sharding.active("why_not_by_rows")
  batch = sharding.as_tuple(rules.batch)
  platform = mesh.devices.flat[0].platform
  if platform != "tpu":
    return f"the devices are of {platform}, not of a TPU"
  if any(size > 1 for axis, size in mesh.shape.items() if axis not in batch):
    return f"devices share heads (mesh {dict(mesh.shape)})"
  places = math.prod(mesh.shape[axis] for axis in batch)
  if num_rows % places:
    return f"{num_rows} rows do not divide among {places} devices"
  return ""


def map_rows(function: Callable[..., Any], *args: Any) -> Any:
  """`function` of each device's rows, which lead every array but scalars; it gives such arrays."""
  mesh, rules = sharding.active("map_rows")
  rows = PartitionSpec(sharding.as_tuple(rules.batch))
  specs = jax.tree.map(lambda x: rows if x.ndim else PartitionSpec(), args)
  return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)(*args)
