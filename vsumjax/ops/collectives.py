"""Sums over devices within a `shard_map`.

XLA's TPU compiler makes a synchronous all-reduce of most reduce-scatters, for which the core stands
still; an all-to-all travels while it computes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def exchange_reduce_scatter(x: jax.Array, axis_name: str, dim: int) -> jax.Array:
  """`jax.lax.psum_scatter(x, axis_name, scatter_dimension=dim, tiled=True)`, as an exchange.

  Every device sends each other one the part of x that is the other's, and sums what it gets in
  float32. It holds the links about twice as long as a ring of sums would.

  Args:
    x: what each device adds; n, the devices of `axis_name`, divides its axis `dim`.

  Returns:
    float32, the axis `dim` divided by n.
  """
  n = jax.lax.axis_size(axis_name)
  if n == 1:
    return x.astype(jnp.float32)
  parts = x.reshape(*x.shape[:dim], n, x.shape[dim] // n, *x.shape[dim + 1 :])
  received = jax.lax.all_to_all(parts, axis_name, split_axis=dim, concat_axis=0)
  return received.astype(jnp.float32).sum(axis=0)


def psum_scatter(x: jax.Array, axis_name: str, dim: int) -> jax.Array:
  """`jax.lax.psum_scatter` with the arguments of the above."""
  return jax.lax.psum_scatter(x, axis_name, scatter_dimension=dim, tiled=True)


def exchange_all_reduce(x: jax.Array, axis_name: str) -> jax.Array:
  """`jax.lax.psum(x, axis_name)` as an exchange and a gathering of the sums, in float32.

  Where no axis of x divides among the devices it is `psum`.
  """
  n = jax.lax.axis_size(axis_name)
  dims = [d for d in range(x.ndim) if x.shape[d] % n == 0]
  if not dims:
    return jax.lax.psum(x.astype(jnp.float32), axis_name)
  dim = max(dims, key=lambda d: x.shape[d])
  part = exchange_reduce_scatter(x, axis_name, dim)
  return jax.lax.all_gather(part, axis_name, axis=dim, tiled=True)
