"""Runs of one to four words, which BLEU and CIDEr-D count."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

LONGEST = 4
Ngram = tuple[str, ...]


def runs(words: Sequence[str]) -> Iterator[Ngram]:
  """Each run of 1 to `LONGEST` words, as often as it occurs; short ones first."""
  shifted = [words[start:] for start in range(LONGEST)]
  return itertools.chain(
    *(zip(*shifted[:length], strict=False) for length in range(1, LONGEST + 1))
  )


def count(words: Sequence[str]) -> Counter[Ngram]:
  """How often each run of 1 to `LONGEST` words occurs."""
  return Counter(runs(words))
