"""MATLAB files: version 7.3 (HDF5, where a cell is a reference) and version 5."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping, Sequence

import h5py
import numpy as np
import scipy.io

from vsumjax.host import hdf5
from vsumjax.types import InputError

_AGAIN = "get the file from its authors again"


def cells(path: pathlib.Path, file: h5py.File, key: str) -> Sequence[h5py.Reference]:
  """The references of a cell array of MATLAB 7.3."""
  references = hdf5.read(path, file, key)
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
