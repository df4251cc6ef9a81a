"""Weights that change in the course of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vsumjax.types import InputError

Schedule = float | tuple[tuple[float, ...], ...]
"""A number, or points (share of the run, value) that straight lines join.

Example: ((0.0, 1.0), (0.5, 1.0), (1.0, 0.0)) stays 1 for half of the run, then falls to 0.
"""


def value_at(schedule: Schedule, progress: jax.Array | float) -> jax.Array:
  """f32[], the value when a share `progress` (0 .. 1) of the run is done."""
  if isinstance(schedule, float):
    return jnp.float32(schedule)
  shares, values = zip(*schedule, strict=True)
  return jnp.interp(jnp.float32(progress), jnp.float32(shares), jnp.float32(values))


def check(name: str, schedule: Schedule) -> None:
  """Raises InputError with the key `name` unless it is values of 0 or more at rising shares."""
  points = _points(schedule)
  if not points or any(len(point) != 2 for point in points):
    raise InputError(f"{name}: {schedule} is neither a number nor points [share, value]")
  shares = [share for share, _ in points]
  if shares != sorted(set(shares)) or not 0 <= shares[0] <= shares[-1] <= 1:
    raise InputError(f"{name}: the shares {shares} must rise and lie in 0 .. 1")
  if not all(0 <= value < math.inf for _, value in points):
    raise InputError(f"{name}: the values of {schedule} must be 0 or more")


def is_off(schedule: Schedule) -> bool:
  """Whether it is 0 from the start to the end."""
  return not any(value for _, value in _points(schedule))


def check_sum(name: str, schedules: Sequence[Schedule]) -> None:
  """Raises InputError unless each is a schedule and their sum is above 0 at every moment."""
  for index, schedule in enumerate(schedules):
    check(f"{name}[{index}]", schedule)
  # Between two neighbouring points every schedule is a line, so that their sum is one too.
  shares = {share for schedule in schedules for share, _ in _points(schedule)}
  for share in sorted(shares | {0.0, 1.0}):
    if not sum(_host_value(schedule, share) for schedule in schedules) > 0:
      raise InputError(f"{name}: {tuple(schedules)} must be >= 0, not all 0 (at {share:g} of it)")


def _points(schedule: Schedule) -> tuple[tuple[float, ...], ...]:
  return ((0.0, schedule),) if isinstance(schedule, float) else schedule


def _host_value(schedule: Schedule, share: float) -> float:
  shares, values = zip(*_points(schedule), strict=True)
  return float(np.interp(share, shares, values))
