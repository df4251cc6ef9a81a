"""METEOR 1.5 of English captions (Denkowski & Lavie 2014), without Java.

With the published word lists (see `meteor_data`) all four of its matchers are at work: same word,
same stem, synonym, paraphrase. Without them only the first two, and the measure has another name,
because its figures are lower and not comparable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import snowballstemmer

from vsumjax.evaluation.language import meteor_data, meteor_text
from vsumjax.evaluation.language.alignment import Match, align
from vsumjax.evaluation.language.meteor_data import Paraphrases, Phrase, Resources

# Tuned for the ranking task of English, table 2 of the paper.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.20, 0.60, 0.75
_MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_EXACT, _STEM, _SYNONYM, _PARAPHRASE = range(4)


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What the score of one caption or, summed, of a corpus is computed from.

  Axis 0 is the candidate, then the reference.

  words:    f64[2, 2], number of content words, then of function words.
  matched:  f64[2, 2, 4], of these by matcher.
  chunks:   runs of matches that stand in the same order on both sides; 0 if the texts are the same.
  """

  words: np.ndarray
  matched: np.ndarray
  chunks: int

  @property
  def score(self) -> float:
    """METEOR in 0..1."""
    weights = np.array([_DELTA, 1 - _DELTA])
    weighted = np.einsum("skm,k,m->s", self.matched, weights, _MATCHER_WEIGHTS)
    if not weighted.all():
      return 0.0
    precision, recall = weighted / (self.words @ weights)
    mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
    fragmentation = self.chunks / (self.matched.sum() / 2)
    return float(mean * (1 - _GAMMA * fragmentation**_BETA))


class Meteor:
  """Scores captions; `name` says which variant. Keeps stems and synonyms of the words it met."""

  def __init__(self, resources: Resources | None = None):
    self._resources = resources
    self._stem = functools.cache(snowballstemmer.stemmer("english").stemWord)
    if resources is None:
      self.name = "METEOR (exact, stem)"
      self._function_words = meteor_data.COMMON_FUNCTION_WORDS
      self._abbreviations: frozenset[str] = frozenset()
    else:
      self.name = "METEOR"
      self._function_words = resources.function_words
      self._abbreviations = resources.abbreviations
      self._synonyms = functools.cache(
        lambda word: meteor_data.synonym_sets(word, resources),
      )

  def scores(
    self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
  ) -> tuple[float, np.ndarray]:
    """METEOR of the corpus and of each caption, against the reference that suits it best.

    The corpus score is that of the summed statistics, not the mean.

    Args:
      candidates: words of each caption, of `tokens.words`.
      references: words of the references of each.

    Returns:
      The score of the corpus and f64[N].
    """
    ours = [self._split(words) for words in candidates]
    theirs = [[self._split(words) for words in group] for group in references]
    table = self._paraphrases([*ours, *(words for group in theirs for words in group)])
    best = [
      max((self._statistics(words, other, table) for other in group), key=lambda s: s.score)
      for words, group in zip(ours, theirs, strict=True)
    ]
    total = Statistics(
      sum(s.words for s in best), sum(s.matched for s in best), sum(s.chunks for s in best)
    )
    return total.score, np.array([s.score for s in best])

  def _split(self, words: Sequence[str]) -> tuple[str, ...]:
    return tuple(meteor_text.split(words, self._abbreviations))

  def _paraphrases(self, texts: Sequence[Phrase]) -> Paraphrases:
    if self._resources is None:
      return Paraphrases({}, 0)
    vocabulary = frozenset(word for words in texts for word in words)
    return meteor_data.read_paraphrases(self._resources.paraphrases, vocabulary)

  def _statistics(self, first: Phrase, second: Phrase, table: Paraphrases) -> Statistics:
    matches = _pairs(_EXACT, len(first), len(second), lambda i, j: first[i] == second[j])
    if first != second:
      matches += self._of_words(first, second) + _of_phrases(first, second, table)
    chosen = align(matches, len(second))
    words, matched = np.zeros((2, 2)), np.zeros((2, 2, len(_MATCHER_WEIGHTS)))
    for side, text in enumerate((first, second)):
      kinds = [int(word in self._function_words) for word in text]
      words[side] = len(kinds) - sum(kinds), sum(kinds)
      for match in chosen:
        start, length = match.span(side)
        for kind in kinds[start : start + length]:
          matched[side, kind, match.matcher] += 1
    complete = matched.sum() == words.sum() and _chunks(chosen) == 1
    return Statistics(words, matched, 0 if complete else _chunks(chosen))

  def _of_words(self, first: Phrase, second: Phrase) -> list[Match]:
    """Different words of the same stem, then different ones with a meaning in common."""
    ours, theirs = (list(map(self._stem, words)) for words in (first, second))
    found = _pairs(
      _STEM, len(first), len(second), lambda i, j: ours[i] == theirs[j] and first[i] != second[j]
    )
    if self._resources is None:
      return found
    senses, others = (list(map(self._synonyms, words)) for words in (first, second))
    return found + _pairs(
      _SYNONYM,
      len(first),
      len(second),
      lambda i, j: first[i] != second[j] and not senses[i].isdisjoint(others[j]),
    )


def _pairs(
  matcher: int, num_first: int, num_second: int, agree: Callable[[int, int], bool]
) -> list[Match]:
  """Matches of single words, by place in the second text and then in the first."""
  return [
    Match(matcher, index, 1, place, 1)
    for place in range(num_second)
    for index in range(num_first)
    if agree(index, place)
  ]


def _of_phrases(first: Phrase, second: Phrase, table: Paraphrases) -> list[Match]:
  """Paraphrases in `first` of phrases of `second`, then the other way round."""
  if not table.of:
    return []
  in_first, in_second = _phrases(first, table.longest), _phrases(second, table.longest)
  at_first, at_second = _starts(in_first), _starts(in_second)
  found = [
    Match(_PARAPHRASE, index, len(paraphrase), place, len(phrase))
    for place, phrase in in_second
    for paraphrase in table.of.get(phrase, ())
    for index in at_first.get(paraphrase, ())
  ]
  return found + [
    Match(_PARAPHRASE, index, len(phrase), place, len(paraphrase))
    for index, phrase in in_first
    for paraphrase in table.of.get(phrase, ())
    for place in at_second.get(paraphrase, ())
  ]


def _phrases(words: Phrase, longest: int) -> list[tuple[int, Phrase]]:
  """Every run of up to `longest` words with where it starts, by start and then length."""
  return [
    (start, words[start:end])
    for start in range(len(words))
    for end in range(start + 1, min(start + longest, len(words)) + 1)
  ]


def _starts(phrases: list[tuple[int, Phrase]]) -> dict[Phrase, list[int]]:
  found: dict[Phrase, list[int]] = {}
  for start, phrase in phrases:
    found.setdefault(phrase, []).append(start)
  return found


def _chunks(chosen: Sequence[Match]) -> int:
  """Runs of matches without a gap on either side."""
  ends = [(m.first + m.first_length, m.second + m.second_length) for m in chosen]
  joined = sum(end == (m.first, m.second) for end, m in zip(ends, chosen[1:], strict=False))
  return len(chosen) - joined
