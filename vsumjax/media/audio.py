"""Sound of a media file: its samples, and what is heard in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import av
import numpy as np

from vsumjax.media import demux, segments

SAMPLE_RATE = 16_000
NO_SOUND = "no sound"

_CHUNK = SAMPLE_RATE  # samples a chunk of `iter_audio` holds
_TIME_SLACK = SAMPLE_RATE // 50  # timestamps of real files are off by a few milliseconds
# 1/32 s: short against a syllable, long enough to tell a tone from noise. Spans of whole or half
# seconds hold whole windows.
_WINDOW = SAMPLE_RATE // 32
_BAND = slice(4, 107)  # bins of 128 Hz to 3.4 kHz, which even telephone sound has
_PIECE_S = 2.0  # long enough for a few syllables or beats
_LAG = 4  # windows: an eighth of a second, within which a syllable changes and a note does not
_SYLLABLES_HZ = (2.5, 8.0)
_FEWEST_WINDOWS = 16  # half a second: in less, syllables cannot be told
_MEMORY = 32  # windows: a second, over which a sound may come suddenly
_SILENCE_DBFS = -60.0
_SUDDEN_DB = 12.0
_TINY = 1e-12
_LOUDNESS = ((-12, "very quiet "), (-4, "quiet "), (4, ""), (12, "loud "))  # up to so many dB
_LOUDEST = "very loud "
_SUDDEN = "sudden loud "
_KINDS = ("noise", "tone", "music-like sound", "speech-like sound", "mixed sound")
_NOISE, _TONE, _MUSIC, _SPEECH, _MIXED = range(len(_KINDS))
_THEN = ", then "

PHRASES = (
  NO_SOUND,
  "silence",
  *(
    word + kind for word in (*(word for _, word in _LOUDNESS), _LOUDEST, _SUDDEN) for kind in _KINDS
  ),
)
"""All that `describe_spans` may say of a piece of sound, for the corpus of a tokenizer."""


def iter_audio(path: demux.Path, *, allow_cut: bool = False) -> Iterator[np.ndarray]:
  """Yields the first sound stream, mono at SAMPLE_RATE, from time 0 of the file, in order.

  Sample n is heard at n / SAMPLE_RATE seconds: a late start and gaps are filled with zeros. Nothing
  is yielded for a file without sound. With `allow_cut`, a file that is cut off ends there.

  Yields:
    f32[n], n <= SAMPLE_RATE, about -1..1.

  Raises:
    InputError: naming the file; at the end where it is cut off.
  """
  waiting: list[np.ndarray] = []
  num_waiting = 0
  for piece in _placed(_resampled(path, allow_cut)):
    waiting.append(piece)
    num_waiting += len(piece)
    if num_waiting >= _CHUNK:
      joined = np.concatenate(waiting)
      whole = num_waiting - num_waiting % _CHUNK
      yield from np.split(joined[:whole], whole // _CHUNK)
      waiting, num_waiting = [joined[whole:]], num_waiting - whole
  if num_waiting:
    yield np.concatenate(waiting)


def _resampled(path: demux.Path, allow_cut: bool) -> Iterator[tuple[float | None, np.ndarray]]:
  """Decoded pieces, mono at SAMPLE_RATE, each with its time in the file where that is known."""
  with demux.reading(path), demux.open_media(path) as container:
    stream = demux.first_stream(path, container, "audio")
    if stream is None:
      return
    zero_s = demux.origin_s(container)
    resampler, source = None, None
    packets = demux.packets_to_the_end(path, container, stream, allow_cut=allow_cut)
    for frame in demux.decode_packets(packets):
      if source != (frame.format.name, frame.layout.name, frame.sample_rate):
        # Streams may change their layout midway; a resampler takes only one.
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
      time_s = None if frame.time is None else frame.time - zero_s
      for piece in resampler.resample(frame):
        # Samples stored as floats may be NaN; one would spoil everything computed from them.
        yield time_s, np.nan_to_num(piece.to_ndarray()[0], nan=0.0, posinf=0.0, neginf=0.0)
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


def describe_spans(
  path: demux.Path, span_s_N2: np.ndarray, *, allow_cut: bool = False
) -> tuple[str, ...]:
  """Says in a few words what is heard in each span: how loud, how sudden, what kind of sound.

  A span is described in pieces of about 2 s, a phrase each: "quiet speech-like sound, then sudden
  loud noise". A phrase that comes again in the span is not repeated. The signal is cut into windows
  of 1/32 s, of which a piece has these measures:

  - level: dBFS of the mean power.
  - flatness: geometric over arithmetic mean of the power spectrum of 128 Hz to 3.4 kHz, the mean
    over windows weighted by power: near 0 for a tone, about 0.56 for white noise.
  - syllables: how deeply the amplitude of the windows is modulated at 2.5 to 8 Hz, from 0 to about
    1, after the 4 Hz modulation energy of Scheirer and Slaney ("Construction and evaluation of a
    robust multifeature speech/music discriminator", ICASSP 1997), of the whole band at once.
  - hold: cosine of the amplitude spectra of windows an eighth of a second apart, the mean weighted
    by amplitude: the smoother and slower opposite of their spectral flux.

  What is said of a piece, the first that applies:

  - Below -60 dBFS: "silence".
  - Loudness: "sudden loud" where a window is 12 dB above the usual level and above every window of
    the second before but the last; else against the usual level: "very quiet" up to -12 dB, "quiet"
    up to -4 dB, nothing, "loud" above 4 dB, "very loud" above 12 dB. The usual level is the median
    of the pieces that are not silent.
  - Kind: "noise" with a flatness above 0.25; "speech-like sound" with syllables from 0.2 on and a
    hold below 0.75, or syllables from 0.3 on that are half of all modulation; "tone" with a
    flatness below 0.01 and an amplitude that varies by less than a fifth; "music-like sound" with a
    hold from 0.75 on; else "mixed sound".

  The limits were set on a few sounds, made and recorded: a quick melody of one voice may be called
  speech-like, and song too.

  Args:
    path: a media file.
    span_s_N2: f64[N, 2], start and end in seconds, ascending, not overlapping.
    allow_cut: hear what there is of a file that is cut off.

  Returns:
    N descriptions, each NO_SOUND where the file has no sound stream.

  Raises:
    InputError: naming the file.
  """
  with demux.open_media(path) as container:
    if not container.streams.audio:
      return (NO_SOUND,) * len(span_s_N2)
  pieces = [_cut(start_s, end_s) for start_s, end_s in span_s_N2]
  chunks = iter_audio(path, allow_cut=allow_cut)
  phrases = iter(_describe_pieces(chunks, np.concatenate([np.zeros((0, 2)), *pieces])))
  return tuple(
    _THEN.join(dict.fromkeys(itertools.islice(phrases, len(piece_s_J2)))) for piece_s_J2 in pieces
  )


def _cut(start_s: float, end_s: float) -> np.ndarray:
  """f64[J, 2]: equal pieces of a span, of about `_PIECE_S` each."""
  edges_s = np.linspace(start_s, end_s, max(1, round((end_s - start_s) / _PIECE_S)) + 1)
  return segments.between(edges_s)


def _describe_pieces(chunks: Iterable[np.ndarray], piece_s_J2: np.ndarray) -> Iterator[str]:
  """The phrase of each piece. What is kept of a piece that has passed are three numbers."""
  level_J = np.full(len(piece_s_J2), -np.inf)
  peak_J = np.full(len(piece_s_J2), -np.inf)
  kind_J = np.full(len(piece_s_J2), _MIXED)
  for piece, rows in _by_piece(_measured(_windows(chunks)), piece_s_J2):
    level_J[piece] = _dbfs(np.mean(rows["power"]))
    peak_J[piece] = np.max(rows["sudden_dbfs"])
    kind_J[piece] = _kind(rows)
  sounding_J = level_J > _SILENCE_DBFS
  usual = np.median(level_J[sounding_J]) if sounding_J.any() else 0.0
  for level, peak, kind in zip(level_J, peak_J, kind_J, strict=True):
    if level <= _SILENCE_DBFS:
      yield "silence"
    else:
      is_sudden = peak - usual >= _SUDDEN_DB
      yield (_SUDDEN if is_sudden else _loudness(level - usual)) + _KINDS[kind]


def _windows(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """The signal as whole windows f64[n, _WINDOW]."""
  rest = np.zeros(0, np.float32)
  for chunk in chunks:
    joined = np.concatenate([rest, chunk])
    whole = len(joined) // _WINDOW
    if whole:
      yield joined[: whole * _WINDOW].reshape(whole, _WINDOW).astype(np.float64)
    rest = joined[whole * _WINDOW :]


_MEASURES = np.dtype(
  [
    ("power", np.float64),
    ("flatness", np.float64),
    ("hold", np.float64),  # with the window `_LAG` before
    ("hold_weight", np.float64),
    ("sudden_dbfs", np.float64),  # its level, -inf where it is not sudden
  ]
)


def _measured(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """_MEASURES[n], a row a window."""
  spectrum_before = level_before = None
  for windows in batches:
    rows = np.empty(len(windows), _MEASURES)
    power = rows["power"] = np.mean(windows**2, axis=1)
    spectrum = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)[:, _BAND]) ** 2 + _TINY
    rows["flatness"] = np.exp(np.mean(np.log(spectrum), axis=1)) / np.mean(spectrum, axis=1)
    level = _dbfs(power)
    if level_before is None:  # the sound that a file starts with is not sudden
      spectrum_before = np.repeat(spectrum[:1], _LAG, axis=0)
      level_before = np.repeat(level[:1], _MEMORY)
    spectrum = np.concatenate([spectrum_before, spectrum])
    level = np.concatenate([level_before, level])
    total = np.sqrt(spectrum.sum(axis=1))
    rows["hold_weight"] = np.sqrt(total[_LAG:] * total[:-_LAG])
    rows["hold"] = np.sqrt(spectrum[_LAG:] * spectrum[:-_LAG]).sum(axis=1)
    rows["hold"] /= total[_LAG:] * total[:-_LAG]
    recent = np.lib.stride_tricks.sliding_window_view(level, _MEMORY + 1)
    rise = recent[:, -1] - recent[:, :-2].max(axis=1)
    rows["sudden_dbfs"] = np.where(rise >= _SUDDEN_DB, recent[:, -1], -np.inf)
    spectrum_before, level_before = spectrum[-_LAG:], level[-_MEMORY:]
    yield rows


def _by_piece(
  batches: Iterable[np.ndarray], piece_s_J2: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
  """The rows of each piece that has any: those of the windows whose middle it holds."""
  num_before, current, waiting = 0, -1, []
  for rows in batches:
    middle_s = (num_before + np.arange(len(rows)) + 0.5) * _WINDOW / SAMPLE_RATE
    num_before += len(rows)
    owner = np.searchsorted(piece_s_J2[:, 0], middle_s, side="right") - 1
    inside = owner >= 0
    inside[inside] = middle_s[inside] < piece_s_J2[owner[inside], 1]
    for piece in np.unique(owner[inside]).tolist():
      if piece != current and waiting:
        yield current, np.concatenate(waiting)
        waiting = []
      current = piece
      waiting.append(rows[inside & (owner == piece)])
  if waiting:
    yield current, np.concatenate(waiting)


def _dbfs(power: np.ndarray) -> np.ndarray:
  return 10 * np.log10(np.maximum(power, _TINY))


def _loudness(above_usual_db: float) -> str:
  for limit_db, word in _LOUDNESS:
    if above_usual_db <= limit_db:
      return word
  return _LOUDEST


def _kind(rows: np.ndarray) -> int:
  """The kind of the sound of a piece, an index of `_KINDS`."""
  flatness = _mean(rows["flatness"], rows["power"])
  hold = _mean(rows["hold"], rows["hold_weight"])
  variation, syllabic_share = _modulation(np.sqrt(rows["power"]))
  syllables = variation * np.sqrt(syllabic_share)
  if flatness > 0.25:
    return _NOISE
  if syllables >= 0.2 and (hold < 0.75 or (syllables >= 0.3 and syllabic_share >= 0.5)):
    return _SPEECH
  if flatness < 0.01 and variation < 0.2:
    return _TONE
  return _MUSIC if hold >= 0.75 else _MIXED


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
  return float(np.sum(values * weights) / max(np.sum(weights), _TINY))


def _modulation(amplitude: np.ndarray) -> tuple[float, float]:
  """Standard deviation of an amplitude over its mean, and what share of it is syllabic."""
  variation = np.std(amplitude) / max(np.mean(amplitude), _TINY)
  if len(amplitude) < _FEWEST_WINDOWS:
    return float(variation), 0.0
  centred = (amplitude - np.mean(amplitude)) * np.hanning(len(amplitude))
  power = np.abs(np.fft.rfft(centred)) ** 2
  hertz = np.fft.rfftfreq(len(amplitude), _WINDOW / SAMPLE_RATE)
  is_syllabic = (hertz >= _SYLLABLES_HZ[0]) & (hertz < _SYLLABLES_HZ[1])
  return float(variation), float(power[is_syllabic].sum() / max(power.sum(), _TINY))
