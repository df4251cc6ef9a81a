"""Wu-Palmer similarity on a small WordNet of our own, computed by hand and as NLTK gives it."""

import pytest
import wordnet_files

from vsumjax.evaluation.language import wordnet
from vsumjax.types import InputError


@pytest.fixture(scope="module")
def database(tmp_path_factory):
  return wordnet.WordNet(wordnet_files.write(tmp_path_factory.mktemp("wordnet") / "dict"))


def first(database, word, part=wordnet.NOUN):
  return database.senses(word, part)[0]


@pytest.mark.parametrize(
  ("one", "other", "expected"),
  [
    ("dog", "dog", 1.0),
    # Depths from entity, the top, down: animal is at 3, dog and cat at 4.
    ("dog", "cat", 2 * 3 / (4 + 4)),
    ("puppy", "cat", 2 * 3 / (5 + 4)),
    ("puppy", "dog", 2 * 4 / (5 + 4)),
    ("dog", "entity", 2 * 1 / (4 + 1)),
    ("car", "cat", 2 * 2 / (4 + 4)),
    # By way of friend, which is deeper than animal.
    ("pet", "friend", 2 * 4 / (5 + 4)),
    ("pet", "person", 2 * 3 / (5 + 3)),
    ("pet", "cat", 2 * 3 / (4 + 4)),
    ("ice_cream", "dog", 2 * 1 / (2 + 4)),
  ],
)
def test_similarity_of_nouns_by_hand(database, one, other, expected):
  ours, theirs = first(database, one), first(database, other)
  assert database.similarity(ours, theirs) == pytest.approx(expected)
  assert database.similarity(theirs, ours) == pytest.approx(expected)


def test_verbs_and_parts_of_speech_meet_at_a_common_root(database):
  sprint, move, run, think = (first(database, w, "v") for w in ("sprint", "move", "run", "think"))
  # As NLTK 3.10.4 computes them from the same files: of verbs the order matters, since a topmost
  # one that is not asked about first is no deeper than the common root.
  assert database.similarity(sprint, run) == pytest.approx(0.8)
  assert database.similarity(run, move) == pytest.approx(0.4)
  assert database.similarity(move, run) == pytest.approx(2 / 3)
  assert database.similarity(run, think) == pytest.approx(0.4)
  assert database.similarity(move, think) == pytest.approx(0.5)
  assert database.similarity(first(database, "dog"), think) == pytest.approx(2 / 7)


def test_senses_are_in_order_and_of_base_forms(database):
  assert len(database.senses("dog", "n")) == 2
  assert len(database.senses("Dogs", "nv")) == 3
  assert database.senses("men", "n") == database.senses("man", "n")  # an exception
  assert database.senses("puppies", "n") == database.senses("puppy", "n")
  assert database.senses("running", "v") == ()  # no rule halves consonants
  assert database.senses("thinking", "v") == database.senses("think", "v")
  assert database.senses("unknown", "nv") == ()


def test_a_folder_without_a_database_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"index.noun: no such file; give the folder `dict`"):
    wordnet.WordNet(tmp_path)


def test_a_missing_part_of_speech_is_named(database):
  with pytest.raises(InputError, match=r"index.adj: cannot read WordNet"):
    database.senses("red", wordnet.ALL_PARTS)


@pytest.mark.parametrize("damage", [lambda text: text[:-60], lambda text: text.replace(" n ", " ")])
def test_a_damaged_database_is_named(tmp_path, damage):
  folder = wordnet_files.write(tmp_path / "dict")
  data = folder / "data.noun"
  data.write_text(damage(data.read_text()))
  with pytest.raises(InputError, match=r"data.noun: does not fit index.noun"):
    wordnet.WordNet(folder).senses("dog")
