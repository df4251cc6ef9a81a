"""ROUGE-L of captions: the longest common subsequence of words (Lin 2004), with beta 1.2."""

from __future__ import annotations

from collections.abc import Sequence

_BETA = 1.2  # as in the COCO caption evaluation: recall counts more


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
  """F-measure of one caption in 0..1, from the best precision and the best recall.

  The two may come from different references, as in the COCO caption evaluation. A caption without
  a word agrees only with a reference without a word.
  """
  common = [common_subsequence(candidate, reference) for reference in references]
  if not candidate:
    return float(any(not reference for reference in references))
  precision = max(common) / len(candidate)
  recall = max(c / max(len(words), 1) for c, words in zip(common, references, strict=True))
  if precision == 0:
    return 0.0
  return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
  """Length of the longest common subsequence, in len(second) steps (Hyyrö 2004, on bit vectors)."""
  places: dict[str, int] = {}
  for index, word in enumerate(first):
    places[word] = places.get(word, 0) | 1 << index
  everywhere = (1 << len(first)) - 1
  unmatched = everywhere
  for word in second:
    matching = unmatched & places.get(word, 0)
    unmatched = (unmatched + matching | unmatched - matching) & everywhere
  return len(first) - unmatched.bit_count()
