"""CIDEr-D of captions (Vedantam et al. 2015): agreement weighted by how rare each n-gram is."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vsumjax.evaluation.language import ngrams

_SIGMA = 6.0  # width of the penalty on a difference in length, in words
_SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class Rarity:
  """Inverse document frequency of n-grams in nats; 0 for what occurs with every video.

  known:   by n-gram, of those that occur in a reference.
  unknown: of all others, the logarithm of the number of videos.
  """

  known: Mapping[ngrams.Ngram, float]
  unknown: float


def rarity(videos: Iterable[Sequence[Sequence[str]]]) -> Rarity:
  """Of the references, lists of words, of each video."""
  found: Counter[ngrams.Ngram] = Counter()
  num_videos = 0
  for references in videos:
    found.update(set().union(*map(ngrams.runs, references)))
    num_videos += 1
  unknown = math.log(num_videos)
  return Rarity({ngram: unknown - math.log(times) for ngram, times in found.items()}, unknown)


@dataclasses.dataclass(frozen=True)
class _Vector:
  """Weights of the n-grams of a caption, their norm for each n, and the number of pairs."""

  weight: dict[ngrams.Ngram, float]
  norm: list[float]
  num_pairs: int


def _vector(words: Sequence[str], rare: Rarity) -> _Vector:
  known, unknown = rare.known, rare.unknown
  weight = {
    ngram: times * known.get(ngram, unknown) for ngram, times in ngrams.count(words).items()
  }
  squares = [0.0] * ngrams.LONGEST
  for ngram, value in weight.items():
    squares[len(ngram) - 1] += value * value
  return _Vector(weight, [math.sqrt(square) for square in squares], max(len(words) - 1, 0))


def cider_d(candidate: Sequence[str], references: Sequence[Sequence[str]], rare: Rarity) -> float:
  """CIDEr-D of one caption in 0..10, the mean over its references.

  Lengths are compared in pairs of words, as the reference implementation does. Where all n-grams
  have rarity 0, as with the references of a single video, the score is 0 and says nothing.
  """
  ours = _vector(candidate, rare)
  similarities = [_similarity(ours, _vector(words, rare)) for words in references]
  return _SCALE * sum(similarities) / len(similarities)


def _similarity(ours: _Vector, theirs: _Vector) -> float:
  clipped = [0.0] * ngrams.LONGEST
  for ngram in ours.weight.keys() & theirs.weight.keys():
    other = theirs.weight[ngram]
    clipped[len(ngram) - 1] += min(ours.weight[ngram], other) * other
  cosines = [
    value / (one * other) if one * other > 0 else 0.0
    for value, one, other in zip(clipped, ours.norm, theirs.norm, strict=True)
  ]
  difference = ours.num_pairs - theirs.num_pairs
  return sum(cosines) / ngrams.LONGEST * math.exp(-(difference**2) / (2 * _SIGMA**2))
