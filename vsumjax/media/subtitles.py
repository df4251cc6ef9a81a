"""What is said, and when: transcripts in many formats, and their words over spans of time."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from vsumjax.media import (
  demux,
  encodings,
  rolling,
  substation,
  subtitle_formats,
  ttml,
  whisper_json,
)
from vsumjax.types import InputError

SUFFIXES = (".srt", ".vtt", ".json", ".ass", ".ssa", ".sbv", ".ttml")
"""Of the formats read, in the order in which a transcript beside a video is looked for."""

_LINE_FORMATS = {
  ".srt": subtitle_formats.parse_srt,
  ".vtt": subtitle_formats.parse_vtt,
  ".ass": substation.parse,
  ".ssa": substation.parse,
  ".sbv": subtitle_formats.parse_sbv,
  ".ttml": ttml.parse,
}


@dataclasses.dataclass(frozen=True)
class Cue:
  """Text said from `start_s` to `end_s`, in seconds, as one line.

  middles_s: the middle of each word of `text.split()`, where the transcript times words.
  """

  start_s: float
  end_s: float
  text: str
  middles_s: tuple[float, ...] = ()

  def timed_words(self) -> Iterator[tuple[float, str]]:
    """Each word with its middle in seconds: as timed, or spread evenly over the cue's time."""
    words = self.text.split()
    step_s = (self.end_s - self.start_s) / max(len(words), 1)
    evenly_s = (self.start_s + step_s * (index + 0.5) for index in range(len(words)))
    return zip(self.middles_s or evenly_s, words, strict=True)


@dataclasses.dataclass(frozen=True)
class Said:
  """Words said in a span of time, and those shortly before and after it."""

  before: str
  words: str
  after: str


def load_transcript(path: demux.Path) -> tuple[Cue, ...]:
  """Reads a transcript from a file or a URL; the suffix says the format.

  - `.srt`: SubRip. The numbers of cues may be missing.
  - `.vtt`: WebVTT. Notes, styles, regions, settings and the names in voice tags are left out.
  - `.json`: as Whisper writes it: {"segments": [{"start": 0.0, "end": 2.5, "text": "Hello there",
    "words": [{"word": "Hello", "start": 0.1, "end": 0.6}, ...]}, ...]}, in seconds, or the list of
    segments alone. Of the fields of a segment, `words` may be missing, and of a word its times, or
    null. Or as whisper.cpp writes it: {"transcription": [{"offsets": {"from": 0, "to": 2500},
    "text": "Hello there"}, ...]}, in milliseconds.
  - `.ass`, `.ssa`: SubStation Alpha. Comments and drawings are left out.
  - `.sbv`: SubViewer as YouTube writes it.
  - `.ttml`: Timed Text.

  Tags are left out of the text, and what rolling captions repeat. A file that is neither UTF-8 nor
  has a byte order mark is read in the encoding that is likeliest; a line on standard error tells.

  Raises:
    InputError: naming file and line, or the place in the JSON or XML.
  """
  suffix = pathlib.PurePath(path).suffix.lower()
  if suffix not in SUFFIXES:
    raise InputError(f"{path}: not a transcript that is known; give one of {', '.join(SUFFIXES)}")
  text = encodings.decode(path, demux.read_bytes(path))
  if suffix == ".json":
    return tuple(Cue(*timed) for timed in whisper_json.parse(path, text))
  return cues_of(list(_LINE_FORMATS[suffix](path, text)))


def cues_of(shown: Sequence[rolling.Shown]) -> tuple[Cue, ...]:
  """What is said in lines of text that are shown, in the order of the file."""
  return tuple(
    Cue(cue.start_s, cue.end_s, " ".join(cue.lines)) for cue in rolling.utterances(shown)
  )


def find_beside(path: pathlib.Path) -> pathlib.Path | None:
  """The transcript that lies beside a media file under its name, if there is one."""
  files = (path.with_suffix(suffix) for suffix in SUFFIXES)
  return next((file for file in files if file.is_file()), None)


def align(cues: Sequence[Cue], span_s_N2: np.ndarray, context_s: float = 0.0) -> tuple[Said, ...]:
  """The words said in each span, in the order they are said, and those around it.

  A word belongs to the span that holds its middle. Where a cue does not time its words, they are
  spread evenly over its time: of Cue(0, 4, "a b c d"), the span [0, 2) gets "a b" and the span
  [2, 4) gets "c d"; with 1 s of context, "c" comes after the first and "b" before the second.

  Args:
    cues: in any order.
    span_s_N2: f64[N, 2], start and end in seconds.
    context_s: up to how many seconds before and after a span its context reaches.

  Returns:
    N entries, empty where nothing is said.
  """
  timed = sorted(
    itertools.chain.from_iterable(cue.timed_words() for cue in cues), key=lambda entry: entry[0]
  )
  middle_s = np.array([middle for middle, _ in timed], dtype=np.float64)
  edges_N4 = np.asarray(span_s_N2)[:, [0, 0, 1, 1]] + np.array([-context_s, 0, 0, context_s])
  bounds_N4 = np.searchsorted(middle_s, edges_N4, side="left")
  words = [word for _, word in timed]
  return tuple(
    Said(*(" ".join(words[start:stop]) for start, stop in itertools.pairwise(bounds)))
    for bounds in bounds_N4
  )


def texts_within(cues: Sequence[Cue], span_s_N2: np.ndarray) -> tuple[str, ...]:
  """The whole texts of the cues that overlap each span, each text once: for descriptions.

  Returns:
    N strings, "dog barks, laughter" for two cues, empty where no cue is.
  """
  cues = sorted((cue for cue in cues if cue.text), key=lambda cue: cue.start_s)
  start_s = np.array([cue.start_s for cue in cues])
  end_s = np.array([cue.end_s for cue in cues])
  within = []
  for first_s, last_s in span_s_N2:
    # A cue that lasts for no time is in the span that holds it.
    overlaps = (start_s < last_s) & ((end_s > first_s) | (start_s >= first_s))
    within.append(", ".join(dict.fromkeys(cues[at].text for at in np.flatnonzero(overlaps))))
  return tuple(within)
