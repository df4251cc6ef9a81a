"""A folder on this machine or in a bucket, in which files appear whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vsumjax.data.videos import Location
from vsumjax.host import files
from vsumjax.types import InputError


class Folder:
  """A folder named by a path or by a URL as gs://bucket/folder. Picklable."""

  def __init__(self, location: Location):
    """Creates the folder if need be.

    Raises:
      InputError: a URL that nothing installed can open.
    """
    self._files, self._root = open_location(str(location))
    self._files.makedirs(self._root, exist_ok=True)
    self._is_local = isinstance(self._files, LocalFileSystem)
    # What is pickled must not depend on where a process was started.
    self._location = self._root if self._is_local else str(location)

  def __str__(self) -> str:
    return self._location

  def sizes(self) -> dict[str, int]:
    """Name and bytes of each file; names that start with a dot are left out."""
    self._files.invalidate_cache()  # buckets keep a listing; other processes write, too
    listed = self._files.ls(self._root, detail=True)
    named = {pathlib.PurePosixPath(entry["name"]).name: entry["size"] for entry in listed}
    return {name: size for name, size in sorted(named.items()) if not name.startswith(".")}

  def read(self, name: str) -> bytes:
    """The content of a file. Raises FileNotFoundError."""
    return self._files.cat_file(f"{self._root}/{name}")

  def write(self, name: str, content: bytes | str) -> None:
    """Replaces a file."""
    with self.replacing(name) as temporary:
      temporary.write_bytes(content.encode() if isinstance(content, str) else content)

  def remove(self, name: str) -> None:
    """Deletes a file that is there."""
    self._files.rm_file(f"{self._root}/{name}")

  def remove_leftovers(self) -> None:
    """Deletes what killed writers left half-written; for when no other is at work."""
    if self._is_local:
      files.remove_leftovers(pathlib.Path(self._root))

  @contextlib.contextmanager
  def replacing(self, name: str) -> Iterator[pathlib.Path]:
    """Yields a temporary path on this machine; the file gets its name if the body succeeds."""
    if self._is_local:
      with files.replacing_durably(pathlib.Path(self._root) / name) as temporary:
        yield temporary
      return
    with tempfile.TemporaryDirectory() as folder:
      temporary = pathlib.Path(folder) / name
      yield temporary
      self._files.put_file(str(temporary), f"{self._root}/{name}")

  def __reduce__(self):
    return Folder, (self._location,)


def open_location(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
  """The file system of a path or URL, and the path in it.

  Raises:
    InputError: a URL that nothing installed can open.
  """
  try:
    return fsspec.core.url_to_fs(location)
  except (ImportError, ValueError) as error:
    raise InputError(f"{location}: cannot be opened: {error}") from None


@contextlib.contextmanager
def on_this_machine(location: Location | None) -> Iterator[pathlib.Path | None]:
  """Yields the path of a file, which is a copy for as long as the body runs if it has a URL.

  Raises:
    InputError: naming a URL that cannot be fetched.
  """
  if not isinstance(location, str):
    yield location
    return
  suffix = pathlib.PurePosixPath(location).suffix  # says what kind of file it is
  with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
    _fetch(location, copy.name)
    yield pathlib.Path(copy.name)


def _fetch(location: str, path: str) -> None:
  source, name = open_location(location)
  try:
    source.get_file(name, path)
  except FileNotFoundError:
    raise InputError(f"{location}: there is no such file") from None
  except Exception as error:  # each kind of bucket has errors of its own
    raise InputError(f"{location}: cannot be fetched: {error!r}") from None
