"""The summary as a video: chosen spans of a file, one after the other, with their sound in step.

Everything is placed on one time line of the summary by the source's own time stamps: pictures in
ticks of its clock, sound in samples. Every cut is rounded by itself from its exact time, so that no
error of one span is carried on to the next; a span's sound is filled or cut to its exact length.

Where the source's frames come at a constant rate, so do the summary's: a span holds the frames that
start in it, the first of them at its cut, which is moved to a whole number of frames. The sound of
the span is moved with its picture. The last frame may be longer or shorter, to keep the length that
was asked for. Where the rate varies, frames keep their own times.
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
from vsumjax.media import clock, demux, rates
from vsumjax.media.encoding import Canvas, Pace, add_audio, add_video
from vsumjax.types import InputError

Array = np.ndarray
Progress = Callable[[float, float], None]  # seconds rendered, seconds in all

# A picture that a cut leaves on screen for less than this is a flash of the neighbouring scene.
SHORTEST_PICTURE_S = 0.01
# Moving a cut by half a frame would change a shorter span by more than a tenth.
FEWEST_FRAMES = 5
# Time stamps of sound are rounded by the container (1 ms in WebM); only more than this is a gap.
SOUND_GAP_S = 0.01
# A sound decoder needs some packets before the first sample it gets right.
SOUND_LEAD_S = 0.25
OVERHANG_S = 0.1  # the sound of a file goes on for so long after its picture, to fill a packet
REORDERED_S = 1.0  # frames are coded out of order within it
SEEK_LEAD_S = 10.0  # longer than most encoders go without a key frame


@dataclasses.dataclass(frozen=True)
class _Picture:
  """A frame as decoded, and when it is on screen in the summary."""

  time_s: float
  frame: av.VideoFrame
  tick: int
  end_tick: int


@dataclasses.dataclass(frozen=True)
class _Sound:
  """A run of samples, and when it is heard in the summary."""

  time_s: float
  frame: av.AudioFrame


@dataclasses.dataclass(frozen=True)
class _Cut:
  """A span of the source, and its place in the summary.

  start_s, end_s: of the source, as chosen.
  tick, end_tick: of its picture in the summary.
  shown_s, heard_s: time of the source that is seen, and heard, at the cut.
  """

  start_s: float
  end_s: float
  tick: int
  end_tick: int
  shown_s: float
  heard_s: float


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

  def frame_starts(self, start_s: float, end_s: float) -> Array:
    """f64[n], ascending: when frames start, from before a time on; decodes none."""
    with demux.reading(self._path):
      for time_s in (start_s - REORDERED_S, start_s - SEEK_LEAD_S, 0.0):
        self._seek(time_s)
        times_s = list(self._packet_times(end_s))
        if times_s and times_s[0][0] <= start_s - REORDERED_S / 2:
          break
    return np.unique([shown_s for _, shown_s in times_s])

  def _packet_times(self, end_s: float) -> Iterator[tuple[float, float]]:
    """When packets are decoded and shown, until those are decoded that are shown after a time."""
    for packet in self._container.demux(self.stream):
      if packet.pts is not None:
        shown_s = self.time_s(packet)
        early = 0 if packet.dts is None else packet.pts - packet.dts
        decoded_s = shown_s - float(early * packet.time_base)
        yield decoded_s, shown_s
        if decoded_s > end_s:
          return

  def _seek(self, time_s: float) -> None:
    # MPEG streams have no index, and are sought by the time of decoding, which is earlier.
    early_s = REORDERED_S if self._container.format.name in clock.FORMATS else 0.0
    offset = int((max(time_s, 0.0) + self._origin_s - early_s) / self.stream.time_base)
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

  A constant frame rate stays what it is, a variable one varies as it did; so do the frames of a
  summary that has a span of less than FEWEST_FRAMES, or a source of less than 10 frames a second.
  Odd sizes shrink by a row or column, turned videos are turned upright, where the size changes it
  is that of the first frame, and colours are as `encoding.Canvas` says. Where the source has no
  sound for a while, the summary is silent. Memory does not grow with the length of the video.

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
    pace, cuts = _plan(video, span_s_K2)
    pictures = _pictures(video, cuts, pace)
    with demux.reading(path_in):
      first = next(pictures, None)
    if first is None:
      raise InputError(f"{path_in}: no frame of its video can be decoded")
    canvas = Canvas(first.frame)
    temporary = stack.enter_context(replacing(path_out))
    output = stack.enter_context(
      av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
    )
    streams = {_Picture: add_video(output, canvas, pace, video.stream)}
    pieces = [itertools.chain([first], pictures)]
    if audio is not None:
      streams[_Sound] = add_audio(output, audio.stream)
      pieces.append(_sound(audio, span_s_K2, cuts, streams[_Sound].codec_context))

    # In order of time, the muxer has to hold back little of either stream.
    for piece in heapq.merge(*pieces, key=lambda piece: piece.time_s):
      is_picture = isinstance(piece, _Picture)
      frame = _timed(canvas(piece.frame), piece, pace) if is_picture else piece.frame
      output.mux(streams[type(piece)].encode(frame))
      if on_progress and is_picture:
        on_progress(piece.time_s, total_s)
    for stream in streams.values():
      output.mux(stream.encode(None))
  if on_progress:
    on_progress(total_s, total_s)


def _plan(video: _Source, span_s_K2: Array) -> tuple[Pace, list[_Cut]]:
  """At which pace frames come, and where each span's are."""
  starts_s = [video.frame_starts(start_s, end_s) for start_s, end_s in span_s_K2.tolist()]
  within_s = [
    starts[(starts >= start_s) & (starts < end_s)]
    for starts, (start_s, end_s) in zip(starts_s, span_s_K2.tolist(), strict=True)
  ]
  stream = video.stream
  stated = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
  rate = rates.constant_rate(within_s, stated, float(stream.time_base))
  shortest_s = float(np.diff(span_s_K2, axis=1).min())
  if rate is None or shortest_s * rate < FEWEST_FRAMES:
    pace = Pace()
    edges = _edges(span_s_K2, pace.ticks_per_s)
    spans = zip(span_s_K2.tolist(), itertools.pairwise(edges), strict=True)
    return pace, [_Cut(*span_s, *ticks, span_s[0], span_s[0]) for span_s, ticks in spans]
  return Pace(rate), _cuts_at_frames(span_s_K2, starts_s, Pace(rate))


def _cuts_at_frames(span_s_K2: Array, starts_s: list[Array], pace: Pace) -> list[_Cut]:
  """The cuts of a summary with frames at a constant rate; each at a whole number of frames."""
  frame_s = float(1 / pace.rate)
  exact = _edges(span_s_K2, pace.ticks_per_s)
  ticks = [round(tick / pace.frame_ticks) * pace.frame_ticks for tick in exact]
  cuts = []
  for index, (start_s, end_s) in enumerate(span_s_K2.tolist()):
    starts = starts_s[index]
    first = starts[starts >= start_s - _flash_s(pace)][:1]
    # Where frames are missing, the one before is on screen.
    shown_s = float(first[0]) if first.size and first[0] < start_s + frame_s else start_s
    heard_s = shown_s - (ticks[index] - exact[index]) / pace.ticks_per_s
    cuts.append(_Cut(start_s, end_s, ticks[index], ticks[index + 1], shown_s, heard_s))
  end_tick = _end_tick(cuts[-1], float(starts_s[-1].max(initial=-np.inf)), exact[-1], pace)
  return [*cuts[:-1], dataclasses.replace(cuts[-1], end_tick=end_tick)]


def _end_tick(last: _Cut, last_start_s: float, exact: int, pace: Pace) -> int:
  """Where the picture of the last cut ends; `last_start_s` is of the last frame that there is."""
  left_s = last.end_s - last_start_s - float(1 / pace.rate)
  if 0 <= left_s < OVERHANG_S:
    return _tick(last_start_s, last, pace) + pace.frame_ticks
  # Where the picture has ended no frame can be longer, and at 30000/1001 frames a second and the
  # like, no length in seconds is a whole number of frames.
  return exact if left_s < 0 and pace.rate.denominator == 1 else last.end_tick


def _flash_s(pace: Pace) -> float:
  """A frame on screen for less than this beside a cut is left out."""
  return SHORTEST_PICTURE_S if pace.rate is None else min(SHORTEST_PICTURE_S, 0.5 / pace.rate)


def _pictures(source: _Source, cuts: Iterable[_Cut], pace: Pace) -> Iterator[_Picture]:
  """The frames of all spans with the times that they have in the summary."""
  for cut in cuts:
    held = None  # shown until the next frame comes
    held_tick = cut.tick
    for frame in source.frames_from(cut.start_s):
      time_s = source.time_s(frame)
      tick = cut.tick if held is None else _tick(time_s, cut, pace)
      is_over = time_s >= cut.end_s - _flash_s(pace) or tick > cut.end_tick - pace.frame_ticks / 2
      if held is not None and is_over:
        break
      if tick > held_tick:
        yield from _shown(held, held_tick, tick, pace)
      held, held_tick = frame, max(tick, held_tick)
    if held is not None:
      yield from _shown(held, held_tick, cut.end_tick, pace)


def _tick(time_s: float, cut: _Cut, pace: Pace) -> int:
  """When a frame of the source that is not the first is due in the summary."""
  after_s = time_s - cut.shown_s
  if pace.rate is not None:
    return cut.tick + max(round(after_s * float(pace.rate)), 0) * pace.frame_ticks
  return cut.tick + (round(after_s * pace.ticks_per_s) if after_s > SHORTEST_PICTURE_S else 0)


def _shown(frame: av.VideoFrame, tick: int, end_tick: int, pace: Pace) -> Iterator[_Picture]:
  """A frame for as long as it is on screen: at a constant rate, as often as that takes."""
  first, step = tick, pace.frame_ticks
  if step:
    # What is left at the end of the summary may be less than half a frame.
    while end_tick - first >= 1.5 * step:
      yield _Picture(first / pace.ticks_per_s, frame, first, first + step)
      first += step
  yield _Picture(first / pace.ticks_per_s, frame, first, end_tick)


def _timed(frame: av.VideoFrame, picture: _Picture, pace: Pace) -> av.VideoFrame:
  frame.time_base = Fraction(1, pace.ticks_per_s)
  frame.pts, frame.duration = picture.tick, picture.end_tick - picture.tick
  frame.pict_type = 0  # the source's choice of key frames is not the encoder's
  return frame


def _sound(
  source: _Source, span_s_K2: Array, cuts: Iterable[_Cut], encoder: av.AudioCodecContext
) -> Iterator[_Sound]:
  """The samples of all spans, as many as the rate asks for; silence where the source has none."""
  rate, layout = encoder.sample_rate, encoder.layout
  edges = _edges(span_s_K2, rate)
  done = 0
  for cut, num_samples in zip(cuts, np.diff(edges), strict=True):
    runs = _resampled(source, cut.heard_s, rate, layout)
    for samples in _placed(runs, int(num_samples), layout.nb_channels, round(SOUND_GAP_S * rate)):
      frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout.name)
      frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), done
      yield _Sound(done / rate, frame)
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
