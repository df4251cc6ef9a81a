"""How METEOR 1.5 splits English captions, its option -norm, from words of `tokens`.

Hyphenated words come apart, so that parts can match; dots leave abbreviations; a contraction keeps
its apostrophe on the right part. Order of the steps and classes of characters follow the behaviour
of the published program.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_LETTER = "A-Za-zÀ-ÖØ-öø-žЀ-ӿԀ-ԧ"
_WORD = "0-9" + _LETTER
_STEPS = [
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (rf"([^{_WORD}\s.'`,\-‘’])", r" \1 "),
    (r"(\.{2,})", r" \1 "),
    (r"(\D),(\D)", r"\1 , \2"),
    (r"(\d),(\D)", r"\1 , \2"),
    (r"(\D),(\d)", r"\1 , \2"),
    (r"[`‘’]", "'"),
    (r"[“”]|''", ' " '),
    ("–|--", "-"),
    (rf"([{_WORD}.])-([{_WORD}])", r"\1 \2"),
    (rf"([^{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
    (rf"([^{_WORD}])'([{_LETTER}])", r"\1 ' \2"),
    (rf"([{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
    (rf"([{_LETTER}])'([{_LETTER}])", r"\1 '\2"),
    (r"(\d)'(s)", r"\1 '\2"),
  )
]


def split(words: Sequence[str], abbreviations: Collection[str]) -> list[str]:
  """The words METEOR compares.

  Args:
    words: of `tokens.words`.
    abbreviations: that keep a dot at the end of a line or before a number.
  """
  text = f" {' '.join(words)} "
  for pattern, replacement in _STEPS:
    text = pattern.sub(replacement, text)
  found = text.lower().split()
  split_words = []
  for word, following in zip(found, [*found[1:], ""], strict=False):
    split_words += _without_dot(word, following, abbreviations)
  return split_words


def _without_dot(word: str, following: str, abbreviations: Collection[str]) -> list[str]:
  stem = word[:-1]
  if not stem or not word.endswith(".") or not stem.strip("."):
    return [word]
  if "." in stem and re.search(f"[{_LETTER}]", stem):
    return [word.replace(".", "")]
  if stem in abbreviations or re.match("[a-z]", following):
    return [word]
  return [stem, "."]
