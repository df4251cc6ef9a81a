"""What decoding gave, kept on disk in bounded bytes and shared by the processes of one machine.

Each worker of a pipeline meets every video. Without a common store each would decode it for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vsumjax.contract import BusyError
from vsumjax.types import InputError

_PREFIX = "vsumjax-decoded-"
_OWNER = ".owner"
_NUM_LOCKS = 1024  # two values that share one are made one after the other, nothing worse


class DecodedStore:
  """Values by name, up to a number of bytes, the least recently used ones dropped first.

  A value is made once, whichever thread or process asks first; the others wait for it. Values are
  files, mapped into memory: what is dropped stays readable for those who hold it. A pickled store
  is the same store, for processes of the same machine while the first one lives.
  """

  def __init__(self, capacity_bytes: int):
    """Makes a folder below the temporary one ($TMPDIR); it goes when this process does."""
    _remove_abandoned()
    self.capacity_bytes = capacity_bytes
    # Under its name only when it is locked, so that nobody takes it for an abandoned one.
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    owner = (hidden / _OWNER).open("wb")
    fcntl.flock(owner, fcntl.LOCK_EX)
    self.folder = hidden.rename(hidden.with_name(hidden.name[1:]))
    weakref.finalize(self, _remove, self.folder, owner)

  @property
  def used_bytes(self) -> int:
    return sum(size for _, size, _ in self._values())

  def get(
    self, name: str, make: Callable[[], np.ndarray | bytes], *, wait: bool = True
  ) -> memoryview:
    """The bytes of `name`, read-only; `make` makes them if they are not kept.

    A value larger than the store is handed out and not kept.

    Raises:
      InputError: the disk is full, or the folder is gone.
      BusyError: another thread or process is making the value, if it is not to be waited for.
    """
    path = self.folder / name
    value = _map(path)
    if value is not None:
      return value
    with self._locked(name, wait):
      value = _map(path)  # somebody may have made it meanwhile
      return self._keep(path, make()) if value is None else value

  def _keep(self, path: Path, content: np.ndarray | bytes) -> memoryview:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
      temporary.write_bytes(content)
      value = _map(temporary)
      temporary.rename(path)
    except OSError as error:
      temporary.unlink(missing_ok=True)
      raise InputError(
        f"{self.folder}: cannot keep decoded frames: {error.strerror}; lower data.cache_bytes or "
        "set TMPDIR to a folder with more room"
      ) from None
    self._drop_oldest()
    return value

  def _drop_oldest(self) -> None:
    values = sorted(self._values())
    used_bytes = sum(size for _, size, _ in values)
    for _, size, path in values:
      if used_bytes <= self.capacity_bytes:
        return
      Path(path).unlink(missing_ok=True)
      used_bytes -= size

  def _values(self) -> Iterator[tuple[int, int, str]]:
    """Time of last use, bytes and path of each value."""
    with os.scandir(self.folder) as entries:
      for entry in entries:
        if not entry.name.startswith("."):
          with contextlib.suppress(FileNotFoundError):  # dropped by another process
            stat = entry.stat()
            yield stat.st_mtime_ns, stat.st_size, entry.path

  @contextlib.contextmanager
  def _locked(self, name: str, wait: bool) -> Iterator[None]:
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest()) % _NUM_LOCKS
    # A lock of an open file also tells threads apart, as each opens the file for itself.
    try:
      file = (self.folder / f".lock-{number}").open("wb")
    except OSError as error:
      raise InputError(f"{self.folder}: cannot keep decoded frames: {error.strerror}") from None
    with file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise BusyError(name) from None
      yield

  def __getstate__(self):
    return {"capacity_bytes": self.capacity_bytes, "folder": self.folder}


def _map(path: Path) -> memoryview | None:
  """The bytes of a file, and marks it as used; None where there is none."""
  try:
    with path.open("rb") as file:
      os.utime(file.fileno())
      return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  except FileNotFoundError:
    return None


def _remove(folder: Path, owner: BinaryIO) -> None:
  owner.close()
  shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
  """Removes the folders of processes that were killed."""
  for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
    with contextlib.suppress(OSError), (folder / _OWNER).open("rb") as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the owner lives
      shutil.rmtree(folder)
