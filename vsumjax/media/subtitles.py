"""What is said, and when: SubRip, WebVTT and Whisper's JSON, and their words over spans of time."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vsumjax.media import demux
from vsumjax.types import InputError

SUFFIXES = (".srt", ".vtt", ".json")
"""Of the formats read, in the order in which a transcript beside a video is looked for."""

_CLOCK = r"([0-5]?[0-9]):([0-5]?[0-9])[,.]([0-9]{1,3})"
# Coordinates (SubRip) or settings (WebVTT) may follow the times.
_SRT_TIMES = re.compile(rf"\s*([0-9]{{1,6}}):{_CLOCK}\s*-->\s*([0-9]{{1,6}}):{_CLOCK}(?:\s.*)?")
_VTT_TIMES = re.compile(
  rf"\s*(?:([0-9]{{1,6}}):)?{_CLOCK}\s*-->\s*(?:([0-9]{{1,6}}):)?{_CLOCK}(?:\s.*)?"
)
_SRT_TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")  # <i>, </font>, {\an8}
_VTT_TAG = re.compile(r"</?[A-Za-z0-9][^<>]*>|</>")  # <v Bob>, <c.loud>, <00:01.500>
_ARROW = "-->"
_TIMES = ("start", "end")  # fields of Whisper's segments and words
_LATEST_S = 3.6e9  # a SubRip file can say no more
_SHOWN = 40  # characters of a bad line that an error repeats


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
  """Reads a transcript, in UTF-8, from a file or a URL; the suffix says the format.

  - `.srt`: SubRip.
  - `.vtt`: WebVTT. Notes, styles, regions, settings and the names in voice tags are left out.
  - `.json`: as Whisper writes it: {"segments": [{"start": 0.0, "end": 2.5, "text": "Hello there",
    "words": [{"word": "Hello", "start": 0.1, "end": 0.6}, ...]}, ...]}, in seconds, or the list of
    segments alone. Of the fields of a segment, `words` may be missing, and of a word its times.

  Tags are left out of the text.

  Raises:
    InputError: naming file and line, or the place in the JSON.
  """
  suffix = pathlib.PurePath(path).suffix.lower()
  if suffix not in SUFFIXES:
    raise InputError(f"{path}: not a transcript that is known; give one of {', '.join(SUFFIXES)}")
  text = _read_text(path)
  if suffix == ".json":
    return tuple(_json_cues(path, text))
  parse = _parse_srt if suffix == ".srt" else _parse_vtt
  return tuple(parse(path, text))


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


def _read_text(path: demux.Path) -> str:
  data = demux.read_bytes(path)
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b"\n") + 1
    raise InputError(f"{path}:{line}: not UTF-8; save the transcript as UTF-8") from None
  return text.replace("\r\n", "\n").replace("\r", "\n")


Block = list[tuple[int, str]]  # lines between blank ones, each with its number from 1


def _blocks(text: str) -> Iterator[Block]:
  block: Block = []
  for number, line in enumerate(text.split("\n"), start=1):
    if line.strip():
      block.append((number, line))
    elif block:
      yield block
      block = []
  if block:
    yield block


def _parse_srt(path: demux.Path, text: str) -> Iterator[Cue]:
  for block in _blocks(text):
    number, line = block[0]
    if not line.strip().isdecimal():
      raise InputError(f"{path}:{number}: expected the number of a cue, found {_shown(line)}")
    if len(block) == 1:
      raise InputError(f"{path}:{number}: cue {_shown(line)} ends before its times")
    start_s, end_s = _parse_times(path, block[1], _SRT_TIMES, "00:00:01,000 --> 00:00:02,500")
    said = _SRT_TAG.sub("", " ".join(line for _, line in block[2:]))
    yield Cue(start_s, end_s, " ".join(said.split()))


def _parse_vtt(path: demux.Path, text: str) -> Iterator[Cue]:
  first = text.split("\n", maxsplit=1)[0]
  if first.split(maxsplit=1)[:1] != ["WEBVTT"] or not first.startswith("WEBVTT"):
    raise InputError(f"{path}:1: expected WEBVTT, found {_shown(first)}")
  for index, block in enumerate(_blocks(text)):
    has_times = [_ARROW in line for _, line in block[:2]]  # an identifier may come before them
    if not any(has_times):
      if index == 0 or re.match(r"(NOTE|STYLE|REGION)(\s|$)", block[0][1]):
        continue
      number, line = block[0]
      raise InputError(f"{path}:{number}: expected the times of a cue, found {_shown(line)}")
    at = has_times.index(True)
    start_s, end_s = _parse_times(path, block[at], _VTT_TIMES, "00:01.000 --> 00:02.500")
    said = html.unescape(_VTT_TAG.sub("", " ".join(line for _, line in block[at + 1 :])))
    yield Cue(start_s, end_s, " ".join(said.split()))


def _parse_times(
  path: demux.Path, numbered: tuple[int, str], pattern: re.Pattern, example: str
) -> tuple[float, float]:
  number, line = numbered
  match = pattern.fullmatch(line)
  if match is None:
    raise InputError(f"{path}:{number}: expected times like {example}, found {_shown(line)}")
  start_s, end_s = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
  if end_s < start_s:
    raise InputError(f"{path}:{number}: the cue ends before it starts")
  return start_s, end_s


def _seconds(parts: Sequence[str | None]) -> float:
  hours, minutes, seconds, fraction = parts
  milliseconds = int(fraction.ljust(3, "0"))
  whole_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
  return (whole_s * 1000 + milliseconds) / 1e3


def _shown(line: str) -> str:
  return repr(line.strip()[:_SHOWN])


def _json_cues(path: demux.Path, text: str) -> Iterator[Cue]:
  try:
    content = json.loads(text)
  except json.JSONDecodeError as error:
    raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
  except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nesting
    raise InputError(f"{path}: cannot be read as JSON: {error}") from None
  root = "segments" if isinstance(content, dict) else "the list"
  entries = content.get("segments") if isinstance(content, dict) else content
  if not isinstance(entries, list):
    raise InputError(f'{path}: expected {{"segments": [...]}} as Whisper writes it, or the list')
  for index, entry in enumerate(entries):
    yield _json_cue(f"{path}: {root}[{index}]", entry)


def _json_cue(where: str, entry: Any) -> Cue:
  start_s, end_s = (_json_time(f"{where}.{name}", _field(where, entry, name)) for name in _TIMES)
  if end_s < start_s:
    raise InputError(f"{where}: ends before it starts")
  text = " ".join(_json_text(f"{where}.text", _field(where, entry, "text")).split())
  entries = entry.get("words") or []
  if not isinstance(entries, list):
    raise InputError(f"{where}.words: must be a list, is {_shown_json(entries)}")
  timed = [_json_word(f"{where}.words[{index}]", word) for index, word in enumerate(entries)]
  return Cue(start_s, end_s, text, _middles(text, timed))


def _json_word(where: str, entry: Any) -> tuple[str, float]:
  """A word, and its middle in seconds, NaN where it is not timed."""
  word = _json_text(f"{where}.word", _field(where, entry, "word")).strip()
  if not all(name in entry for name in _TIMES):  # WhisperX does not time numbers
    return word, math.nan
  start_s, end_s = (_json_time(f"{where}.{name}", entry[name]) for name in _TIMES)
  return word, (start_s + end_s) / 2


def _middles(text: str, timed: Sequence[tuple[str, float]]) -> tuple[float, ...]:
  """The middles of the words of `text`, in seconds, as far as they can be found among `timed`.

  What is timed as two words and written as one ("it" and "'s") lies between the two. What is not
  timed lies as near to its timed neighbours as to each other. Empty where nothing is timed.
  """
  owner = np.cumsum([0, *(character == " " for character in text)])
  found: dict[int, list[float]] = {}
  position = 0
  for word, middle_s in timed:
    at = text.find(word, position)
    if at < 0 or not word:
      continue
    position = at + len(word)
    if not math.isnan(middle_s):
      found.setdefault(int(owner[at + 1]), []).append(middle_s)
  if not found:
    return ()
  known_s = [sum(middles_s) / len(middles_s) for middles_s in found.values()]
  return tuple(np.interp(range(len(text.split())), list(found), known_s).tolist())


def _field(where: str, entry: Any, name: str) -> Any:
  if not isinstance(entry, dict):
    raise InputError(f"{where}: must be a JSON object, is {_shown_json(entry)}")
  if name not in entry:
    raise InputError(f"{where}: lacks the field {name!r}")
  return entry[name]


def _json_time(where: str, value: Any) -> float:
  if type(value) not in (int, float) or not 0 <= value < _LATEST_S:
    raise InputError(f"{where}: must be a number of seconds from 0, is {_shown_json(value)}")
  return float(value)


def _json_text(where: str, value: Any) -> str:
  if not isinstance(value, str):
    raise InputError(f"{where}: must be a string, is {_shown_json(value)}")
  try:
    value.encode()
  except UnicodeEncodeError:
    raise InputError(f"{where}: holds half of a surrogate pair, which is no character") from None
  return value


def _shown_json(value: Any) -> str:
  if isinstance(value, list | dict):  # it may be nested too deeply to be printed
    return "a list" if isinstance(value, list) else "an object"
  text = json.dumps(value)
  return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
