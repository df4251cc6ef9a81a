"""Checks of arrays out of files that others wrote. `where` names the file and the key."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from vsumjax.types import InputError

_AGAIN = "get or write the file again"


def number(where: str, array: np.ndarray) -> float:
  """The only number of an array."""
  array = np.asarray(array)
  if array.size != 1 or array.dtype.kind not in "uif" or not np.isfinite(array).all():
    raise InputError(f"{where}: expected one number, found {array.dtype}{list(array.shape)}")
  return float(array.item())


def require_positive(where: str, value: float) -> None:
  """Raises InputError unless the value is a number above 0."""
  if not 0 < value < math.inf:
    raise InputError(f"{where}: must be a number above 0, is {value}; {_AGAIN}")


def require_shape(where: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
  """Raises InputError unless it holds numbers in this shape; None is any length above 0."""
  if array.dtype.kind not in "biuf":
    raise InputError(f"{where}: holds {array.dtype}, expected numbers; {_AGAIN}")
  fits = array.ndim == len(shape) and all(
    length > 0 if want is None else length == want
    for length, want in zip(array.shape, shape, strict=True)
  )
  if not fits:
    told = ", ".join("any" if length is None else str(length) for length in shape)
    raise InputError(f"{where}: has shape {list(array.shape)}, expected [{told}]; {_AGAIN}")


def whole_numbers(
  where: str, array: np.ndarray, low: int, high: int, dtype: DTypeLike = np.uint8
) -> np.ndarray:
  """The array as `dtype`. Raises InputError unless it holds whole numbers from `low` to `high`."""
  bad = array[(array < low) | (array > high) | (array != np.round(array))]
  if bad.size:
    raise InputError(f"{where}: holds {bad[0]}, expected whole numbers from {low} to {high}")
  return array.astype(dtype)
