"""Wu-Palmer similarity of English words, from a WordNet 3 database on disk.

The database is the folder `dict` of WordNet 3.0 or 3.1 (https://wordnet.princeton.edu), or the
folder `corpora/wordnet` of NLTK's data, which holds the same files. Where the measure leaves a
choice it is made as in NLTK, with which published figures were computed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from vsumjax.types import InputError

NOUN = "n"
_FILES = {NOUN: "noun", "v": "verb", "a": "adj", "r": "adv"}
ALL_PARTS = "".join(_FILES)
# Endings and what stands for them in the base form (morphy, in the manual pages of WordNet 3.0).
_DETACHMENTS = {
  NOUN: "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
  "v": "s: ies:y es:e es: ed:e ed: ing:e ing:",
  "a": "er: est: er:e est:e",
  "r": "",
}
_HYPERNYMS = ("@", "@i")  # of a kind, of an instance


@dataclasses.dataclass(frozen=True)
class Sense:
  """One meaning, a synset: part of speech and place in WordNet's data file; "" is above all."""

  part: str
  offset: int


_ROOT = Sense("", 0)


@dataclasses.dataclass(frozen=True)
class _Part:
  """One part of speech: senses of each word, common ones first; parents and name of each sense."""

  senses: dict[str, tuple[int, ...]]
  parents: dict[int, tuple[int, ...]]
  first_word: dict[int, str]
  exceptions: dict[str, tuple[str, ...]]


class WordNet:
  """Senses of words and how similar they are. Files are read when first needed."""

  def __init__(self, folder: str | os.PathLike[str]):
    """Raises InputError where the folder holds no database of nouns."""
    self._folder = Path(folder)
    for name in ("index.noun", "data.noun"):
      if not (self._folder / name).is_file():
        raise InputError(
          f"{self._folder / name}: no such file; give the folder `dict` of WordNet 3 or the folder "
          "`corpora/wordnet` of NLTK's data"
        )
    self._part = functools.cache(self._read)
    self.senses = functools.cache(self._senses)
    self.similarity = functools.cache(self._similarity)
    self._distances = functools.cache(self._distances_to_ancestors)
    self._depths = functools.cache(self._find_depths)

  def _senses(self, word: str, parts: str = NOUN) -> tuple[Sense, ...]:
    """Meanings of a word or of its base forms, by part of speech and then common ones first."""
    word = word.lower()
    found = []
    for part in parts:
      tables = self._part(part)
      bases = tables.exceptions.get(word, _detached(word, part))
      for form in dict.fromkeys((word, *bases)):
        found += [Sense(part, offset) for offset in tables.senses.get(form, ())]
    return tuple(found)

  def _similarity(self, first: Sense, second: Sense) -> float:
    """Twice the depth of the deepest common ancestor over the depths below it, in 0..1.

    Nouns share an ancestor; all others are put under a common root. Depth of the ancestor is that
    of its longest path, paths from it down are the shortest, and the deepest is the one whose
    shortest path from the top is longest (Wu & Palmer 1994, as in NLTK, where an ancestor that is
    `first` itself wins a tie, so that of verbs the order may matter).
    """
    rooted = not first.part == second.part == NOUN
    ours, theirs = (self._distances(sense, rooted) for sense in (first, second))
    common = ours.keys() & theirs.keys()
    if not common:
      return 0.0
    deepest = max(self._depths(sense)[0] for sense in common)
    candidates = [sense for sense in common if self._depths(sense)[0] == deepest]
    best = first if first in candidates else min(candidates, key=self._name)
    depth = self._depths(best)[1] + 1
    below = self._steps(ours, best, rooted) + self._steps(theirs, best, rooted)
    return 2 * depth / (below + 2 * depth)

  def _steps(self, ours: dict[Sense, int], ancestor: Sense, rooted: bool) -> int:
    """The shortest way to an ancestor, which may lead over a third sense above both."""
    theirs = self._distances(ancestor, rooted)
    return min(ours[sense] + theirs[sense] for sense in ours.keys() & theirs.keys())

  def _distances_to_ancestors(self, sense: Sense, rooted: bool) -> dict[Sense, int]:
    found = {sense: 0}
    front = [sense]
    while front:
      parents = dict.fromkeys(p for child in front for p in self._parents(child))
      steps = found[front[0]] + 1
      front = [parent for parent in parents if parent not in found]
      found.update(dict.fromkeys(front, steps))
    if rooted and sense != _ROOT:
      found[_ROOT] = max(found.values()) + 1
    return found

  def _find_depths(self, sense: Sense) -> tuple[int, int]:
    """Steps to the top, on the shortest path and on the longest."""
    above = [self._depths(parent) for parent in self._parents(sense)]
    if not above:
      return 0, 0
    return 1 + min(least for least, _ in above), 1 + max(most for _, most in above)

  def _parents(self, sense: Sense) -> list[Sense]:
    if sense == _ROOT:
      return []
    offsets = self._part(sense.part).parents[sense.offset]
    return [Sense(sense.part, offset) for offset in offsets]

  def _name(self, sense: Sense) -> tuple[str, str, int]:
    """Orders senses; the root is first."""
    if sense == _ROOT:
      return "", "", 0
    tables = self._part(sense.part)
    word = tables.first_word[sense.offset]
    return word, sense.part, tables.senses.get(word, (sense.offset,)).index(sense.offset)

  def _read(self, part: str) -> _Part:
    name = _FILES[part]
    exceptions = {}
    if (self._folder / f"{name}.exc").is_file():
      exceptions = {form: tuple(bases) for form, *bases in self._fields(f"{name}.exc")}
    try:
      senses = {
        word: tuple(map(int, fields[-int(fields[1]) :]))
        for word, *fields in self._fields(f"index.{name}")
      }
      data = dict(map(_first_word_and_parents, self._fields(f"data.{name}")))
      _check_offsets(itertools.chain(*senses.values(), *(up for _, up in data.values())), data)
    except (ValueError, IndexError) as error:
      raise InputError(
        f"{self._folder / f'data.{name}'}: does not fit index.{name} or is not a file of WordNet 3 "
        f"({error})"
      ) from None
    parents = {offset: above for offset, (_, above) in data.items()}
    return _Part(senses, parents, {offset: word for offset, (word, _) in data.items()}, exceptions)

  def _fields(self, name: str) -> Iterator[list[str]]:
    """Fields of each line that is not part of the licence, which is indented."""
    path = self._folder / name
    try:
      with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
          if line.strip() and not line.startswith(" "):
            yield line.partition(" | ")[0].split()
    except OSError as error:
      raise InputError(f"{path}: cannot read WordNet: {error.strerror}") from None


def _first_word_and_parents(fields: list[str]) -> tuple[int, tuple[str, tuple[int, ...]]]:
  """Offset of a line of a data file, its first word in lower case and where its parents are."""
  count_at = 4 + 2 * int(fields[3], 16)
  pointers = fields[count_at + 1 : count_at + 1 + 4 * int(fields[count_at])]
  parents = tuple(
    int(target)
    for symbol, target in zip(pointers[::4], pointers[1::4], strict=True)
    if symbol in _HYPERNYMS
  )
  return int(fields[0]), (fields[4].lower(), parents)


def _check_offsets(offsets: Iterable[int], data: Container[int]) -> None:
  for offset in offsets:
    if offset not in data:
      raise ValueError(f"there is no line {offset:08d}")


def _detached(word: str, part: str) -> tuple[str, ...]:
  rules = [rule.split(":") for rule in _DETACHMENTS[part].split()]
  return tuple(word.removesuffix(old) + new for old, new in rules if word.endswith(old))
