"""Collectives within a `shard_map`, written so that they hide behind compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_LANES = 128  # of the TPU's registers


def ring_reduce_scatter(x: jax.Array, axis_name: str, dim: int) -> jax.Array:
  """`jax.lax.psum_scatter(x, axis_name, scatter_dimension=dim, tiled=True)`, in permutes.

  XLA's TPU compiler makes a synchronous all-reduce of a reduce-scatter, for which the core stands
  still; what a permute sends travels while it computes. One half of every part goes around the
  ring one way and the other half the other way, so that both directions of the links are used.
  Sums are in the dtype of x and in the order of the ring.

  Args:
    x: what each device adds; n, the devices of `axis_name`, divides its axis `dim`.
  """
  n = jax.lax.axis_size(axis_name)
  if n == 1:
    return x
  # Parts lie along an axis of their own: cut from lanes or sublanes they would have to be rotated.
  first = jnp.moveaxis(x, dim, 0)
  parts = first.reshape(n, len(first) // n, -1)
  columns = parts.shape[2]
  half = columns // 2 // _LANES * _LANES or columns // 2
  sums = [
    _one_way(parts, axis_name, way, start, end)
    for way, start, end in ((1, 0, half), (-1, half, columns))
    if end > start
  ]
  total = jnp.concatenate(sums, axis=1)
  return jnp.moveaxis(total.reshape(-1, *first.shape[1:]), 0, dim)


def _one_way(x: jax.Array, axis_name: str, way: int, start: int, end: int) -> jax.Array:
  """Sums of some columns of parts [n, rows, columns]. Every part starts at the device behind its
  owner and collects terms all around the ring, each cut out of x without a copy of the columns."""
  n, me = len(x), jax.lax.axis_index(axis_name)
  ring = [(device, (device + way) % n) for device in range(n)]

  def own_term(step: int) -> jax.Array:
    part = (me - way * step) % n
    return jax.lax.dynamic_slice(x, (part, 0, start), (1, x.shape[1], end - start))[0]

  total = own_term(1)
  for step in range(2, n + 1):
    total = jax.lax.ppermute(total, axis_name, ring) + own_term(step)
  return total
