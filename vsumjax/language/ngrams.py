"""Runs of one to four words, which BLEU and CIDEr-D count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

LONGEST = 4
Ngram = tuple[str, ...]


def count(words: Sequence[str]) -> Counter[Ngram]:
  """How often each run of 1 to `LONGEST` words occurs."""
  return Counter(
    tuple(words[start : start + length])
    for length in range(1, LONGEST + 1)
    for start in range(len(words) - length + 1)
  )
