"""SubRip, WebVTT and SBV: formats of cues that are times with lines of text below them.

pysubs2 also reads SubRip and WebVTT, and is not used for them: it loses the hours from a hundred on
and a last line that is a number, takes cues that end before they start, leaves times and entities
of WebVTT in the text, and notes and identifiers too. SBV it does not know.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from vsumjax.media import demux
from vsumjax.media.rolling import Shown
from vsumjax.types import InputError

CLOCK = r"([0-5]?[0-9]):([0-5]?[0-9])[,.]([0-9]{1,3})"  # minutes, seconds, fraction
# Coordinates (SubRip) or settings (WebVTT) may follow the times.
_SRT_TIMES = re.compile(rf"\s*([0-9]{{1,6}}):{CLOCK}\s*-->\s*([0-9]{{1,6}}):{CLOCK}(?:\s.*)?")
_VTT_TIMES = re.compile(
  rf"\s*(?:([0-9]{{1,6}}):)?{CLOCK}\s*-->\s*(?:([0-9]{{1,6}}):)?{CLOCK}(?:\s.*)?"
)
_SBV_TIMES = re.compile(rf"\s*([0-9]{{1,6}}):{CLOCK}\s*,\s*([0-9]{{1,6}}):{CLOCK}\s*")
# Lines that are meant as times and may be wrong.
_SRT_MEANT = re.compile(r"\s*[0-9]+:[0-9:,.]*\s*-+>")
_VTT_MEANT = re.compile(r".*-->")
_SBV_MEANT = re.compile(r"\s*[0-9]+:[0-9:.]+\s*,\s*[0-9]+:")
_SRT_TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")  # <i>, </font>, {\an8}
_VTT_TAG = re.compile(r"</?[A-Za-z0-9][^<>]*>|</>")  # <v Bob>, <c.loud>, <00:01.500>
_ASIDE = re.compile(r"(NOTE|STYLE|REGION)(\s|$)")
_SHOWN = 40  # characters of a bad line that an error repeats

Line = tuple[int, str]  # with its number, from 1
Block = list[Line]  # lines between blank ones


@dataclasses.dataclass(frozen=True)
class _Grammar:
  """What tells the cues of a format apart.

  times: a line of times, with eight groups: hours, minutes, seconds, fraction, twice.
  meant: the beginning of a line that must be times.
  example: of such a line.
  first: what a cue begins with, in words.
  above: the line above the times, which may be missing; None if there is never one.
  aside: the beginning of a block that is no cue.
  """

  times: re.Pattern
  meant: re.Pattern
  example: str
  first: str
  above: re.Pattern | None = None
  aside: re.Pattern | None = None


_NUMBER = re.compile(r"\s*[0-9]{1,9}\s*")
_SRT = _Grammar(
  _SRT_TIMES, _SRT_MEANT, "00:00:01,000 --> 00:00:02,500", "the number of a cue", _NUMBER
)
_VTT = _Grammar(
  _VTT_TIMES, _VTT_MEANT, "00:01.000 --> 00:02.500", "the times of a cue", re.compile(".*"), _ASIDE
)
_SBV = _Grammar(_SBV_TIMES, _SBV_MEANT, "0:00:01.000,0:00:02.500", "the times of a cue")


def parse_srt(path: demux.Path, text: str) -> Iterator[Shown]:
  """The cues of a SubRip file; numbers may be missing. Raises InputError, naming the line."""
  return _cues(path, _blocks(enumerate(text.split("\n"), start=1)), _SRT, _plain_srt)


def parse_vtt(path: demux.Path, text: str) -> Iterator[Shown]:
  """The cues of a WebVTT file. Raises InputError, naming the line."""
  lines = text.split("\n")
  if lines[0].split(maxsplit=1)[:1] != ["WEBVTT"] or not lines[0].startswith("WEBVTT"):
    raise InputError(f"{path}:1: expected WEBVTT, found {shown(lines[0])}")
  numbered = enumerate(lines, start=1)
  body = itertools.dropwhile(lambda line: line[1].strip() and "-->" not in line[1], numbered)
  return _cues(path, _blocks(body), _VTT, _plain_vtt)


def parse_sbv(path: demux.Path, text: str) -> Iterator[Shown]:
  """The cues of a YouTube SBV file. Raises InputError, naming the line."""
  return _cues(path, _blocks(enumerate(text.split("\n"), start=1)), _SBV, _plain_sbv)


def shown(line: str) -> str:
  """A line as an error repeats it."""
  return repr(line.strip()[:_SHOWN])


def seconds(parts: Sequence[str | None]) -> float:
  """Hours (may be None), minutes, seconds and the digits after the point, in seconds."""
  hours, minutes, whole, fraction = parts
  milliseconds = int(fraction.ljust(3, "0"))
  whole_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(whole)
  return (whole_s * 1000 + milliseconds) / 1e3


def text_lines(texts: Sequence[str]) -> tuple[str, ...]:
  """Lines with single blanks between words, without the empty ones."""
  joined = (" ".join(text.split()) for text in texts)
  return tuple(text for text in joined if text)


def _plain_srt(text: str) -> str:
  return _SRT_TAG.sub("", text)


def _plain_vtt(text: str) -> str:
  return html.unescape(_VTT_TAG.sub("", text))


def _plain_sbv(text: str) -> str:
  return text.replace("[br]", "\n")


def _blocks(lines: Iterator[Line]) -> list[Block]:
  parts = itertools.groupby(lines, key=lambda line: bool(line[1].strip()))
  return [list(part) for is_text, part in parts if is_text]


def _cues(
  path: demux.Path, blocks: Sequence[Block], grammar: _Grammar, plain: Callable[[str], str]
) -> Iterator[Shown]:
  for entry in _entries(path, blocks, grammar):
    start_s, end_s = _parse_times(path, entry.times, grammar)
    # A tag may begin in one line and end in another.
    text = plain("\n".join(line for _, line in entry.lines))
    yield Shown(start_s, end_s, text_lines(text.split("\n")))


@dataclasses.dataclass(frozen=True)
class _Entry:
  """A cue as it is written. number: of SubRip, where it stands right above the times."""

  number: int | None
  times: Line
  lines: Block


def _entries(path: demux.Path, blocks: Sequence[Block], grammar: _Grammar) -> Iterator[_Entry]:
  """The cues. An empty line does not end one if what follows is neither a cue nor an aside."""
  entry: _Entry | None = None
  for block, following in itertools.zip_longest(blocks, blocks[1:]):
    number, line = block[0]
    if grammar.aside is not None and grammar.aside.match(line):
      if entry is not None:
        yield entry
      entry = None
      continue
    at = _times_at(path, block, grammar)
    if at is None and grammar is _SRT and _NUMBER.fullmatch(line):
      if len(block) == 1 and following and _times_at(path, following, grammar) == 0:
        continue  # the number of the cue that follows
      _check_number(path, block, following or [], entry)
    text, cues = _split(block, at, grammar)
    if text and entry is None:
      raise InputError(f"{path}:{number}: expected {grammar.first}, found {shown(line)}")
    if text:
      entry.lines.extend(text)
    for cue in cues:
      if entry is not None:
        yield entry
      entry = cue
  if entry is not None:
    yield entry


def _check_number(path: demux.Path, block: Block, following: Block, entry: _Entry | None) -> None:
  """Refuses a number without times that is next in turn; another is said within the cue."""
  number, line = block[0]
  if entry is not None and (entry.number is None or int(line) != entry.number + 1):
    return
  if len(block) == 1 and not following:
    raise InputError(f"{path}:{number}: cue {shown(line)} ends before its times")
  if len(block) > 1 or entry is None:
    _parse_times(path, [*block, *following][1], _SRT)


def _split(block: Block, at: int | None, grammar: _Grammar) -> tuple[Block, list[_Entry]]:
  """The text of a block before its first times, and its cues, the first with times in line `at`.

  The empty line between two cues may be missing.
  """
  text: Block = []
  cues: list[_Entry] = []
  lines = text
  for index, line in enumerate(block):
    if index != at and not grammar.times.fullmatch(line[1]):
      lines.append(line)
      continue
    number = None
    if lines and (index == at or (grammar is _SRT and _NUMBER.fullmatch(lines[-1][1]))):
      above = lines.pop()[1]
      number = int(above) if grammar is _SRT else None
    cues.append(_Entry(number, line, []))
    lines = cues[-1].lines
  return text, cues


def _times_at(path: demux.Path, block: Block, grammar: _Grammar) -> int | None:
  """Which line of a block has the times with which a cue begins: 0, 1, or None of them."""
  number, line = block[0]
  if grammar.meant.match(line):
    return 0
  if grammar.above is None or len(block) == 1 or not grammar.meant.match(block[1][1]):
    return None
  if not grammar.above.fullmatch(line):
    raise InputError(f"{path}:{number}: expected {grammar.first}, found {shown(line)}")
  return 1


def _parse_times(path: demux.Path, times: Line, grammar: _Grammar) -> tuple[float, float]:
  number, line = times
  match = grammar.times.fullmatch(line)
  if match is None:
    raise InputError(f"{path}:{number}: expected times like {grammar.example}, found {shown(line)}")
  start_s, end_s = seconds(match.groups()[:4]), seconds(match.groups()[4:])
  if end_s < start_s:
    raise InputError(f"{path}:{number}: the cue ends before it starts")
  return start_s, end_s
