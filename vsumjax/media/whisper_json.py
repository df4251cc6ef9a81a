"""What is said, as Whisper's programs write it in JSON.

openai-whisper, faster-whisper and WhisperX name their fields alike: segments with start, end and
text, and words with theirs. whisper.cpp has `transcription`, with offsets in milliseconds. pysubs2
reads the first alone, without the times of words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vsumjax.media import demux
from vsumjax.types import InputError

_TIMES = ("start", "end")  # fields of segments and words
_LATEST_S = 3.6e9  # a SubRip file can say no more
_SHOWN = 40  # characters of a bad value that an error repeats

Timed = tuple[float, float, str, tuple[float, ...]]
"""Start and end in seconds, text in one line, and the middle of each word where words are timed."""


def parse(path: demux.Path, text: str) -> Iterator[Timed]:
  """What is said in a JSON file. Raises InputError, naming the place in the JSON."""
  content = _content(path, text)
  if isinstance(content, dict) and "transcription" in content:
    root, name, read = "transcription", "transcription", _of_cpp
  else:
    root = "segments" if isinstance(content, dict) else "the list"
    name, read = "segments", _of_segment
  entries = content.get(name) if isinstance(content, dict) else content
  if not isinstance(entries, list):
    raise InputError(
      f'{path}: expected {{"segments": [...]}} as Whisper writes it, or the list, or '
      '{"transcription": [...]} as whisper.cpp does'
    )
  for index, entry in enumerate(entries):
    yield read(f"{path}: {root}[{index}]", entry)


def _content(path: demux.Path, text: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
  except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nesting
    raise InputError(f"{path}: cannot be read as JSON: {error}") from None


def _of_segment(where: str, entry: Any) -> Timed:
  start_s, end_s = (_time_s(f"{where}.{name}", _field(where, entry, name)) for name in _TIMES)
  text = _text_of(where, entry, start_s, end_s)
  entries = entry.get("words") or []
  if not isinstance(entries, list):
    raise InputError(f"{where}.words: must be a list, is {_shown(entries)}")
  timed = [_word(f"{where}.words[{index}]", word) for index, word in enumerate(entries)]
  return start_s, end_s, text, _middles(text, timed)


def _of_cpp(where: str, entry: Any) -> Timed:
  offsets = _field(where, entry, "offsets")
  start_s, end_s = (
    _time_s(f"{where}.offsets.{name}", _field(f"{where}.offsets", offsets, name), 1000)
    for name in ("from", "to")
  )
  return start_s, end_s, _text_of(where, entry, start_s, end_s), ()


def _text_of(where: str, entry: Any, start_s: float, end_s: float) -> str:
  if end_s < start_s:
    raise InputError(f"{where}: ends before it starts")
  return " ".join(_string(f"{where}.text", _field(where, entry, "text")).split())


def _word(where: str, entry: Any) -> tuple[str, float]:
  """A word, and its middle in seconds, NaN where it is not timed."""
  word = _string(f"{where}.word", _field(where, entry, "word")).strip()
  if any(entry.get(name) is None for name in _TIMES):  # WhisperX does not time numbers
    return word, math.nan
  start_s, end_s = (_time_s(f"{where}.{name}", entry[name]) for name in _TIMES)
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
    raise InputError(f"{where}: must be a JSON object, is {_shown(entry)}")
  if name not in entry:
    raise InputError(f"{where}: lacks the field {name!r}")
  return entry[name]


def _time_s(where: str, value: Any, per_second: int = 1) -> float:
  if type(value) not in (int, float) or not 0 <= value < _LATEST_S * per_second:
    unit = "seconds" if per_second == 1 else "milliseconds"
    raise InputError(f"{where}: must be a number of {unit} from 0, is {_shown(value)}")
  return value / per_second


def _string(where: str, value: Any) -> str:
  if not isinstance(value, str):
    raise InputError(f"{where}: must be a string, is {_shown(value)}")
  try:
    value.encode()
  except UnicodeEncodeError:
    raise InputError(f"{where}: holds half of a surrogate pair, which is not a character") from None
  return value


def _shown(value: Any) -> str:
  if isinstance(value, list | dict):  # it may be nested too deeply to be printed
    return "a list" if isinstance(value, list) else "an object"
  text = json.dumps(value)
  return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
