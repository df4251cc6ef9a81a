"""Frames of a media file, decoded once, in order, holding three frames at a time.

Times count as `media` says. A file that stops well before the length it states is an error.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import av
import numpy as np

from vsumjax.media import colour, demux
from vsumjax.types import InputError

# Decoding starts at a key frame at least this long before what is wanted, so that the frame before
# it is there for deinterlacing; no interlaced video has frames as long as that. A transport stream
# has no index: the first key frame after the place sought may lie too late, and is sought again.
_SEEK_LEADS_S = (1.0, 3.0, 10.0)
# Containers of which each key frame is marked and has its own time.
_SEEKABLE = ("mov,", "matroska,", "mpegts", "avi", "flv", "asf", "mxf")


@dataclasses.dataclass(frozen=True)
class MediaInfo:
  """What a media file says of itself.

  width, height: of the picture as displayed, in pixels.
  fps: mean frame rate, 0 where the file does not say.
  stated_s: of a file that is cut off, the length that it states; `duration_s` is what is there.
  """

  duration_s: float
  width: int
  height: int
  fps: float
  has_audio: bool
  stated_s: float | None = None


def probe(path: demux.Path, *, allow_cut: bool = False) -> MediaInfo:
  """Opens a video file and decodes its first frame.

  Args:
    path: a media file with a video stream.
    allow_cut: find out whether the file is cut off; what is there counts then. Otherwise it has the
      length that it states, and what reads it to its end refuses it.

  Raises:
    InputError: naming the file: missing, not media, cut off, no video stream, no frame in it.
  """
  with demux.reading(path), demux.open_media(path) as container:
    stream = _video_stream(path, container)
    has_audio = bool(container.streams.audio)
    packets = demux.packets_to_the_end(path, container, stream, allow_cut=allow_cut)
    frame = next(demux.decode_packets(packets), None)
    if frame is None:
      raise _no_frame(path)
    height, width = _displayed(frame, (frame.height, frame.width))
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    duration_s = _stated_duration_s(container, stream)
  if duration_s is None:
    duration_s = _measured_duration_s(path)
  there_s = demux.length_if_cut_s(path) if allow_cut else None
  if there_s is not None:
    return MediaInfo(there_s, width, height, fps, has_audio, stated_s=duration_s)
  return MediaInfo(duration_s, width, height, fps, has_audio)


def iter_frames(
  path: demux.Path, times_s: Sequence[float], size: tuple[int, int], allow_cut: bool = False
) -> Iterator[np.ndarray]:
  """Yields the frame on screen at each of the ascending times, scaled to `size`, as displayed.

  That is the last frame that starts at or before the time; the first frame for earlier times, the
  last one for later times. Decoding starts at a key frame before the first time and stops at the
  last time, and only frames asked for are scaled. The same array is yielded again where two times
  fall on one frame. In a file without damage, which others are asked for changes no bit of a frame.

  A frame that is flagged as interlaced is deinterlaced by FFmpeg's bwdif with the frames beside it:
  what is shown is its first field, with the lines between filled in. Colours of high dynamic range
  are mapped to BT.709, as `colour` says.

  Args:
    path: a media file with a video stream.
    times_s: seconds from time 0 of the file, ascending.
    size: (height, width) of the frames wanted, in pixels.
    allow_cut: take what there is of a file that is cut off.

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
  scaler, to_standard = av.video.reformatter.VideoReformatter(), colour.StandardRange()
  before, shown, waiting = None, None, 0
  with demux.reading(path):
    for start_s, frame in iter_timed_frames(path, times_s[0], allow_cut=allow_cut):
      if shown is not None and start_s > times_s[waiting]:
        pixels = _to_rgb(scaler, to_standard(_deinterlaced(before, shown, frame)), size)
        while start_s > times_s[waiting]:
          yield pixels
          waiting += 1
          if waiting == len(times_s):
            return
      before, shown = shown, frame
    pixels = _to_rgb(scaler, to_standard(_deinterlaced(before, shown, None)), size)
  for _ in times_s[waiting:]:
    yield pixels


def iter_timed_frames(
  path: demux.Path, from_s: float = -math.inf, *, allow_cut: bool = False
) -> Iterator[tuple[float, av.VideoFrame]]:
  """Yields the frames of a video in the order they are shown, each with its start in seconds.

  The first frame yielded is one that starts at or before `from_s`, or else the first of the file.
  Where key frames are marked and timed, decoding starts at one of them; elsewhere (raw streams,
  MPEG program streams, GIF) at the beginning. The frames are the same, bit by bit, unless the file
  is damaged: what a decoder makes up for what is missing depends on what it saw before. With
  `allow_cut`, a file that is cut off ends where it is cut.

  Raises:
    InputError: naming the file, as `probe`, or at the end a file that is cut off.
  """
  with demux.reading(path):
    latest_s = from_s - _SEEK_LEADS_S[0]
    for lead_s in _SEEK_LEADS_S if latest_s > 0 else ():
      with demux.open_media(path) as container:
        frames = _frames_from_keyframe(path, container, from_s - lead_s, allow_cut)
        first = next(frames, None)
        if first is not None and first[0] <= latest_s:
          yield first
          yield from frames
          return
    with demux.open_media(path) as container:
      stream = _video_stream(path, container)
      packets = demux.packets_to_the_end(path, container, stream, allow_cut=allow_cut)
      is_empty = True
      for timed in _timed_frames(container, stream, packets):
        is_empty = False
        yield timed
      if is_empty:
        raise _no_frame(path)


def _no_frame(path: demux.Path) -> InputError:
  return InputError(f"{path}: holds no frame that can be decoded; convert it to mp4")


def _video_stream(path: demux.Path, container: av.container.InputContainer):
  stream = demux.first_stream(path, container, "video")
  if stream is None:
    raise InputError(f"{path}: has no video stream; give a file with a picture")
  return stream


def _frames_from_keyframe(
  path: demux.Path, container, time_s: float, allow_cut: bool
) -> Iterator[tuple[float, av.VideoFrame]]:
  """Timed frames from a key frame before a time on; none where a key frame cannot be trusted."""
  stream = _video_stream(path, container)
  if not container.format.name.startswith(_SEEKABLE):
    return
  zero_s = demux.origin_s(container)
  try:
    container.seek(math.floor((max(time_s, 0.0) + zero_s) / stream.time_base), stream=stream)
  except av.FFmpegError:  # not every container can seek
    return
  packets = demux.packets_to_the_end(path, container, stream, allow_cut=allow_cut)
  packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, packets)
  key = next(packets, None)
  if key is None or key.pts is None:
    return
  key_s = float(key.pts * key.time_base) - zero_s
  timed = _timed_frames(container, stream, itertools.chain([key], packets))
  # Frames shown before the key frame but stored after it may rest on frames before it.
  yield from itertools.dropwhile(lambda entry: entry[0] < key_s, timed)


def _timed_frames(container, stream, packets) -> Iterator[tuple[float, av.VideoFrame]]:
  zero_s = demux.origin_s(container)
  step_s = 1 / float(stream.average_rate or stream.guessed_rate or 25)
  start_s = -step_s
  for frame in demux.decode_packets(packets):
    # A frame without a time, as in streams that were never in a container, follows the one before.
    start_s = start_s + step_s if frame.time is None else frame.time - zero_s
    yield start_s, frame


def _deinterlaced(
  before: av.VideoFrame | None, shown: av.VideoFrame, after: av.VideoFrame | None
) -> av.VideoFrame:
  """The frame itself where it is not interlaced."""
  if not shown.interlaced_frame:
    return shown
  kind = (shown.width, shown.height, shown.format.name)
  frames = [
    frame
    for frame in (before, shown, after)
    if frame is not None and (frame.width, frame.height, frame.format.name) == kind
  ]
  graph = av.filter.Graph()
  graph.link_nodes(
    graph.add_buffer(
      width=shown.width,
      height=shown.height,
      format=shown.format,
      time_base=shown.time_base,
    ),
    graph.add("bwdif", "mode=send_frame:deint=interlaced"),
    graph.add("buffersink"),
  ).configure()
  for frame in frames:
    graph.vpush(frame)
  graph.vpush(None)
  for _ in frames[: frames.index(shown)]:
    graph.vpull()
  return graph.vpull()


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


def _stated_duration_s(container, stream) -> float | None:
  starts_late = demux.origin_s(container) > _SEEK_LEADS_S[0]
  if starts_late and container.format.name.startswith("matroska,"):
    return None  # it may state where the file ends, not how long it is
  if container.duration is not None and container.duration > 0:
    return container.duration / av.time_base
  if stream.duration is not None and stream.duration > 0:
    return float(stream.duration * stream.time_base)
  return None


def _measured_duration_s(path: demux.Path) -> float:
  with demux.reading(path), demux.open_media(path) as container:
    zero_s, stream = demux.origin_s(container), _video_stream(path, container)
    timed = (packet for packet in container.demux(stream) if packet.pts is not None)
    end_s = max((demux.packet_end_s(packet) - zero_s for packet in timed), default=0.0)
  if end_s <= 0:
    raise InputError(f"{path}: its frames have no times; convert it to mp4")
  return end_s
