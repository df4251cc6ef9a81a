"""BLEU-1 to BLEU-4 of captions (Papineni et al. 2002), with the closest reference length.

What the paper leaves open is as in the COCO caption evaluation, so that figures can be compared: of
two reference lengths equally close the shorter counts, and no count is exactly zero (`_TINY`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from vsumjax.evaluation.language import ngrams

_TINY = 1e-15  # added to matches: a caption without a match gets nearly 0
_SMALL = 1e-9  # added to lengths: an empty caption divides by nothing else


@dataclasses.dataclass(frozen=True)
class Counts:
  """What BLEU needs to know of one caption or, summed, of a corpus.

  matched:  i64[4], runs of 1..4 words that a reference has too, at most as often as it has.
  possible: i64[4], runs of 1..4 words.
  length, reference_length: in words.
  """

  matched: np.ndarray
  possible: np.ndarray
  length: int
  reference_length: int


def counts(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> Counts:
  """Counts of one caption against its references, each a list of words."""
  most: dict[ngrams.Ngram, int] = {}
  for reference in references:
    for ngram, times in ngrams.count(reference).items():
      most[ngram] = max(times, most.get(ngram, 0))
  matched = np.zeros(ngrams.LONGEST, np.int64)
  for ngram, times in ngrams.count(candidate).items():
    matched[len(ngram) - 1] += min(times, most.get(ngram, 0))
  length = len(candidate)
  possible = np.maximum(length - np.arange(ngrams.LONGEST), 0)
  closest = min((abs(len(words) - length), len(words)) for words in references)[1]
  return Counts(matched, possible, length, closest)


def total(parts: Sequence[Counts]) -> Counts:
  """Counts of a corpus. Its BLEU is not the mean of the captions' BLEU."""
  return Counts(
    sum(part.matched for part in parts),
    sum(part.possible for part in parts),
    sum(part.length for part in parts),
    sum(part.reference_length for part in parts),
  )


def bleu(of: Counts) -> np.ndarray:
  """f64[4]: BLEU-1 to BLEU-4 in 0..1."""
  precision = (of.matched + _TINY) / (of.possible + _SMALL)
  orders = np.arange(1, ngrams.LONGEST + 1)
  geometric_mean = np.cumprod(precision) ** (1 / orders)
  ratio = (of.length + _TINY) / (of.reference_length + _SMALL)
  return geometric_mean * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)
