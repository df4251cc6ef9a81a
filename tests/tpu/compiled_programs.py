"""Compiles small programs for TPU slices and prints what is predicted of each, as JSON.

A process of its own: tests switch optimisations off, and libtpu reads its environment once.
"""

import json

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vsumjax.ops.collectives import ring_reduce_scatter
from vsumjax.tpu import hlo, topologies
from vsumjax.tpu.links import Links, coords_of
from vsumjax.tpu.predict import predict


def predicted(topology, function, *args, specs, out_spec):
  """Seconds of `function` in a shard_map over 16 devices, or over one if there are no specs."""
  devices = topologies.get_devices(topologies.parse(topology))
  count = 16 if specs else 1
  mesh = jax.make_mesh((count,), ("x",), devices=devices[:count], axis_types=(AxisType.Auto,))
  specs = specs or [PartitionSpec()] * len(args)
  wrapped = jax.shard_map(
    function, mesh=mesh, in_specs=tuple(specs), out_specs=out_spec, check_vma=False
  )
  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, spec))
    for shape, spec in zip(args, specs, strict=True)
  ]
  text = jax.jit(wrapped).lower(*shapes).compile().as_text()
  links = Links(topologies.parse(topology), coords_of(mesh.devices.flat))
  found = predict(hlo.parse(text), links)
  return {
    "seconds": found.predicted_s,
    "core_s": found.core_s,
    "waited_s": found.exposed_collective_s,
  }


def attention(q, k, v):
  """The compiler makes one kernel of it."""
  logits = jnp.einsum("bts,bus->btu", q, k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
  return jnp.einsum("btu,bus->bts", weights, v, preferred_element_type=jnp.float32)


def fsdp_layer(x, w):
  """A product with a gathered weight, and the weight's gradient in parts."""
  whole = jax.lax.all_gather(w, "x", axis=0, tiled=True)
  y = x @ whole
  return ring_reduce_scatter(x.T @ (y * 0.5), "x", 0)


def main():
  none, split = PartitionSpec(), PartitionSpec("x")
  n, big = 4096, (8192, 8192)
  found = {
    f"matmul {chip}": predicted(chip, jnp.matmul, (n, n), (n, n), specs=None, out_spec=none)
    for chip in ("v4:2x2x2", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
  }
  found["attention"] = predicted(
    "v5e:2x2", attention, *[(64, 1024, 256)] * 3, specs=None, out_spec=none
  )
  found["all-gather"] = predicted(
    "v5e:4x4",
    lambda x: jax.lax.all_gather(x, "x", axis=0, tiled=True),
    big,
    specs=[split],
    out_spec=none,
  )
  found["reduce-scatter"] = predicted(
    "v5e:4x4",
    lambda x: ring_reduce_scatter(x[0], "x", 0),
    (16, *big),
    specs=[split],
    out_spec=split,
  )
  found["psum_scatter"] = predicted(
    "v5e:4x4",
    lambda x: jax.lax.psum_scatter(x[0], "x", scatter_dimension=0, tiled=True),
    (16, *big),
    specs=[split],
    out_spec=split,
  )
  found["fsdp layer"] = predicted(
    "v5e:4x4", fsdp_layer, (16 * 8192, 4096), (4096, 16384), specs=[split, split], out_spec=split
  )
  print(json.dumps(found))


if __name__ == "__main__":
  main()
