"""Sound of a media file: its samples, and what is heard in words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import av
import numpy as np

from vsumjax import media

SAMPLE_RATE = 16_000
NO_SOUND = "no sound"

_CHUNK = SAMPLE_RATE  # samples a chunk of `iter_audio` holds
_TIME_SLACK = SAMPLE_RATE // 50  # timestamps of real files are off by a few milliseconds
_WINDOW = 512  # 32 ms: short against a syllable, long enough to tell a tone from noise
_BAND = slice(4, 110)  # bins of 125 Hz to 3.4 kHz, which even telephone sound has
_SILENCE_DBFS = -60.0
_TINY = 1e-12
_LOUDNESS = ((-12, "very quiet "), (-4, "quiet "), (4, ""), (12, "loud "))  # up to so many dB
_LOUDEST = "very loud "
_KINDS = ("noise", "tone", "mixed sound", "speech-like sound")

PHRASES = (
  NO_SOUND,
  "silence",
  *(word + kind for word in (*(word for _, word in _LOUDNESS), _LOUDEST) for kind in _KINDS),
)
"""All that `describe_spans` may say, for the corpus of a tokenizer."""


def iter_audio(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
  """Yields the first sound stream, mono at SAMPLE_RATE, from time 0 of the file, in order.

  Sample n is heard at n / SAMPLE_RATE seconds: a late start and gaps are filled with zeros. Nothing
  is yielded for a file without sound.

  Yields:
    f32[n], n <= SAMPLE_RATE, about -1..1.

  Raises:
    InputError: naming the file.
  """
  waiting: list[np.ndarray] = []
  num_waiting = 0
  for piece in _placed(_resampled(path)):
    waiting.append(piece)
    num_waiting += len(piece)
    if num_waiting >= _CHUNK:
      joined = np.concatenate(waiting)
      whole = num_waiting - num_waiting % _CHUNK
      yield from np.split(joined[:whole], whole // _CHUNK)
      waiting, num_waiting = [joined[whole:]], num_waiting - whole
  if num_waiting:
    yield np.concatenate(waiting)


def _resampled(path: str | os.PathLike[str]) -> Iterator[tuple[float | None, np.ndarray]]:
  """Decoded pieces, mono at SAMPLE_RATE, each with its time in the file where that is known."""
  with media.reading(path), media.open_media(path) as container:
    stream = media.first_stream(path, container, "audio")
    if stream is None:
      return
    zero_s = media.origin_s(container)
    resampler, source = None, None
    for frame in media.decode(container, stream):
      if source != (frame.format.name, frame.layout.name, frame.sample_rate):
        # Streams may change their layout midway; a resampler takes only one.
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
      time_s = None if frame.time is None else frame.time - zero_s
      for piece in resampler.resample(frame):
        yield time_s, piece.to_ndarray()[0]
        time_s = None
    for piece in resampler.resample(None) if resampler else ():
      yield None, piece.to_ndarray()[0]


def _placed(timed: Iterable[tuple[float | None, np.ndarray]]) -> Iterator[np.ndarray]:
  """Fills gaps with zeros and drops what is before time 0 or overlaps what was yielded."""
  position = 0
  for time_s, piece in timed:
    start = position if time_s is None else round(time_s * SAMPLE_RATE)
    if abs(start - position) <= _TIME_SLACK:
      start = position
    while position < start:
      gap = np.zeros(min(start - position, _CHUNK), np.float32)
      yield gap
      position += len(gap)
    piece = piece[position - start :]
    yield piece
    position += len(piece)


def describe_spans(path: str | os.PathLike[str], span_s_N2: np.ndarray) -> tuple[str, ...]:
  """Says in a few words what is heard in each span: how loud, how steady, and what kind of sound.

  The signal is cut into windows of 32 ms. A span has three measures: its level in dBFS, from the
  mean power of its windows; its spectral flatness, geometric over arithmetic mean of the power
  spectrum between 125 Hz and 3.4 kHz (near 0 for a tone, about 0.56 for white noise), averaged over
  its windows weighted by power; and the spread of the levels of its windows.

  - Below -60 dBFS: "silence".
  - Loudness against the median of the file's spans that are not silent: "very quiet" below -12 dB,
    "quiet" below -4 dB, nothing, "loud" above 4 dB, "very loud" above 12 dB.
  - Kind: "noise" if flatness is above 0.25, "tone" below 0.01, else "mixed sound"; a mixed sound
    whose windows rise and fall as syllables do (spread above 6 dB) is "speech-like sound".

  So a whistle over a quiet crowd may be "very loud tone", and the crowd "quiet noise".

  Args:
    path: a media file.
    span_s_N2: f64[N, 2], start and end in seconds, ascending, not overlapping.

  Returns:
    N phrases, each NO_SOUND where the file has no sound stream.

  Raises:
    InputError: naming the file.
  """
  with media.open_media(path) as container:
    if not container.streams.audio:
      return (NO_SOUND,) * len(span_s_N2)
  measures = _Measures(span_s_N2)
  for first, windows in _windows(iter_audio(path)):
    measures.add(first, windows)
  return measures.phrases()


def _windows(chunks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
  """Whole windows f32[n, _WINDOW] of the signal, with the index of the first."""
  first, rest = 0, np.zeros(0, np.float32)
  for chunk in chunks:
    joined = np.concatenate([rest, chunk])
    whole = len(joined) // _WINDOW
    yield first, joined[: whole * _WINDOW].reshape(whole, _WINDOW)
    first, rest = first + whole, joined[whole * _WINDOW :]


class _Measures:
  """Sums over the windows of each span; their size depends on the number of spans alone."""

  def __init__(self, span_s_N2: np.ndarray):
    self._span_s_N2 = np.asarray(span_s_N2, dtype=np.float64)
    num_spans = len(self._span_s_N2)
    self._count_N = np.zeros(num_spans)
    self._power_N = np.zeros(num_spans)
    self._flat_power_N = np.zeros(num_spans)
    self._level_N = np.zeros(num_spans)
    self._square_level_N = np.zeros(num_spans)

  def add(self, first: int, windows: np.ndarray) -> None:
    middle_s = (first + np.arange(len(windows)) + 0.5) * _WINDOW / SAMPLE_RATE
    span = np.searchsorted(self._span_s_N2[:, 0], middle_s, side="right") - 1
    inside = (span >= 0) & (middle_s < self._span_s_N2[span, 1])
    span, windows = span[inside], windows[inside].astype(np.float64)
    power = np.mean(windows**2, axis=1)
    # The floor keeps digital silence from counting as a large fall.
    level = np.maximum(_dbfs(power), _SILENCE_DBFS)
    for total_N, value in (
      (self._count_N, 1.0),
      (self._power_N, power),
      (self._flat_power_N, power * _flatness(windows)),
      (self._level_N, level),
      (self._square_level_N, level**2),
    ):
      np.add.at(total_N, span, value)

  def phrases(self) -> tuple[str, ...]:
    count_N = np.maximum(self._count_N, 1)
    level_N = _dbfs(self._power_N / count_N)
    flatness_N = self._flat_power_N / np.maximum(self._power_N, _TINY)
    variance_N = self._square_level_N / count_N - (self._level_N / count_N) ** 2
    spread_N = np.sqrt(np.maximum(variance_N, 0))
    sounding_N = level_N > _SILENCE_DBFS
    usual = np.median(level_N[sounding_N]) if sounding_N.any() else 0.0
    return tuple(
      f"{_loudness(level - usual)}{_kind(flatness, spread)}" if sounding else "silence"
      for sounding, level, flatness, spread in zip(
        sounding_N, level_N, flatness_N, spread_N, strict=True
      )
    )


def _dbfs(power: np.ndarray) -> np.ndarray:
  return 10 * np.log10(np.maximum(power, _TINY))


def _flatness(windows: np.ndarray) -> np.ndarray:
  spectrum = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)[:, _BAND]) ** 2 + _TINY
  return np.exp(np.mean(np.log(spectrum), axis=1)) / np.mean(spectrum, axis=1)


def _loudness(above_usual_db: float) -> str:
  for limit_db, word in _LOUDNESS:
    if above_usual_db <= limit_db:
      return word
  return _LOUDEST


def _kind(flatness: float, spread_db: float) -> str:
  if flatness > 0.25:
    return "noise"
  if flatness < 0.01:
    return "tone"
  return "speech-like sound" if spread_db > 6 else "mixed sound"
