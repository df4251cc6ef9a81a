"""SubStation Alpha, `.ass` and `.ssa`, and the lines of text that FFmpeg gives of any subtitles.

pysubs2 tells tags, drawings and text apart. Its reader of files is not used: it takes the columns
of an event to be in the usual order whatever `Format` says, stops at a style that it cannot read
and at a hundred hours, and its errors name no line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pysubs2 import SSAEvent, SSAStyle
from pysubs2.formats.substation import parse_tags

from vsumjax.media import demux, subtitle_formats
from vsumjax.media.rolling import Shown
from vsumjax.types import InputError

_TIME = re.compile(rf"\s*([0-9]{{1,6}}):{subtitle_formats.CLOCK}\s*")
_SECTION = re.compile(r"\s*\[(.+)\]\s*")
_DRAWS = re.compile(r"\\p[1-9]")
_COLUMNS = ("layer", "start", "end", "style", "name", "ml", "mr", "mv", "effect", "text")


def parse(path: demux.Path, text: str) -> Iterator[Shown]:
  """The lines of dialogue of a SubStation Alpha file, without tags and drawings.

  Text that several layers show at once, as a letter and its glow, is given once.

  Raises:
    InputError: naming the line.
  """
  columns: Sequence[str] = _COLUMNS
  section, seen = "", set()
  for number, line in enumerate(text.split("\n"), start=1):
    if match := _SECTION.fullmatch(line):
      section = match[1].lower()
      continue
    kind, _, value = line.partition(":")
    kind = kind.strip().lower() if section == "events" else ""
    if kind == "format":
      columns = _columns(f"{path}:{number}", value)
    elif kind == "dialogue":
      shown = _dialogue(f"{path}:{number}", columns, value)
      if shown not in seen:
        seen.add(shown)
        yield shown
  if text.strip() and not section:
    raise InputError(f"{path}:1: expected [Script Info] and [Events], found no section")


def plain_lines(text: str) -> tuple[str, ...]:
  r"""The lines of the text of an event: of "{\i1}so{\i0} we\Nstart", "so we" and "start"."""
  if _DRAWS.search(text):  # to look at each run takes time that grows with its square
    runs = parse_tags(text, SSAStyle(), {})
    text = "".join(run for run, style in runs if not style.drawing)
  return subtitle_formats.text_lines(SSAEvent(text=text).plaintext.split("\n"))


def _columns(where: str, value: str) -> list[str]:
  columns = [name.strip().lower() for name in value.split(",")]
  # Text may hold commas, so that it must be the last.
  if columns[-1] != "text" or not {"start", "end"} <= set(columns):
    raise InputError(f"{where}: expected a format with Start, End and, at its end, Text")
  return columns


def _dialogue(where: str, columns: Sequence[str], value: str) -> Shown:
  values = value.split(",", len(columns) - 1)
  if len(values) < len(columns):
    raise InputError(
      f"{where}: expected {len(columns)} values with commas between, found {len(values)}"
    )
  fields = dict(zip(columns, values, strict=True))
  start_s, end_s = (_time_s(f"{where}: {name}", fields[name]) for name in ("start", "end"))
  if end_s < start_s:
    raise InputError(f"{where}: the line ends before it starts")
  return Shown(start_s, end_s, plain_lines(fields["text"]))


def _time_s(where: str, value: str) -> float:
  match = _TIME.fullmatch(value)
  if match is None:
    shown = subtitle_formats.shown(value)
    raise InputError(f"{where}: expected a time like 0:00:01.50, found {shown}")
  return subtitle_formats.seconds(match.groups())
