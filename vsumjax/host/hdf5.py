"""HDF5 files that others wrote: whatever is wrong is told with the file and the key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from vsumjax.types import InputError

_AGAIN = "get or write the file again"


@contextlib.contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
  """Opens an HDF5 file.

  Raises:
    InputError: it is none or is cut off, or what the body reads of it is damaged.
  """
  try:
    file = h5py.File(path, "r")
  except OSError as error:
    raise InputError(f"{path}: not an HDF5 file, or a cut one ({error}); {_AGAIN}") from None
  with file:
    try:
      yield file
    except (OSError, RuntimeError, KeyError) as error:  # as h5py tells damage, anywhere
      raise InputError(f"{path}: damaged ({error}); {_AGAIN}") from None


def place(path: str | os.PathLike[str], group: h5py.Group, key: str) -> str:
  """File and key, as errors name them."""
  return f"{path}: {group.name.strip('/')}/{key}".replace(": /", ": ")


def names(path: str | os.PathLike[str], group: h5py.Group) -> list[str]:
  """What lies in a group, video_2 before video_10. Raises InputError if a name is no text."""
  found = list(group)
  for name in found:
    if not isinstance(name, str):
      raise InputError(f"{place(path, group, repr(name))}: the name is not UTF-8; {_AGAIN}")
  return sorted(found, key=number_last)


def read(path: str | os.PathLike[str], group: h5py.Group, key: str) -> Any:
  """The whole content of a data set. Raises InputError naming file and key."""
  where = place(path, group, key)
  try:
    node = group[key]
    if isinstance(node, h5py.Dataset):
      return node[()]
  except KeyError:
    raise InputError(f"{where}: there is no such key; {_AGAIN}") from None
  except (OSError, RuntimeError, TypeError, ValueError) as error:  # damage, of the type too
    raise InputError(f"{where}: cannot be read ({error}); {_AGAIN}") from None
  raise InputError(f"{where}: is a group, expected an array; {_AGAIN}")


def read_text(path: str | os.PathLike[str], group: h5py.Group, key: str) -> str:
  """The one text of a data set. Raises InputError naming file and key."""
  try:
    return np.asarray(read(path, group, key)).item().decode()
  except (AttributeError, ValueError) as error:  # no text, not one, or not UTF-8
    if isinstance(error, InputError):
      raise
    raise InputError(f"{place(path, group, key)}: must be one text") from None


def number_last(key: str) -> tuple[str, int]:
  """To sort by: video_2 before video_10."""
  stem = key.rstrip("0123456789")
  return stem, int(key[len(stem) :] or 0)
