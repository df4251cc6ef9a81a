"""The training state: abstract first, then created straight into its shardings."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct, traverse_util
from jax.sharding import Mesh

from vsumjax import sharding
from vsumjax.contract import Learner
from vsumjax.training import partition
from vsumjax.types import Array, InputError


@struct.dataclass
class TrainState:
  """What a step takes and gives.

  step: i32[]. params: tree of arrays. opt_state: of those of them that are trained.
  ema: f32, their running mean, or None where none is kept; see `step.ema_rate`.
  """

  step: Array
  params: Any
  opt_state: Any
  ema: Any = None


def init_params(learner: Learner, spec: Any, key: jax.Array) -> Any:
  """Boxed parameters (`sharding.Named`), traceable. `spec` gives the shapes of one batch."""
  return learner.init(key, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), spec))


def init_state(
  learner: Learner,
  tx: optax.GradientTransformation,
  spec: Any,
  seed: int,
  *,
  freeze: tuple[str, ...] = (),
  with_ema: bool = False,
) -> TrainState:
  """Boxed state at step 0; call it under `jax.eval_shape` or `jax.jit`."""
  params = init_params(learner, spec, jax.random.key(seed))
  return start_from(params, tx, freeze=freeze, with_ema=with_ema)


def start_from(
  params: Any,
  tx: optax.GradientTransformation,
  *,
  freeze: tuple[str, ...] = (),
  with_ema: bool = False,
) -> TrainState:
  """The state at step 0 of these parameters.

  Raises:
    InputError: for a pattern of `freeze` that matches no parameter; see `partition.check`.
  """
  partition.check(params, freeze)
  trained, _ = partition.split(params, freeze)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=tx.init(trained),
    ema=in_float32(trained) if with_ema else None,
  )


def in_float32(tree: Any) -> Any:
  """Every array in float32: what is summed over steps would lose small changes in bfloat16."""
  return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def used_params(state: TrainState) -> Any:
  """The parameters that are evaluated and used afterwards: the running mean where one is kept."""
  if state.ema is None:
    return state.params
  flat = traverse_util.flatten_dict(state.params)
  for path, mean in traverse_util.flatten_dict(state.ema).items():
    if mean.dtype != flat[path].dtype:
      mean = mean.astype(flat[path].dtype)
    flat[path] = mean
  return traverse_util.unflatten_dict(flat)


def with_shardings(boxed: Any, mesh: Mesh, rules: sharding.LogicalRules) -> Any:
  """ShapeDtypeStructs with shardings, unboxed, of an abstract boxed tree.

  Raises:
    InputError: if an axis of a leaf does not divide among the devices it is to lie on.
  """

  def build(path: tuple, leaf: Any, s: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
    try:
      s.shard_shape(leaf.shape)
    except ValueError:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise InputError(
        f"mesh: {name} of shape {leaf.shape} does not divide as {tuple(s.spec)} among the devices "
        f"of mesh {dict(mesh.shape)}; change config.mesh, or where its axes lie by config.rules"
      ) from None
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s)

  shardings = sharding.shardings_of(boxed, mesh, rules)
  return jax.tree_util.tree_map_with_path(build, sharding.unbox(boxed), shardings)


def params_digest(params: Any) -> str:
  """blake2b-16 (hex) over path, dtype, shape and bytes of every leaf, one leaf at a time."""
  digest = hashlib.blake2b(digest_size=16)
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
    array = sharding.to_host(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    digest.update(f"{name} {array.dtype} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()
