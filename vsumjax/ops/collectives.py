"""Collectives within a `shard_map`, written so that they hide behind compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def ring_reduce_scatter(x: jax.Array, axis_name: str, dim: int) -> jax.Array:
  """`jax.lax.psum_scatter(x, axis_name, scatter_dimension=dim, tiled=True)`, in permutes.

  XLA's TPU compiler makes a synchronous all-reduce of a reduce-scatter, for which the core stands
  still; what a permute sends travels while it computes. One half of every part goes around the
  ring one way and the other half the other way, so that both directions of the links are used.
  Sums are in the dtype of x and in the order of the ring.

  Args:
    x: what each device adds; n, the devices of `axis_name`, divides its axis `dim`.
  """
  if jax.lax.axis_size(axis_name) == 1:
    return x
  others = [d for d in range(x.ndim) if d != dim and x.shape[d] > 1]
  if not others:
    return _one_way(x, axis_name, dim, 1)
  split = max(others, key=lambda d: x.shape[d])
  half = x.shape[split] // 2
  there = _one_way(x, axis_name, dim, 1, (split, 0, half))
  back = _one_way(x, axis_name, dim, -1, (split, half, x.shape[split]))
  return jnp.concatenate([there, back], axis=split)


def _one_way(
  x: jax.Array, axis_name: str, dim: int, way: int, within: tuple[int, int, int] | None = None
) -> jax.Array:
  """Every part starts at the device behind its owner and collects terms all around the ring.

  within: axis, first and last + 1 of what is summed; None is all of x. Terms are cut out of x both
    ways at once, which takes no copy of the half.
  """
  n, me = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
  sizes = list(x.shape)
  sizes[dim] //= n
  starts: list = [0] * x.ndim
  if within:
    axis, first, end = within
    starts[axis], sizes[axis] = first, end - first
  ring = [(device, (device + way) % n) for device in range(n)]

  def own_term(step: int) -> jax.Array:
    at = ((me - way * step) % n) * sizes[dim]
    return jax.lax.dynamic_slice(x, [*starts[:dim], at, *starts[dim + 1 :]], sizes)

  total = own_term(1)
  for step in range(2, n + 1):
    total = jax.lax.ppermute(total, axis_name, ring) + own_term(step)
  return total
