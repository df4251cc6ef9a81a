"""The alignment of two lists of words that METEOR 1.5 scores: most matches in fewest chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

_BEAM = 40
_EXACT = 0


class Match(NamedTuple):
  """Words `first..first + first_length` of one side stand for `second...` of the other.

  matcher: 0 exact, 1 stem, 2 synonym, 3 paraphrase.
  """

  matcher: int
  first: int
  first_length: int
  second: int
  second_length: int

  def span(self, side: int) -> tuple[int, int]:
    """Where the words start on the first (0) or second (1) side, and how many they are."""
    if side == 0:
      return self.first, self.first_length
    return self.second, self.second_length

  @property
  def first_words(self) -> int:
    return (1 << self.first_length) - 1 << self.first

  @property
  def second_words(self) -> int:
    return (1 << self.second_length) - 1 << self.second

  @property
  def gain(self) -> tuple[int, int]:
    """Words matched on each side, those of an exact match in full and others by half, cut off."""
    if self.matcher == _EXACT:
      return self.first_length, self.second_length
    return self.first_length // 2, self.second_length // 2


@dataclasses.dataclass(slots=True)
class _Path:
  """A partial alignment: what it has matched so far, going through the second side.

  Words are sets of bits. `position` is where the last match or skip ended, `follows` the word of
  the first side that would continue the chunk (-1 where none is open).
  """

  chosen: tuple[Match, ...]
  first_used: int
  second_used: int
  matched: int = 0
  chunks: int = 0
  distance: int = 0
  position: int = 0
  follows: int = -1

  def rank(self) -> tuple[int, int, int]:
    return -self.matched, self.chunks, self.distance

  def with_match(self, match: Match, distance: int) -> _Path:
    broken = self.follows not in (-1, match.first)
    return _Path(
      (*self.chosen, match),
      self.first_used | match.first_words,
      self.second_used | match.second_words,
      self.matched + sum(match.gain),
      self.chunks + broken,
      self.distance + distance,
      match.second + match.second_length,
      match.first + match.first_length,
    )

  def skip(self) -> None:
    self.chunks += self.follows != -1
    self.follows = -1
    self.position += 1


def align(matches: Sequence[Match], num_second: int) -> tuple[Match, ...]:
  """The best alignment among possible matches, by a beam search of width 40.

  It has the most words matched, then the fewest chunks, then the shortest distance between the
  places of matched words. Ties fall as in the published program: the order of `matches` decides,
  and a path is charged with the distances of the matches that were tried before its own.

  Args:
    matches: by matcher, then as the matcher found them.
    num_second: number of words of the second side.
  """
  starting = [[m for m in matches if m.second == place] for place in range(num_second)]
  fixed = _undisputed(matches, starting)
  start = _Path((), 0, 0)
  for match in fixed.values():
    start.first_used |= match.first_words
    start.second_used |= match.second_words
  paths = [start]
  for place in range(num_second):
    paths.sort(key=_Path.rank)
    paths = [
      longer
      for path in paths[:_BEAM]
      for longer in _continue(path, place, starting[place], fixed.get(place))
    ]
  paths.sort(key=_Path.rank)
  for path in paths[:_BEAM]:
    path.chunks += path.follows != -1
  return min(paths[:_BEAM], key=_Path.rank).chosen


def _undisputed(matches: Sequence[Match], starting: list[list[Match]]) -> dict[int, Match]:
  """Matches whose words no other match claims."""
  first_claims: dict[int, int] = {}
  second_claims: dict[int, int] = {}
  for m in matches:
    for word in range(m.first, m.first + m.first_length):
      first_claims[word] = first_claims.get(word, 0) + 1
    for word in range(m.second, m.second + m.second_length):
      second_claims[word] = second_claims.get(word, 0) + 1
  return {
    place: found[0]
    for place, found in enumerate(starting)
    if len(found) == 1
    and all(first_claims[found[0].first + k] == 1 for k in range(found[0].first_length))
    and all(second_claims[place + k] == 1 for k in range(found[0].second_length))
  }


def _continue(path: _Path, place: int, starting: list[Match], fixed: Match | None) -> list[_Path]:
  if place < path.position:
    return [path]
  if fixed is not None:
    return [path.with_match(fixed, abs(fixed.second - fixed.first))]
  longer = []
  for match in starting:
    if match.first_words & path.first_used or match.second_words & path.second_used:
      continue
    longer.append(path.with_match(match, 0))
    path.distance += abs(match.second - match.first)
  path.skip()
  return [*longer, path]
