"""Compiles small programs for TPU slices and prints what is predicted of each, as JSON.

A process of its own: tests switch optimisations off, and libtpu reads its environment once.
"""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vsumjax.ops.collectives import exchange_reduce_scatter
from vsumjax.tpu import hlo, topologies
from vsumjax.tpu.links import Links, coords_of
from vsumjax.tpu.predict import predict

NONE, SPLIT, COLUMNS = PartitionSpec(), PartitionSpec("x"), PartitionSpec(None, "x")
CHIPS = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
# Above it the compiler makes no loop over parts of a product.
WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
BIG = (8192, 8192)


def mesh_of(topology, num_devices):
  """A mesh of one axis, over the slices of a topology one after the other."""
  devices = topologies.get_devices(topology)[:num_devices]
  if topology.num_slices == 1:
    return jax.make_mesh((len(devices),), ("x",), devices=devices, axis_types=(AxisType.Auto,))
  each = len(devices) // topology.num_slices
  placed = mesh_utils.create_hybrid_device_mesh((each,), (topology.num_slices,), devices)
  return Mesh(placed, ("x",))


def predicted(
  name, function, *args, specs=(), out_spec=NONE, slices=1, by_hand=False, options=None
):
  """What is predicted of `function`, over all devices, or over one if there are no specs.

  args: shapes, of bf16. by_hand: it is written for the part of one device.
  """
  topology = topologies.parse(name, slices)
  mesh = mesh_of(topology, None if specs else 1)
  specs = specs or [NONE] * len(args)
  if by_hand:
    function = jax.shard_map(
      function, mesh=mesh, in_specs=tuple(specs), out_specs=out_spec, check_vma=False
    )
  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, spec))
    for shape, spec in zip(args, specs, strict=True)
  ]
  jitted = jax.jit(function, out_shardings=NamedSharding(mesh, out_spec))
  text = jitted.lower(*shapes).compile(options).as_text()
  found = dataclasses.asdict(
    predict(hlo.parse(text), Links(topology, coords_of(mesh.devices.flat)))
  )
  del found["operations"]
  return found | {"loops": text.count(" while(")}


def attention(q, k, v):
  """The compiler makes one kernel of it."""
  logits = jnp.einsum("bts,bus->btu", q, k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
  return jnp.einsum("btu,bus->bts", weights, v, preferred_element_type=jnp.float32)


def fsdp_layer(x, w):
  """A product with a gathered weight, and the weight's gradient in parts."""
  whole = jax.lax.all_gather(w, "x", axis=0, tiled=True)
  y = x @ whole
  return exchange_reduce_scatter(x.T @ (y * 0.5), "x", 0)


def gradient(x, w):
  """Of a weight in a layer without a word about where anything lies."""
  return jax.grad(lambda w: 0.5 * jnp.sum(jnp.square((x @ w).astype(jnp.float32))))(w)


def scatter(x):
  return jax.lax.psum_scatter(x[0], "x", scatter_dimension=0, tiled=True)


def available_bytes(name):
  """HBM that the compiler says there is, when a program does not fit."""
  mesh = mesh_of(topologies.parse(name), 1)
  sharding = NamedSharding(mesh, NONE)
  huge = jax.ShapeDtypeStruct((1 << 18, 1 << 18), jnp.float32, sharding=sharding)
  try:
    jax.jit(jnp.matmul).lower(huge, huge).compile()
  except jax.errors.JaxRuntimeError as error:
    return float(re.search(r"available HBM \(([\d.]+)G\)", str(error)).group(1)) * 2**30
  raise AssertionError("256 GiB fit")


def on_one_chip():
  n = 4096
  products = {f"matmul {chip}": predicted(chip, jnp.matmul, (n, n), (n, n)) for chip in CHIPS}
  return products | {
    "attention": predicted("v5e:2x2", attention, *[(64, 1024, 256)] * 3),
    "sum": predicted("v5e:2x2", jnp.add, (16384, 8192), (16384, 8192)),
    "sort": predicted("v5e:2x2", lambda x: jnp.sort(x, axis=0), (1 << 16, 128)),
  }


def on_a_slice():
  place = {"specs": [SPLIT], "by_hand": True}
  layer = {"specs": [SPLIT, SPLIT], "out_spec": SPLIT}
  tokens, weight = (16 * 8192, 4096), (4096, 16384)
  return {
    "all-gather": predicted(
      "v5e:4x4", lambda x: jax.lax.all_gather(x, "x", axis=0, tiled=True), BIG, **place
    ),
    "exchange": predicted(
      "v5e:4x4",
      lambda x: exchange_reduce_scatter(x[0], "x", 0),
      (16, *BIG),
      out_spec=SPLIT,
      **place,
    ),
    "psum_scatter": predicted("v5e:4x4", scatter, (16, *BIG), out_spec=SPLIT, **place),
    "reduce-scatter": predicted("v5e:2x2", scatter, (4, *BIG), out_spec=SPLIT, **place),
    "all-to-all": predicted("v5e:4x4", lambda x: x, BIG, specs=[SPLIT], out_spec=COLUMNS),
    "fsdp layer": predicted("v5e:4x4", fsdp_layer, tokens, weight, by_hand=True, **layer),
    "gradient": predicted("v5e:4x4", gradient, tokens, weight, options=WHOLE_PRODUCTS, **layer),
    "gradient in loops": predicted("v5e:4x4", gradient, tokens, weight, **layer),
    "between slices": predicted(
      "v5e:4x4", lambda x: x * 2, BIG, specs=[SPLIT], out_spec=NONE, slices=2
    ),
  }


def main():
  found = on_one_chip() | on_a_slice()
  print(json.dumps(found | {f"HBM {chip}": available_bytes(chip) for chip in CHIPS}))


if __name__ == "__main__":
  main()
