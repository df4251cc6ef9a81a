"""Timed Text, `.ttml`: XML whose paragraphs, or spans in them, have times.

pysubs2 is not used for it: it knows no frames, ticks, `dur`, times of spans, divisions within
divisions or the older namespaces, and its errors name no paragraph.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from vsumjax.media import demux, subtitle_formats
from vsumjax.media.rolling import Shown
from vsumjax.types import InputError

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_OFFSET = re.compile(rf"({_NUMBER})(h|m|s|ms|f|t)")
_CLOCK = re.compile(r"([0-9]{1,6}):([0-5]?[0-9]):([0-5]?[0-9])(\.[0-9]{1,12})?(?::([0-9]{1,4}))?")
_PARAMETER = "{http://www.w3.org/ns/ttml#parameter}"
_UNSAID = ("metadata", "title", "desc", "copyright", "agent", "set")
_LATEST_S = 3.6e9  # a SubRip file can say no more

Times = tuple[float, float | None] | None  # start and end in seconds, as far as they are given


@dataclasses.dataclass(frozen=True)
class _Clock:
  """How many of each unit are in a second."""

  frames: float
  ticks: float

  def seconds(self, where: str, value: str) -> float:
    value = value.strip()
    if match := _OFFSET.fullmatch(value):
      units = {"h": 1 / 3600, "m": 1 / 60, "s": 1, "ms": 1000, "f": self.frames, "t": self.ticks}
      time_s = float(match[1]) / units[match[2]]
    elif match := _CLOCK.fullmatch(value):
      hours, minutes, seconds, fraction, frames = match.groups()
      time_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds + (fraction or ""))
      time_s += int(frames or 0) / self.frames
    else:
      shown = subtitle_formats.shown(value)
      raise InputError(f"{where}: expected a time like 00:00:01.500 or 1.5s, found {shown}")
    if time_s >= _LATEST_S:
      raise InputError(f"{where}: later than any time can be")
    return time_s


def parse(path: demux.Path, text: str) -> Iterator[Shown]:
  """The text of each paragraph, or of what is timed within it.

  Times count from the beginning of the element around, as the standard has it.

  Raises:
    InputError: naming the line, or the paragraph and its attribute: p[0] is the first.
  """
  try:
    root = ElementTree.fromstring(text)
  except ElementTree.ParseError as error:
    line, column = error.position
    reason = str(error).partition(":")[0]
    raise InputError(f"{path}:{line}:{column + 1}: not XML: {reason}") from None
  except (ValueError, UnicodeError) as error:
    raise InputError(f"{path}: not XML: {error}") from None
  if _name(root) != "tt":
    raise InputError(f"{path}: expected <tt> as Timed Text begins, found <{_name(root)[:40]}>")
  try:
    yield from _walk(path, root, _clock(path, root), None, itertools.count())
  except RecursionError:
    raise InputError(f"{path}: elements are nested too deeply") from None


def _clock(path: demux.Path, root: ElementTree.Element) -> _Clock:
  given = {name: root.get(_PARAMETER + name) for name in ("frameRate", "tickRate")}
  rates = {}
  for name, value in given.items():
    if value is not None and (not re.fullmatch("[0-9]{1,9}", value) or int(value) == 0):
      raise InputError(f"{path}: ttp:{name}: must be a whole number, is {value[:40]!r}")
    rates[name] = None if value is None else int(value)
  multiplier = root.get(_PARAMETER + "frameRateMultiplier", "1 1")
  match = re.fullmatch("([1-9][0-9]{0,8})[ :]([1-9][0-9]{0,8})", multiplier.strip())
  if match is None:
    raise InputError(
      f"{path}: ttp:frameRateMultiplier: must be like '1000 1001', is {multiplier[:40]!r}"
    )
  frames = (rates["frameRate"] or 30) * int(match[1]) / int(match[2])
  # Without a tick rate, a tick is a frame where there are frames, else a second.
  return _Clock(frames, rates["tickRate"] or (frames if rates["frameRate"] else 1))


def _walk(path, element, clock: _Clock, around: Times, numbers: Iterator[int]) -> Iterator[Shown]:
  """The text of the paragraphs in an element. `around`: the times of the element around it."""
  if _name(element) == "p":
    where = f"{path}: p[{next(numbers)}]"
    yield from _paragraph(where, element, clock, around)
    return
  times = _times(f"{path}: {_name(element)[:40]}", element, clock, around)
  for child in element:
    yield from _walk(path, child, clock, times, numbers)


def _paragraph(where: str, element, clock: _Clock, around: Times) -> Iterator[Shown]:
  runs = _runs(where, element, clock, around)
  for times, parts in itertools.groupby(runs, key=lambda run: run[0]):
    lines = subtitle_formats.text_lines("".join(text for _, text in parts).split("\n"))
    if not lines:
      continue
    if times is None or times[1] is None:
      raise InputError(f"{where}: lacks the times `begin` and `end`")
    start_s, end_s = times
    if end_s < start_s:
      raise InputError(f"{where}: ends before it starts")
    yield Shown(start_s, end_s, lines)


def _runs(where: str, element, clock: _Clock, around: Times) -> Iterator[tuple[Times, str]]:
  """The pieces of text of an element, each with its times; a newline where a line is broken."""
  times = _times(where, element, clock, around)
  yield times, _collapsed(element.text)
  for child in element:
    if _name(child) == "br":
      yield times, "\n"
    elif _name(child) not in _UNSAID:
      yield from _runs(where, child, clock, times)
    yield times, _collapsed(child.tail)


def _times(where: str, element, clock: _Clock, around: Times) -> Times:
  if element.get("timeContainer", "par") != "par":
    raise InputError(f"{where}.timeContainer: only 'par' is read; give each paragraph its times")
  names = ("begin", "end", "dur")
  given = {
    name: clock.seconds(f"{where}.{name}", element.get(name))
    for name in names
    if element.get(name) is not None
  }
  if not given:
    return around
  zero_s, last_s = around or (0.0, None)
  start_s = zero_s + given.get("begin", 0.0)
  ends_s = [] if last_s is None else [last_s]
  if "end" in given:
    ends_s.append(zero_s + given["end"])
  if "dur" in given:
    ends_s.append(start_s + given["dur"])
  return start_s, min(ends_s, default=None)


def _collapsed(text: str | None) -> str:
  return re.sub(r"\s+", " ", text or "")


def _name(element: ElementTree.Element) -> str:
  """Without its namespace, of which there are several."""
  return element.tag.rpartition("}")[2]
