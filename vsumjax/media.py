"""Reading media files: errors in one line, where time 0 is, which stream is the video, its frames.

Time 0 is where a player starts: the start time of the container, which broadcasts do not put at
zero. Packets that cannot be decoded are passed over, as players do.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

import av

from vsumjax.types import InputError

Path = str | os.PathLike[str]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
  """Errors of FFmpeg within it become InputError; put nothing in it that writes."""
  try:
    yield
  except FileNotFoundError:
    raise InputError(f"{path}: there is no such file") from None
  except av.InvalidDataError:
    raise InputError(
      f"{path}: not a video or sound file, or a broken one; try to play it, then convert it to mp4"
    ) from None
  except (av.FFmpegError, OSError) as error:
    raise InputError(f"{path}: cannot read the file: {error.strerror}") from None


def open_media(path: Path) -> av.container.InputContainer:
  """Opens a media file; close it, or use it as a context manager."""
  with reading(path):
    # Only the decoded text of metadata may fail on odd bytes, and nothing here reads it.
    return av.open(os.fspath(path), metadata_errors="replace")


def size_bytes(path: Path) -> int:
  return pathlib.Path(path).stat().st_size


def read_bytes(path: Path) -> bytes:
  return pathlib.Path(path).read_bytes()


def origin_s(container: av.container.InputContainer) -> float:
  """The timestamp, in seconds, that is time 0 of the file."""
  return (container.start_time or 0) / av.time_base


def first_stream(path: Path, container: av.container.InputContainer, kind: str):
  """The first stream of a kind, "video" or "audio"; None without one. A cover is no video.

  Raises:
    InputError: no decoder knows its format.
  """
  for stream in getattr(container.streams, kind):
    if stream.disposition & av.stream.Disposition.attached_pic:
      continue
    if stream.codec_context is None:
      raise InputError(f"{path}: its {kind} is in a format that cannot be decoded")
    stream.thread_type = "AUTO"
    return stream
  return None


def decode(
  container: av.container.InputContainer, stream
) -> Iterator[av.VideoFrame | av.AudioFrame]:
  """The frames of a stream from where the container stands, damaged packets passed over."""
  for packet in container.demux(stream):
    # Decoders name damage in several ways; of the whole file, only `demux` speaks.
    with contextlib.suppress(av.FFmpegError):
      yield from packet.decode()
