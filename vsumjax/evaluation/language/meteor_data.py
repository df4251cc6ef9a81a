"""What METEOR 1.5 knows of English: function words, synonyms, paraphrases, abbreviations.

The published files are not part of this library. `pip install pycocoevalcap` puts them into its
folder `meteor`; no Java is needed to read them.
"""

from __future__ import annotations

import dataclasses
import gzip
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vsumjax.types import InputError

_JAR = "meteor-1.5.jar"
_PARAPHRASES = "paraphrase-en.gz"
_WHERE = "give the folder `meteor` of the Python package pycocoevalcap 1.2"

# Closed-class words of English that come about once in a thousand words of running text or more.
# Used where the published list is not at hand.
_CLOSED_CLASS = (
  "a an the this that these those of to in on at by for from with into over out up about after "
  "before between through and or but if as than so not no all some more one its his her their our "
  "my your he she it they we you i him them who which what when where there is are was were be "
  "been has have had do does will would can could"
)
COMMON_FUNCTION_WORDS = frozenset(_CLOSED_CLASS.split())

Phrase = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Resources:
  """Read by `load`.

  synsets: numbers of the sets of synonyms that a word belongs to.
  base_forms: of inflected words that no rule leads to, as "mice".
  paraphrases: the compressed table, which is read once for each evaluation.
  """

  function_words: frozenset[str]
  abbreviations: frozenset[str]
  synsets: Mapping[str, frozenset[int]]
  base_forms: Mapping[str, tuple[str, ...]]
  paraphrases: Path


def load(path: Path) -> Resources:
  """Reads METEOR's files from a folder that holds its jar, and the paraphrases in it or in `data`.

  Raises:
    InputError: a file is absent or damaged.
  """
  jar = path / _JAR if path.is_dir() else path
  tables = [folder / _PARAPHRASES for folder in (jar.parent / "data", jar.parent)]
  table = next((table for table in tables if table.is_file()), None)
  if not jar.is_file():
    raise InputError(f"{jar}: no such file; {_WHERE}")
  if table is None:
    raise InputError(f"{tables[0]}: no such file; {_WHERE}")
  try:
    with zipfile.ZipFile(jar) as archive:
      return Resources(
        frozenset(_lines(archive, "function/english.words")),
        frozenset(
          line.split()[0]
          for line in _lines(archive, "nonbreaking/english.prefixes")
          if line.strip() and not line.startswith("#")
        ),
        {
          word: frozenset(map(int, numbers.split()))
          for word, numbers in _pairs(archive, "synonym/english.synsets")
        },
        _base_forms(archive),
        table,
      )
  except (zipfile.BadZipFile, KeyError, ValueError, zlib.error) as error:
    raise InputError(f"{jar}: is not METEOR 1.5's jar ({error}); {_WHERE}") from None


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
  return archive.read(name).decode().splitlines()


def _pairs(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, str]]:
  """Lines two by two."""
  lines = iter(_lines(archive, name))
  return zip(lines, lines, strict=True)


def _base_forms(archive: zipfile.ZipFile) -> dict[str, tuple[str, ...]]:
  bases: dict[str, tuple[str, ...]] = {}
  for base, forms in _pairs(archive, "synonym/english.exceptions"):
    for form in forms.split():
      bases[form] = (*bases.get(form, ()), base)
  return bases


@dataclasses.dataclass(frozen=True)
class Paraphrases:
  """of: the paraphrases of a phrase. longest: most words of a phrase or paraphrase."""

  of: Mapping[Phrase, Sequence[Phrase]]
  longest: int


def read_paraphrases(table: Path, vocabulary: frozenset[str]) -> Paraphrases:
  """The paraphrases of each phrase, of those whose words are all in `vocabulary`.

  Raises:
    InputError: the table is damaged.
  """
  found: dict[Phrase, list[Phrase]] = {}
  longest = 0
  try:
    with gzip.open(table, "rt", encoding="utf-8") as lines:
      for _, phrase, paraphrase in zip(lines, lines, lines, strict=True):
        first, second = tuple(phrase.split()), tuple(paraphrase.split())
        if vocabulary.issuperset(first) and vocabulary.issuperset(second):
          found.setdefault(first, []).append(second)
          longest = max(longest, len(first), len(second))
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise InputError(f"{table}: is not METEOR's table of paraphrases ({error})") from None
  return Paraphrases(found, longest)


# Endings of inflected nouns, verbs and adjectives and what stands for them in the base form:
# WordNet's rules of detachment (morphy, in the manual pages of WordNet 3.0).
_DETACHMENTS = (
  *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
  *(("men", "man"), ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
  *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
  *(("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
)


def synonym_sets(word: str, resources: Resources) -> frozenset[int]:
  """Numbers of the sets of synonyms of a word and of its base form."""
  own = resources.synsets.get(word, frozenset())
  bases = resources.base_forms.get(word)
  if bases is None:
    bases = () if word.endswith("ss") or len(word) <= 2 else _detached(word, resources)
  return own.union(*(resources.synsets.get(base, frozenset()) for base in bases))


def _detached(word: str, resources: Resources) -> tuple[str, ...]:
  for ending, instead in _DETACHMENTS:
    base = word.removesuffix(ending) + instead
    if word.endswith(ending) and base in resources.synsets:
      return (base,)
  return ()
