"""Mesh, logical axis rules and the one translation from names to shardings.

A parameter names its axes where it is created (`Named`), an activation where it is constrained
(`constrain`). `LogicalRules` says which mesh axes each name lies on. In the notation of the
"How to scale your model" book, with X = (data, fsdp) and Y = tensor, a decoder layer is

  In[B_X, D] · Wq[D_fsdp, H_Y] -> Q[B_X, H_Y]      (Wq gathered over fsdp)
  In[B_X, D] · Wup[D_fsdp, M_Y] · Wdown[M_Y, D_fsdp] -> Out[B_X, D]   (reduced over Y)
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vsumjax.types import InputError

MESH_AXES = ("data", "fsdp", "tensor")

Axes = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each mesh axis; one of them may be -1, which takes what is left."""

  data: int = -1
  fsdp: int = 1
  tensor: int = 1


@dataclasses.dataclass(frozen=True)
class LogicalRules:
  """Mesh axes of each logical axis. One attribute a name: a typo is an error."""

  batch: Axes = ("data", "fsdp")
  layers: Axes = None
  vocab: Axes = "tensor"
  width: Axes = "fsdp"
  heads: Axes = "tensor"
  kv_heads: Axes = None  # fewer than the tensor axis has devices in most Gemma sizes
  head_size: Axes = None
  mlp: Axes = "tensor"
  patch: Axes = None
  exits: Axes = None
  classes: Axes = None
  rank: Axes = None


class Named(struct.PyTreeNode, meta.AxisMetadata):
  """A parameter with the logical names of its axes.

  Flax's own `Partitioned` drops unknown names silently and constrains with them when a mesh is
  set; this box only carries the names to `shardings_of`.
  """

  value: Any
  names: tuple[str | None, ...] = struct.field(pytree_node=False)

  def unbox(self) -> Any:
    return self.value

  def replace_boxed(self, val: Any) -> Named:
    return self.replace(value=val)

  def add_axis(self, index: int, params: dict[Any, Any]) -> Named:
    names = list(self.names)
    names.insert(index, params[meta.PARTITION_NAME])
    return self.replace(names=tuple(names))

  def remove_axis(self, index: int, params: dict[Any, Any]) -> Named:
    del params
    return self.replace(names=self.names[:index] + self.names[index + 1 :])


def named(init: Callable[..., Any], *names: str | None) -> Callable[..., Named]:
  """Wraps an initialiser so that its parameter carries the names of its axes."""

  def init_named(*args: Any, **kwargs: Any) -> Named:
    value = init(*args, **kwargs)
    if len(names) != value.ndim:
      raise ValueError(f"{len(names)} axis names {names} for a parameter of shape {value.shape}")
    return Named(value, names)

  return init_named


def build_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Mesh (data, fsdp, tensor) over `devices`, or over all devices.

  Raises:
    InputError: if the axis sizes do not multiply to the number of devices, or if the data axis does
      not divide among the slices of a TPU.
  """
  devices = jax.devices() if devices is None else devices
  sizes = dataclasses.astuple(config)
  fixed = math.prod(size for size in sizes if size != -1)
  if sizes.count(-1) > 1 or fixed < 1 or len(devices) % fixed:
    raise InputError(
      f"mesh: (data, fsdp, tensor) = {sizes} does not fit {len(devices)} devices; "
      "set the sizes so that their product is that number, at most one of them -1"
    )
  shape = tuple(len(devices) // fixed if size == -1 else size for size in sizes)
  if math.prod(shape) != len(devices):
    raise InputError(f"mesh: (data, fsdp, tensor) = {sizes} uses not all {len(devices)} devices")
  axis_types = (AxisType.Auto,) * 3
  on_tpu = devices[0].platform == "tpu"
  num_slices = len({getattr(d, "slice_index", 0) for d in devices}) if on_tpu else 1
  if num_slices == 1:
    return jax.make_mesh(shape, MESH_AXES, devices=devices, axis_types=axis_types)
  if shape[0] % num_slices:
    raise InputError(
      f"mesh.data: {shape[0]} is not a multiple of the {num_slices} slices, which are joined by "
      f"this axis alone; {num_slices} is"
    )
  within = (shape[0] // num_slices, *shape[1:])
  # As `jax.make_mesh` does for v5e: fsdp=8 takes an axis of 4 x 4 chips and half of the other.
  arranged = mesh_utils.create_hybrid_device_mesh(
    within, (num_slices, 1, 1), devices, allow_split_physical_axes=True
  )
  return Mesh(arranged, MESH_AXES, axis_types=axis_types)


def spec_for(names: Sequence[str | None], rules: LogicalRules) -> PartitionSpec:
  """PartitionSpec of an array whose axes have these logical names.

  Example: spec_for(("vocab", "width"), LogicalRules()) == PartitionSpec("tensor", "fsdp").

  Raises:
    ValueError: for an unknown name, and if two axes ask for the same mesh axis.
  """
  spec = [None if name is None else _mesh_axes(name, rules) for name in names]
  used = [axis for axes in spec for axis in ((axes,) if isinstance(axes, str) else axes or ())]
  if len(set(used)) != len(used):
    raise ValueError(f"logical axes {tuple(names)} collide on the mesh: {spec}")
  return PartitionSpec(*spec)


def _mesh_axes(name: str, rules: LogicalRules) -> Axes:
  known = [field.name for field in dataclasses.fields(rules)]
  if name not in known:
    near = difflib.get_close_matches(name, known, n=1)
    raise ValueError(f"unknown logical axis {name!r}" + (f"; meant {near[0]!r}?" if near else ""))
  return getattr(rules, name)


_ACTIVE: contextvars.ContextVar[tuple[Mesh, LogicalRules] | None] = contextvars.ContextVar(
  "vsumjax_mesh", default=None
)


@contextlib.contextmanager
def use_mesh(mesh: Mesh, rules: LogicalRules | None = None) -> Iterator[Mesh]:
  """Within it, `constrain` acts on this mesh. Enter it around whatever traces a model."""
  token = _ACTIVE.set((mesh, rules or LogicalRules()))
  try:
    yield mesh
  finally:
    _ACTIVE.reset(token)


def has_mesh() -> bool:
  """Whether it is within `use_mesh`."""
  return _ACTIVE.get() is not None


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Constrains an activation to the sharding of its axis names.

  Raises:
    RuntimeError: without a mesh, where a constraint could not act.
  """
  mesh, rules = active("constrain")
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec_for(names, rules)))


def active(caller: str) -> tuple[Mesh, LogicalRules]:
  """The mesh and rules of `use_mesh`.

  Raises:
    RuntimeError: outside of it, naming `caller`.
  """
  active = _ACTIVE.get()
  if active is None:
    raise RuntimeError(f"{caller}() outside of use_mesh(): it would do nothing")
  return active


def as_tuple(axes: Axes) -> tuple[str, ...]:
  return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def unbox(tree: Any) -> Any:
  """The tree with every `Named` box replaced by its array."""
  return meta.unbox(tree)


def shardings_of(boxed: Any, mesh: Mesh, rules: LogicalRules) -> Any:
  """Tree of NamedShardings for a tree of `Named` boxes; an unboxed leaf is replicated."""

  def sharding(leaf: Any) -> NamedSharding:
    names = leaf.names if isinstance(leaf, Named) else ()
    return NamedSharding(mesh, spec_for(names, rules))

  return jax.tree.map(sharding, boxed, is_leaf=lambda leaf: isinstance(leaf, Named))


def batch_sharding(mesh: Mesh, rules: LogicalRules) -> NamedSharding:
  """Sharding of every array of a `Batch`: rows over the batch axes."""
  return NamedSharding(mesh, spec_for(("batch",), rules))


def check_processes(mesh: Mesh, rules: LogicalRules) -> None:
  """Raises InputError if processes share rows of a batch, of which each reads its own."""
  rows = batch_sharding(mesh, rules).devices_indices_map((mesh.size,))
  starts: dict[int, set[int]] = {}
  for device, (part,) in rows.items():
    starts.setdefault(device.process_index, set()).add(part.start or 0)
  num_parts = len(set.union(*starts.values()))
  if any(len(own) * len(starts) != num_parts for own in starts.values()):
    raise InputError(
      f"mesh: {dict(mesh.shape)} cuts a batch into {num_parts} parts, of which the {len(starts)} "
      "processes would share some; let mesh.data times mesh.fsdp be a multiple of the processes"
    )


def to_global(local_batch: Any, mesh: Mesh, rules: LogicalRules) -> Any:
  """Global device arrays from this process's rows (NumPy, leading axis = rows)."""
  sharding = batch_sharding(mesh, rules)
  # With several processes JAX takes this for an implicit transfer; it is as explicit as can be.
  with jax.transfer_guard_host_to_device("allow"):
    return jax.tree.map(
      lambda rows: jax.make_array_from_process_local_data(sharding, rows), local_batch
    )


def local_rows(x: jax.Array, axis: int) -> np.ndarray:
  """This process's rows, along `axis`, of an array whose rows lie on the batch axes: what
  `to_global` made global, or what was computed from it and constrained to "batch"."""
  shards = {shard.index[axis].start or 0: shard.data for shard in x.addressable_shards}
  return np.concatenate([jax.device_get(shards[start]) for start in sorted(shards)], axis)


def to_host(x: jax.Array) -> np.ndarray:
  """A NumPy copy of a global array, whole on every process; all of them must call it."""
  if not x.is_fully_addressable:
    replicated = NamedSharding(x.sharding.mesh, PartitionSpec())
    x = jax.jit(lambda y: y, out_shardings=replicated)(x)
  return np.asarray(jax.device_get(x))


def by_path(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
  """{"llm": {"embedder": leaf}} -> {"llm/embedder": leaf}, in the order of `jax.tree.leaves`."""
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def describe(tree: Any, shardings: Any) -> str:
  """One line a leaf: path, shape, dtype, spec and bytes on each device."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  lines = []
  for (path, leaf), sharding in zip(leaves, jax.tree.leaves(shardings), strict=True):
    bits = math.prod(sharding.shard_shape(leaf.shape)) * jax.dtypes.itemsize_bits(leaf.dtype)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    lines.append(f"{name}  {leaf.dtype}{list(leaf.shape)}  {sharding.spec}  {bits // 8:,} B")
  return "\n".join(lines)
