"""Reading media files: errors in one line, where time 0 is, which stream is the video, its frames.

Time 0 is where a player starts: the start time of the container, which broadcasts do not put at
zero. Packets that cannot be decoded are passed over, as players do.

Where the clock of an MPEG stream jumps, its times are carried on, as `clock` says.

A path is a file, or a URL that fsspec can open, as gs://bucket/talk.mp4: any string with "://".
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import IO

import av
import fsspec

from vsumjax.media import clock
from vsumjax.types import InputError

Path = str | os.PathLike[str]

_MISSING_TAIL_S = 1.0  # a stated length may be this much longer than what the packets cover
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # of MP4 and QuickTime
_TAIL_S = 5.0  # from here to its end, a file is looked at to tell whether it is whole
# Containers that state their length. Of others FFmpeg makes a guess from the bit rate.
_LENGTH_IN_HEADER = ("mov,", "matroska,", "avi", "flv", "asf", "mxf")
_KNOWN_CLOCKS = 256  # files whose clocks are remembered, so that each is read through once
# Text in odd bytes, which nothing here reads, fails in PyAV unless replaced; since 19 it always is.
_ODD_METADATA = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
  """Errors of FFmpeg within it become InputError; put nothing in it that writes."""
  try:
    yield
  except FileNotFoundError:
    raise InputError(f"{path}: there is no such file") from None
  except (av.InvalidDataError, av.EOFError):
    raise InputError(
      f"{path}: not a video or sound file, or a broken one; try to play it, then convert it to mp4"
    ) from None
  except (av.FFmpegError, OSError) as error:
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"{path}: cannot read the file: {reason}") from None


@contextlib.contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer | clock.CarriedOn]:
  """Opens a media file, local or at a URL, and closes it at the end.

  An MPEG transport or program stream is read through when it is first opened, decoding nothing, to
  learn whether its clock jumps.

  Raises:
    InputError: there is no such file or object, it is no media, or no package reads such URLs.
  """
  with _open_as_stored(path) as container:
    if container.format.name not in clock.FORMATS:
      yield container
      return
    with reading(path):
      jumps = _clock_of(path, _version(path))
    yield container if jumps is None else clock.CarriedOn(container, jumps)


@contextlib.contextmanager
def _open_as_stored(path: Path) -> Iterator[av.container.InputContainer]:
  with contextlib.ExitStack() as stack:
    with reading(path):
      file = stack.enter_context(_open_bytes(path))
      _check_index(path, file)
      source = file
      if not is_url(path):  # these FFmpeg opens by itself, which is faster
        file.close()
        source = f"file:{os.fspath(path)}"  # lest a colon in the name ends that of a protocol
      container = stack.enter_context(av.open(source, **_ODD_METADATA))
      if container.format.name == "tty":
        raise InputError(f"{path}: is a text, which FFmpeg would show as a picture; give a video")
    yield container


def _version(path: Path) -> tuple[int, ...]:
  """What tells a file from another that had its name before."""
  if is_url(path):
    return (size_bytes(path),)
  status = pathlib.Path(path).stat()
  return (status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=_KNOWN_CLOCKS)
def _clock_of(path: Path, version: tuple[int, ...]) -> clock.Clock | None:
  """None where it does not jump; `version` is that of the file."""
  with _open_as_stored(path) as container:
    streams = [_first_of_kind(container, kind) for kind in ("video", "audio")]
    return clock.read_clock(container, [stream for stream in streams if stream is not None])


def is_url(path: Path) -> bool:
  """Whether it is opened through fsspec."""
  return isinstance(path, str) and "://" in path


def read_bytes(path: Path) -> bytes:
  """The whole content of a small file, local or at a URL. Raises InputError, naming it."""
  with reading(path), _open_bytes(path) as file:
    return file.read()


def size_bytes(path: Path) -> int:
  """Size of a file, local or at a URL. Raises InputError, naming it."""
  with reading(path), _open_bytes(path) as file:
    return _size(path, file)


def _size(path: Path, file: IO[bytes]) -> int:
  try:
    return file.seek(0, os.SEEK_END)
  except ValueError:  # as fsspec says it of a server that sends files only whole
    raise InputError(f"{path}: cannot be read from its middle; download it and give it") from None


@contextlib.contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
  if not is_url(path):
    with pathlib.Path(path).open("rb") as file:
      yield file
    return
  try:
    file = fsspec.open(path, "rb").open()
  except OSError:
    raise
  except ImportError as error:
    raise InputError(f"{path}: a package is missing that reads such URLs: {error}") from None
  except Exception as error:  # every file system has errors of its own: of names, keys, rights
    raise InputError(f"{path}: cannot open it: {' '.join(str(error).split())}") from None
  with file:
    yield file


def _check_index(path: Path, file: IO[bytes]) -> None:
  """Refuses an MP4 or QuickTime file whose index (box `moov`) is cut off.

  FFmpeg would read what is left of the index and say nothing of missing streams and frames.
  """
  size = _size(path, file)
  start, kind = 0, b""
  while kind != b"moov" and start < size:
    file.seek(start)
    header = file.read(16)
    length, kind = int.from_bytes(header[:4]), header[4:8]
    if start == 0 and kind not in _FIRST_BOXES:
      break
    if length == 1:  # the true length follows
      length = int.from_bytes(header[8:])
    if length < 8:  # the rest of the file, or nonsense
      break
    start += length
  if kind == b"moov" and start > size:
    raise InputError(f"{path}: is cut off: a part of its index is missing; fetch the file again")
  file.seek(0)


def origin_s(container: av.container.InputContainer) -> float:
  """The timestamp, in seconds, that is time 0 of the file."""
  return (container.start_time or 0) / av.time_base


def first_stream(path: Path, container: av.container.InputContainer, kind: str):
  """The first stream of a kind, "video" or "audio"; None without one. A cover is no video.

  It is decoded in one thread: the same file always gives the same frames.

  Raises:
    InputError: no decoder knows its format.
  """
  stream = _first_of_kind(container, kind)
  if stream is None:
    return None
  if stream.codec_context is None:
    raise InputError(f"{path}: its {kind} is in a format that cannot be decoded")
  # With more, what a decoder makes of damage differs from run to run; and where several files are
  # read at once, as in training, more threads than cores only wait for each other.
  stream.codec_context.thread_count = 1
  return stream


def _first_of_kind(container: av.container.InputContainer, kind: str):
  is_cover = av.stream.Disposition.attached_pic
  streams = getattr(container.streams, kind)
  return next((stream for stream in streams if not stream.disposition & is_cover), None)


def decode(
  container: av.container.InputContainer, stream
) -> Iterator[av.VideoFrame | av.AudioFrame]:
  """The frames of a stream from where the container stands, damaged packets passed over."""
  return decode_packets(container.demux(stream))


def decode_packets(packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame | av.AudioFrame]:
  """The frames of the packets of one stream, damaged packets passed over."""
  for packet in packets:
    # Decoders name damage in several ways; of the whole file, only `demux` speaks.
    with contextlib.suppress(av.FFmpegError):
      yield from packet.decode()


def packets_to_the_end(
  path: Path, container: av.container.InputContainer, stream, *, allow_cut: bool = False
) -> Iterator[av.Packet]:
  """The packets of a stream from where the container stands, and a check that the file is whole.

  One stream may end before the others; a file is cut off when all of them do. So all are read.

  Raises:
    InputError: after the last packet, if the file states a length that its packets do not reach.
      Not with `allow_cut`: then what is there is taken.
  """
  if allow_cut:
    yield from container.demux(stream)
    return
  end_s = 0.0
  for packet in container.demux():
    if packet.pts is not None:
      end_s = max(end_s, packet_end_s(packet))
    if packet.stream_index == stream.index:
      yield packet
  if _is_cut(container, end_s):
    there_s, stated_s = end_s - _stated_zero_s(container), container.duration / av.time_base
    raise InputError(
      f"{path}: is cut off: {there_s:.1f} s of {stated_s:.1f} s are there; fetch the file again"
    )


def length_if_cut_s(path: Path) -> float | None:
  """How many seconds are there of a file that is cut off; None where it is whole or does not say.

  Only the end of a whole file is looked at, a broken one is read through.
  """
  with reading(path), open_media(path) as container:
    if not container.format.name.startswith(_LENGTH_IN_HEADER):
      return None
    tail_s = _stated_zero_s(container) + (container.duration or 0) / av.time_base - _TAIL_S
    with contextlib.suppress(av.FFmpegError):  # what has lost its index may not be sought in
      container.seek(round(max(tail_s, 0.0) * av.time_base))
    end_s = _last_end_s(container)
    if end_s > 0 and not _is_cut(container, end_s):
      return None
  with reading(path), open_media(path) as container:
    end_s = _last_end_s(container)
    return end_s - origin_s(container) if _is_cut(container, end_s) else None


def _last_end_s(container: av.container.InputContainer) -> float:
  """The time stamp, in seconds, at which the last of the packets from here on ends; 0 of none."""
  ends_s = (packet_end_s(packet) for packet in container.demux() if packet.pts is not None)
  return max(ends_s, default=0.0)


def _is_cut(container: av.container.InputContainer, end_s: float) -> bool:
  """Whether the packets end, by their time stamps, well before the file says."""
  if not container.format.name.startswith(_LENGTH_IN_HEADER):
    return False
  stated_s = (container.duration or 0) / av.time_base
  # After a seek beyond the last packet there is none, and nothing is known.
  return 0 < end_s - _stated_zero_s(container) < stated_s - _MISSING_TAIL_S


def _stated_zero_s(container: av.container.InputContainer) -> float:
  """The time stamp, in seconds, from which the stated length counts."""
  # Programs disagree whether Matroska states where the file ends or how long it is.
  return 0.0 if container.format.name.startswith("matroska,") else origin_s(container)


def packet_end_s(packet: av.Packet) -> float:
  """The time stamp, in seconds, at which a packet with a time ends."""
  return float((packet.pts + (packet.duration or 0)) * packet.time_base)
