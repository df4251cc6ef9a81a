"""The summary as a video: chosen spans of a file, one after the other, with their sound in step.

Everything is placed on one time line of the summary by the source's own time stamps: pictures in
ticks of 1/90,000 s, sound in samples. Every cut is rounded by itself from its exact time, so that
no error of one span is carried on to the next; a span's sound is filled or cut to its exact length.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

from vsumjax.host.files import replacing
from vsumjax.media import demux
from vsumjax.types import InputError

Array = np.ndarray
Progress = Callable[[float, float], None]  # seconds rendered, seconds in all

TICKS_PER_S = 90_000  # of the picture's clock: MPEG's, fine enough for any variable frame rate
# A picture that a cut leaves on screen for less than this is a flash of the neighbouring scene.
SHORTEST_PICTURE_S = 0.01
# Time stamps of sound are rounded by the container (1 ms in WebM); only more than this is a gap.
SOUND_GAP_S = 0.01
# A sound decoder needs some packets before the first sample it gets right.
SOUND_LEAD_S = 0.25
SEEK_LEAD_S = 10.0  # longer than most encoders go without a key frame
SOUND_BIT_RATE = 80_000  # bits/s and channel


@dataclasses.dataclass(frozen=True)
class _Piece:
  """A picture or a run of samples, and when it is due in the summary."""

  kind: str  # "video" or "audio", as PyAV names its streams
  time_s: float
  frame: av.VideoFrame | av.AudioFrame


class _Source:
  """One stream of an open media file, read from any time. Times count from the file's start."""

  def __init__(self, path: str | os.PathLike[str], container, stream):
    self.stream = stream
    self._path = path
    self._container = container
    self._origin_s = demux.origin_s(container)

  def time_s(self, frame) -> float:
    return float(frame.pts * frame.time_base) - self._origin_s

  def frames_from(self, start_s: float) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Frames in order, from one that begins at or before a time, or else from the first."""
    with demux.reading(self._path):
      # A coarse index may lead past the time asked for: then from further back, at last from 0.
      for time_s in (start_s, start_s - SEEK_LEAD_S, 0.0):
        self._seek(time_s)
        frames = self._decode()
        first = next(frames, None)
        if first is not None and self.time_s(first) <= start_s:
          break
      if first is not None:
        yield first
      yield from frames

  def _seek(self, time_s: float) -> None:
    offset = int((max(time_s, 0.0) + self._origin_s) / self.stream.time_base)
    self._container.seek(offset, stream=self.stream)

  def _decode(self) -> Iterator[av.VideoFrame | av.AudioFrame]:
    # After a damaged packet the frame before it stays, and the sound is silent.
    frames = demux.decode(self._container, self.stream)
    return (frame for frame in frames if frame.pts is not None)


def write_excerpts(
  path_in: str | os.PathLike[str],
  span_s_K2: Array,
  path_out: str | os.PathLike[str],
  on_progress: Progress | None = None,
) -> None:
  """Writes the chosen spans of a video as one mp4: H.264, and AAC if the source has sound.

  Frames keep their own times (variable rates stay variable), odd sizes shrink by a row or column,
  turned videos are turned upright. Where the source has no sound for a while, the summary is
  silent. Memory does not grow with the length of the video.

  Args:
    path_in: any media file with a video stream.
    span_s_K2: real[K, 2], start and end in seconds, ascending, not overlapping.
    path_out: the mp4; appears only when it is complete.
    on_progress: called with the seconds rendered and the seconds in all.

  Raises:
    InputError: the file is missing, broken or without video, or the spans are not as above.
  """
  span_s_K2 = _joined(np.asarray(span_s_K2, np.float64))
  total_s = float((span_s_K2[:, 1] - span_s_K2[:, 0]).sum())
  with contextlib.ExitStack() as stack:
    video = stack.enter_context(_opened(path_in, "video"))
    audio = stack.enter_context(_opened(path_in, "audio"))
    if video is None:
      raise InputError(f"{path_in}: holds no video stream")
    pictures = _pictures(video, span_s_K2)
    with demux.reading(path_in):
      first = next(pictures, None)
    if first is None:
      raise InputError(f"{path_in}: no frame of its video can be decoded")
    temporary = stack.enter_context(replacing(path_out))
    output = stack.enter_context(
      av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
    )
    streams = {"video": _add_video(output, first.frame, video.stream)}
    pieces = [itertools.chain([first], pictures)]
    if audio is not None:
      streams["audio"] = _add_audio(output, audio.stream)
      pieces.append(_sound(audio, span_s_K2, streams["audio"].codec_context))

    # In order of time, the muxer has to hold back little of either stream.
    for piece in heapq.merge(*pieces, key=lambda piece: piece.time_s):
      output.mux(streams[piece.kind].encode(piece.frame))
      if on_progress and piece.kind == "video":
        on_progress(piece.time_s, total_s)
    for stream in streams.values():
      output.mux(stream.encode(None))
  if on_progress:
    on_progress(total_s, total_s)


def _pictures(source: _Source, span_s_K2: Array) -> Iterator[_Piece]:
  """The frames of all spans with the times and durations they have in the summary."""
  for (start_s, end_s), (first_tick, end_tick) in zip(
    span_s_K2, itertools.pairwise(_edges(span_s_K2, TICKS_PER_S)), strict=True
  ):
    held = None  # shown until the next frame comes
    held_tick = first_tick
    for frame in source.frames_from(start_s):
      time_s = source.time_s(frame)
      if held is not None and time_s >= end_s - SHORTEST_PICTURE_S:
        break
      tick = first_tick
      if held is not None and time_s > start_s + SHORTEST_PICTURE_S:
        tick = first_tick + round((time_s - start_s) * TICKS_PER_S)
      if tick > held_tick:
        yield _picture(held, held_tick, tick)
      held, held_tick = frame, max(tick, held_tick)
    if held is not None:
      yield _picture(held, held_tick, end_tick)


def _picture(frame: av.VideoFrame, tick: int, end_tick: int) -> _Piece:
  if frame.rotation:
    upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")
  frame.time_base = Fraction(1, TICKS_PER_S)
  frame.pts, frame.duration = tick, end_tick - tick
  frame.pict_type = 0  # the source's choice of key frames is not the encoder's
  return _Piece("video", tick / TICKS_PER_S, frame)


def _sound(source: _Source, span_s_K2: Array, encoder: av.AudioCodecContext) -> Iterator[_Piece]:
  """The samples of all spans, as many as the rate asks for; silence where the source has none."""
  rate, layout = encoder.sample_rate, encoder.layout
  edges = _edges(span_s_K2, rate)
  done = 0
  for (start_s, _), num_samples in zip(span_s_K2, np.diff(edges), strict=True):
    runs = _resampled(source, start_s, rate, layout)
    for samples in _placed(runs, int(num_samples), layout.nb_channels, round(SOUND_GAP_S * rate)):
      frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout.name)
      frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), done
      yield _Piece("audio", done / rate, frame)
      done += samples.shape[1]


def _resampled(
  source: _Source, start_s: float, rate: int, layout: av.AudioLayout
) -> Iterator[tuple[int, Array]]:
  """Runs of samples f32[channels, n] and where each begins, in samples from `start_s`."""
  resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
  for frame in itertools.chain(source.frames_from(start_s - SOUND_LEAD_S), [None]):
    for run in resampler.resample(frame):
      if run is not None:  # what a resampler with nothing to do makes of the end
        yield round((source.time_s(run) - start_s) * rate), run.to_ndarray()


def _placed(
  runs: Iterable[tuple[int, Array]], num_samples: int, num_channels: int, gap: int
) -> Iterator[Array]:
  """Runs in their places in `num_samples` samples: overlaps cut, gaps filled, both ends exact.

  E.g. runs of 4 samples at -2, 2 and 7 in 10 samples (gap 0): 2 of the first, 4 of the second, 1 of
  silence, 3 of the third.
  """
  done, expected = 0, None
  for begin, samples in runs:
    if expected is not None and abs(begin - expected) <= gap:
      begin = expected
    expected = begin + samples.shape[1]
    if begin >= num_samples:
      break
    yield from _silence(begin - done, num_channels)
    done = max(done, begin)
    samples = samples[:, done - begin : num_samples - begin]
    if samples.shape[1]:
      yield np.ascontiguousarray(samples)
      done += samples.shape[1]
  yield from _silence(num_samples - done, num_channels)


def _silence(num_samples: int, num_channels: int, num_at_once: int = 4096) -> Iterator[Array]:
  for begin in range(0, num_samples, num_at_once):
    yield np.zeros((num_channels, min(num_at_once, num_samples - begin)), np.float32)


def _add_video(output, frame: av.VideoFrame, source) -> av.VideoStream:
  rate = min(max(source.average_rate or Fraction(25), Fraction(1)), Fraction(120))
  # Only without frames coded out of order is the duration of the last one kept as it was asked.
  options = {"preset": "veryfast", "crf": "20", "bf": "0"}
  stream = output.add_stream("libx264", rate=rate, options=options)
  # 4:2:0 halves both sides of the colour planes.
  stream.width, stream.height = (max(side - side % 2, 2) for side in (frame.width, frame.height))
  stream.pix_fmt = "yuv420p"
  encoder = stream.codec_context
  stream.time_base = encoder.time_base = Fraction(1, TICKS_PER_S)
  encoder.flags |= av.codec.context.Flags.frame_duration
  if source.sample_aspect_ratio:
    turned = frame.width == source.height != source.width
    shape = source.sample_aspect_ratio
    encoder.sample_aspect_ratio = 1 / shape if turned else shape
  encoder.colorspace, encoder.color_primaries = frame.colorspace, frame.color_primaries
  encoder.color_trc = frame.color_trc
  return stream


def _add_audio(output, source) -> av.AudioStream:
  rates = av.Codec("aac", "w").audio_rates
  rate = source.sample_rate if source.sample_rate in rates else 48_000
  layout = "mono" if source.layout.nb_channels == 1 else "stereo"
  stream = output.add_stream("aac", rate=rate, layout=layout)
  stream.bit_rate = SOUND_BIT_RATE * stream.layout.nb_channels
  return stream


def _edges(span_s_K2: Array, rate: int) -> list[int]:
  """K + 1 places of cuts in the summary, in units of 1/rate s."""
  duration_s_K = span_s_K2[:, 1] - span_s_K2[:, 0]
  return [round(time_s * rate) for time_s in np.cumsum([0.0, *duration_s_K])]


def _joined(span_s_K2: Array) -> Array:
  """Checks the spans and joins those that touch: where nothing is left out, nothing is cut."""
  if span_s_K2.ndim != 2 or span_s_K2.shape[1] != 2 or len(span_s_K2) == 0:
    raise InputError(f"a summary needs spans as an array [K, 2], not {list(span_s_K2.shape)}")
  if not (np.isfinite(span_s_K2).all() and (span_s_K2[:, 0] < span_s_K2[:, 1]).all()):
    raise InputError("every span of a summary must end after it starts")
  if span_s_K2[0, 0] < 0 or (span_s_K2[1:, 0] < span_s_K2[:-1, 1] - 1e-6).any():
    raise InputError("the spans of a summary must be ascending and must not overlap")
  is_cut = span_s_K2[1:, 0] > span_s_K2[:-1, 1] + 1e-6
  return np.stack([span_s_K2[np.r_[True, is_cut], 0], span_s_K2[np.r_[is_cut, True], 1]], axis=1)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], kind: str) -> Iterator[_Source | None]:
  """The first stream of a kind, or None if the file has none."""
  with demux.open_media(path) as container:
    stream = demux.first_stream(path, container, kind)
    yield stream and _Source(path, container, stream)
