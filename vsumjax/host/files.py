"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
  """Yields a temporary path beside `path`; renames it to `path` if the body succeeds.

  If it fails nothing is left. The temporary name keeps the suffix, which media libraries look at.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_durably(path: str | os.PathLike[str]) -> Iterator[Path]:
  """As `replacing`, with file and folder flushed: a power cut leaves all or nothing."""
  path = Path(path)
  with replacing(path) as temporary:
    yield temporary
    _flush(temporary)
  _flush(path.parent)


def _flush(path: Path) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def staging(target: str | os.PathLike[str]) -> Iterator[Path]:
  """Yields a folder beside `target`; what the body makes in it moves to where `target` lies.

  What is named like `target` moves last. If the body fails nothing is left, and what a killed
  process left is cleared by the next one with the same target.
  """
  target = Path(target)
  target.parent.mkdir(parents=True, exist_ok=True)
  for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
    pid = left.suffixes[-2].removeprefix(".")
    if left.is_dir() and pid.isdecimal() and not _is_running(int(pid)):
      shutil.rmtree(left)
  folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
  folder.mkdir()
  try:
    yield folder
    for path in sorted(folder.iterdir(), key=lambda path: path.name == target.name):
      path.rename(target.with_name(path.name))
  finally:
    shutil.rmtree(folder)


def _is_running(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # somebody else's
    return True
  return True


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes a whole file, making its folder if needed."""
  with replacing(path) as temporary:
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def file_digest(path: Path) -> str:
  """Blake2b-16 hex over the bytes of a file."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def remove_leftovers(folder: Path) -> None:
  """Deletes what killed writers left half-written in a folder; for when no other is at work."""
  for path in folder.glob(".*.tmp*"):
    path.unlink()
