"""CIDEr-D of captions (Vedantam et al. 2015): agreement weighted by how rare each n-gram is."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vsumjax.language import ngrams

_SIGMA = 6.0  # width of the penalty on a difference in length, in words
_SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class DocumentFrequencies:
  """In the references of how many videos each n-gram occurs."""

  counts: Mapping[ngrams.Ngram, int]
  num_videos: int

  def rarity(self, ngram: ngrams.Ngram) -> float:
    """Inverse document frequency in nats; 0 for what occurs with every video."""
    return math.log(self.num_videos) - math.log(max(1, self.counts.get(ngram, 0)))


def document_frequencies(videos: Iterable[Sequence[Sequence[str]]]) -> DocumentFrequencies:
  """Of the references, lists of words, of each video."""
  found: Counter[ngrams.Ngram] = Counter()
  num_videos = 0
  for references in videos:
    found.update({ngram for words in references for ngram in ngrams.count(words)})
    num_videos += 1
  return DocumentFrequencies(found, num_videos)


@dataclasses.dataclass(frozen=True)
class _Vector:
  """Weights of the n-grams of a caption, their norm for each n, and the number of pairs."""

  weight: dict[ngrams.Ngram, float]
  norm: np.ndarray
  num_pairs: int


def _vector(words: Sequence[str], frequencies: DocumentFrequencies) -> _Vector:
  weight = {
    ngram: times * frequencies.rarity(ngram) for ngram, times in ngrams.count(words).items()
  }
  squares = [0.0] * ngrams.LONGEST
  for ngram, value in weight.items():
    squares[len(ngram) - 1] += value * value
  return _Vector(weight, np.sqrt(squares), max(len(words) - 1, 0))


def cider_d(
  candidate: Sequence[str],
  references: Sequence[Sequence[str]],
  frequencies: DocumentFrequencies,
) -> float:
  """CIDEr-D of one caption in 0..10, the mean over its references.

  Lengths are compared in pairs of words, as the reference implementation does. Where all n-grams
  have rarity 0, as with the references of a single video, the score is 0 and says nothing.
  """
  ours = _vector(candidate, frequencies)
  similarities = [_similarity(ours, _vector(words, frequencies)) for words in references]
  return _SCALE * sum(similarities) / len(similarities)


def _similarity(ours: _Vector, theirs: _Vector) -> float:
  clipped = [0.0] * ngrams.LONGEST
  for ngram, value in ours.weight.items():
    other = theirs.weight.get(ngram, 0.0)
    clipped[len(ngram) - 1] += min(value, other) * other
  norms = ours.norm * theirs.norm
  cosine = np.divide(clipped, norms, out=np.zeros(ngrams.LONGEST), where=norms > 0)
  difference = ours.num_pairs - theirs.num_pairs
  return float(np.mean(cosine)) * math.exp(-(difference**2) / (2 * _SIGMA**2))
