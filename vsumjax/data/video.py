"""Frames of a media file, decoded once, in order, holding one frame at a time.

Times count as `media` says. A file that stops well before the length it states is an error.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import av
import numpy as np

from vsumjax import media
from vsumjax.types import InputError

_MISSING_TAIL_S = 1.0  # a stated length may be this much longer than what the packets cover


@dataclasses.dataclass(frozen=True)
class MediaInfo:
  """What a media file says of itself.

  width, height: of the picture as displayed, in pixels.
  fps: mean frame rate, 0 where the file does not say.
  """

  duration_s: float
  width: int
  height: int
  fps: float
  has_audio: bool


def probe(path: str | os.PathLike[str]) -> MediaInfo:
  """Opens a video file and decodes its first frame.

  Raises:
    InputError: naming the file: missing, not media, no video stream, or no frame in it.
  """
  with media.reading(path), media.open_media(path) as container:
    stream = _video_stream(path, container)
    has_audio = bool(container.streams.audio)
    frame = next(media.decode(container, stream), None)
    if frame is None:
      raise InputError(f"{path}: holds no frame that can be decoded; convert it to mp4")
    height, width = _displayed(frame, (frame.height, frame.width))
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    duration_s = _stated_duration_s(container, stream)
  if duration_s is None:
    duration_s = _measured_duration_s(path)
  return MediaInfo(duration_s, width, height, fps, has_audio)


def iter_frames(
  path: str | os.PathLike[str], times_s: Sequence[float], size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """Yields the frame on screen at each of the ascending times, scaled to `size`, as displayed.

  That is the last frame that starts at or before the time; the first frame for earlier times, the
  last one for later times. Decoding stops at the last time, and only frames asked for are scaled.
  The same array is yielded again where two times fall on one frame.

  Args:
    path: a media file with a video stream.
    times_s: seconds from time 0 of the file, ascending.
    size: (height, width) of the frames wanted, in pixels.

  Yields:
    u8[height, width, 3], RGB, one for each time.

  Raises:
    InputError: naming the file, as `probe`, or a file that is cut off.
  """
  times_s = [float(time_s) for time_s in times_s]
  if times_s != sorted(times_s):
    raise ValueError("times_s must be ascending")
  if not times_s:
    return
  with media.reading(path), media.open_media(path) as container:
    stream = _video_stream(path, container)
    scaler = av.video.reformatter.VideoReformatter()
    shown, waiting = None, 0
    for start_s, frame in _timed_frames(container, stream):
      if shown is not None and start_s > times_s[waiting]:
        pixels = _to_rgb(scaler, shown, size)
        while start_s > times_s[waiting]:
          yield pixels
          waiting += 1
          if waiting == len(times_s):
            return
      shown = frame
    if shown is None:
      raise InputError(f"{path}: holds no frame that can be decoded; convert it to mp4")
    _check_whole(path, container)
    pixels = _to_rgb(scaler, shown, size)
    for _ in times_s[waiting:]:
      yield pixels


def _video_stream(path: str | os.PathLike[str], container: av.container.InputContainer):
  stream = media.first_stream(path, container, "video")
  if stream is None:
    raise InputError(f"{path}: has no video stream; give a file with a picture")
  return stream


def _timed_frames(container, stream) -> Iterator[tuple[float, av.VideoFrame]]:
  zero_s = media.origin_s(container)
  step_s = 1 / float(stream.average_rate or stream.guessed_rate or 25)
  start_s = -step_s
  for frame in media.decode(container, stream):
    # A frame without a time, as in streams that were never in a container, follows the one before.
    start_s = start_s + step_s if frame.time is None else frame.time - zero_s
    yield start_s, frame


def _to_rgb(scaler, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
  height, width = _displayed(frame, size)
  flags = av.video.reformatter.Interpolation
  # The option flags make the colours exact and the same on every machine.
  exact = flags.AREA | flags.FULL_CHR_H_INT | flags.ACCURATE_RND | flags.BITEXACT
  # One thread: starting more takes longer than scaling.
  scaled = scaler.reformat(frame, width, height, format="rgb24", interpolation=exact, threads=1)
  quarter_turns = round(frame.rotation / 90)  # counterclockwise, as np.rot90 counts
  return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns))


def _displayed(frame: av.VideoFrame, size: tuple[int, int]) -> tuple[int, int]:
  """(height, width) swapped where the picture is turned by a quarter."""
  return size[::-1] if round(frame.rotation / 90) % 2 else size


def _stated_duration_s(container, stream=None) -> float | None:
  if container.duration is not None and container.duration > 0:
    return container.duration / av.time_base
  if stream is not None and stream.duration is not None and stream.duration > 0:
    return float(stream.duration * stream.time_base)
  return None


def _measured_duration_s(path: str | os.PathLike[str]) -> float:
  with media.reading(path), media.open_media(path) as container:
    end_s = max(_packet_ends_s(container, _video_stream(path, container)), default=0.0)
  if end_s <= 0:
    raise InputError(f"{path}: its frames have no times; convert it to mp4")
  return end_s


def _packet_ends_s(container, *streams) -> Iterator[float]:
  zero_s = media.origin_s(container)
  for packet in container.demux(*streams):
    if packet.pts is not None:
      yield float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero_s


def _check_whole(path: str | os.PathLike[str], container) -> None:
  # The picture may end before the sound; a file is cut off when every stream does.
  stated_s = _stated_duration_s(container)
  if stated_s is None:
    return
  with media.reading(path), media.open_media(path) as again:
    end_s = max(_packet_ends_s(again), default=0.0)
  if stated_s - end_s > _MISSING_TAIL_S:
    raise InputError(
      f"{path}: is cut off: {end_s:.1f} s of {stated_s:.1f} s are there; fetch the file again"
    )
