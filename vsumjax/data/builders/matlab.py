"""MATLAB files: version 7.3 (HDF5, where a cell is a reference) and version 5."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import scipy.io

from vsumjax.types import InputError

_AGAIN = "get the file from its authors again"


@contextlib.contextmanager
def open_hdf5(path: pathlib.Path) -> Iterator[h5py.File]:
  """Opens an HDF5 file. Raises InputError if it is none or is cut off."""
  try:
    file = h5py.File(path, "r")
  except OSError as error:
    raise InputError(f"{path}: not an HDF5 file, or a cut one ({error}); {_AGAIN}") from None
  with file:
    yield file


def read_hdf5(path: pathlib.Path, group: h5py.Group, key: str) -> Any:
  """The whole content of a data set. Raises InputError naming file and key."""
  where = f"{path}: {group.name.strip('/')}/{key}".replace(": /", ": ")
  try:
    node = group[key]
    if isinstance(node, h5py.Dataset):
      return node[()]
  except KeyError:
    raise InputError(f"{where}: there is no such key; {_AGAIN}") from None
  except (OSError, RuntimeError) as error:
    raise InputError(f"{where}: cannot be read ({error}); {_AGAIN}") from None
  raise InputError(f"{where}: is a group, expected an array; {_AGAIN}")


def cells(path: pathlib.Path, file: h5py.File, key: str) -> Sequence[h5py.Reference]:
  """The references of a cell array of MATLAB 7.3."""
  references = read_hdf5(path, file, key)
  if references.dtype.kind != "O" or not references.size:
    raise InputError(f"{path}: {key}: expected an array of references; {_AGAIN}")
  return references.ravel()


def read_cell(
  path: pathlib.Path, file: h5py.File, key: str, column: Sequence[h5py.Reference], index: int
) -> np.ndarray:
  """The array that a cell refers to; its axes are the reverse of those in MATLAB."""
  if index >= len(column):
    raise InputError(f"{path}: {key}: has {len(column)} cells, others have more; {_AGAIN}")
  try:
    return file[column[index]][()]
  except (OSError, ValueError, KeyError, RuntimeError) as error:
    raise InputError(
      f"{path}: {key}: cell {index + 1} cannot be read ({error}); {_AGAIN}"
    ) from None


def text(where: str, codes: np.ndarray) -> str:
  """The text of a char array of MATLAB 7.3: UTF-16 units.

  Where every unit is below 256 and the units are UTF-8, they are bytes that MATLAB took for units,
  as in TVSum's titles: U+00C5 U+00A0 stand for the two bytes of "Š".
  """
  units = np.asarray(codes).ravel()
  if units.dtype.kind not in "ui":
    raise InputError(f"{where}: expected text, is {units.dtype}; {_AGAIN}")
  if units.size and units.max() < 256:
    with contextlib.suppress(UnicodeDecodeError):
      return units.astype(np.uint8).tobytes().decode()
  return units.astype("<u2").tobytes().decode("utf-16-le", errors="replace")


def number(where: str, array: np.ndarray) -> float:
  """The only number of an array."""
  array = np.asarray(array)
  if array.size != 1 or array.dtype.kind not in "uif" or not np.isfinite(array).all():
    raise InputError(f"{where}: expected one number, found {array.dtype}{list(array.shape)}")
  return float(array.item())


def load_matlab5(path: pathlib.Path, keys: Sequence[str]) -> Mapping[str, np.ndarray]:
  """The named variables of a MATLAB 5 file, with the axes that they have in MATLAB.

  Raises:
    InputError: naming the file, and a variable that it lacks.
  """
  try:
    content = scipy.io.loadmat(path, variable_names=list(keys))
  except NotImplementedError:
    raise InputError(f"{path}: is a MATLAB 7.3 file, expected version 5; {_AGAIN}") from None
  except Exception as error:  # damaged bytes make its parser fail in any way
    reason = " ".join(str(error).split())
    raise InputError(f"{path}: not a MATLAB 5 file, or a cut one ({reason}); {_AGAIN}") from None
  for key in keys:
    if key not in content:
      raise InputError(f"{path}: {key}: there is no such variable; {_AGAIN}")
  return content
