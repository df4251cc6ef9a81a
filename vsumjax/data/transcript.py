"""What is said, and when: SubRip files, and their words spread over spans of time."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from vsumjax.types import InputError

_TIME = r"(\d+):([0-5]?\d):([0-5]?\d)[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")  # coordinates may follow the times
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")  # <i>, </font>, {\an8}


@dataclasses.dataclass(frozen=True)
class Cue:
  """Text said from `start_s` to `end_s`, in seconds, as one line."""

  start_s: float
  end_s: float
  text: str


def load_srt(path: str | os.PathLike[str]) -> tuple[Cue, ...]:
  """Reads a SubRip file, in UTF-8 with or without a byte order mark. Tags are left out.

  Raises:
    InputError: naming file and line.
  """
  path = pathlib.Path(path)
  try:
    data = path.read_bytes()
  except OSError as error:
    raise InputError(f"{path}: cannot read the transcript: {error.strerror}") from None
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b"\n") + 1
    raise InputError(f"{path}:{line}: not UTF-8; save the transcript as UTF-8") from None
  return tuple(_parse_cue(path, block) for block in _blocks(text))


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
  """Runs of lines between blank ones, each line with its number from 1."""
  block: list[tuple[int, str]] = []
  for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
    if line.strip():
      block.append((number, line))
    elif block:
      yield block
      block = []
  if block:
    yield block


def _parse_cue(path: pathlib.Path, block: Sequence[tuple[int, str]]) -> Cue:
  number, line = block[0]
  if not line.strip().isdecimal():
    raise InputError(f"{path}:{number}: expected the number of a cue, found {line.strip()[:40]!r}")
  if len(block) == 1:
    raise InputError(f"{path}:{number}: cue {line.strip()} ends before its times")
  number, line = block[1]
  match = _TIMES.fullmatch(line)
  if match is None:
    raise InputError(
      f"{path}:{number}: expected times like 00:00:01,000 --> 00:00:02,500,"
      f" found {line.strip()[:40]!r}"
    )
  start_s, end_s = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
  if end_s < start_s:
    raise InputError(f"{path}:{number}: the cue ends before it starts")
  text = _TAG.sub("", " ".join(line for _, line in block[2:]))
  return Cue(start_s, end_s, " ".join(text.split()))


def _seconds(parts: Sequence[str]) -> float:
  hours, minutes, seconds, fraction = parts
  milliseconds = int(fraction.ljust(3, "0"))
  return (int(hours) * 3_600_000 + int(minutes) * 60_000 + int(seconds) * 1000 + milliseconds) / 1e3


def align(cues: Sequence[Cue], span_s_N2: np.ndarray) -> tuple[str, ...]:
  """The words said in each span, in the order they are said.

  The words of a cue are spread evenly over its time, and a word belongs to the span that holds its
  middle: of Cue(0, 4, "a b c d"), the span [0, 2) gets "a b" and the span [2, 4) gets "c d".

  Returns:
    N strings, empty where nothing is said.
  """
  timed = [
    (cue.start_s + (cue.end_s - cue.start_s) * (index + 0.5) / len(words), word)
    for cue in cues
    for words in [cue.text.split()]
    for index, word in enumerate(words)
  ]
  timed.sort(key=lambda entry: entry[0])
  middle_s = np.array([middle for middle, _ in timed], dtype=np.float64)
  bounds_N2 = np.searchsorted(middle_s, span_s_N2, side="left")
  return tuple(" ".join(word for _, word in timed[start:stop]) for start, stop in bounds_N2)
