"""Rolling captions: each cue shows the last lines again, above what is new. Told once here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

_GAP_S = 0.1  # what rolls on is shown again at once
_HOLD_S = 0.05  # YouTube holds what is said for a cue of 10 ms
_LEAST_SIGNS = 2  # one line said twice is no rolling caption
_SHARE = 0.5  # of the cues of several lines: those of a song repeat a line now and then


@dataclasses.dataclass(frozen=True)
class Shown:
  """Lines of text, without tags, none empty, shown from `start_s` to `end_s` in seconds."""

  start_s: float
  end_s: float
  lines: tuple[str, ...]


def utterances(shown: Sequence[Shown]) -> list[Shown]:
  """What each cue of a rolling caption says anew, without the cues that say nothing new.

  Captions roll if, of the cues of several lines, at least half begin with the last lines of the
  cue before; with only one such cue, another must hold the last lines for at most 50 ms. Cues of
  captions that do not roll are given back as they are.

  Args:
    shown: in the order of the file.
  """
  repeated = [0, *(_repeated(*pair) for pair in itertools.pairwise(shown))][: len(shown)]
  if not _rolls(shown, repeated):
    return list(shown)
  return [
    dataclasses.replace(cue, lines=cue.lines[count:])
    for cue, count in zip(shown, repeated, strict=True)
    if cue.lines[count:]
  ]


def _repeated(before: Shown, cue: Shown) -> int:
  """How many of the first lines of a cue are the last lines of the one before it."""
  if not before.start_s <= cue.start_s <= before.end_s + _GAP_S:
    return 0
  longest = min(len(before.lines), len(cue.lines))
  counts = range(longest, 0, -1)
  return next((n for n in counts if before.lines[-n:] == cue.lines[:n]), 0)


def _rolls(shown: Sequence[Shown], repeated: Sequence[int]) -> bool:
  several = [count > 0 for cue, count in zip(shown[1:], repeated[1:], strict=True) if cue.lines[1:]]
  held = sum(
    0 < count == len(cue.lines) and cue.end_s - cue.start_s <= _HOLD_S
    for cue, count in zip(shown, repeated, strict=True)
  )
  rolled = sum(several)
  return 0 < rolled >= _SHARE * len(several) and rolled + held >= _LEAST_SIGNS
