"""Accuracy and WUPS of answers, by hand."""

import pytest
import wordnet_files

from vsumjax.evaluation.language import answers
from vsumjax.evaluation.language.answers import Question
from vsumjax.evaluation.language.wordnet import WordNet
from vsumjax.types import InputError


@pytest.fixture(scope="module")
def database(tmp_path_factory):
  return WordNet(wordnet_files.write(tmp_path_factory.mktemp("wordnet") / "dict"))


@pytest.mark.parametrize(
  ("answer", "plain", "vqa"),
  [
    ("  A  Dog ", "a dog", "dog"),
    ("Two.", "two.", "2"),
    ("dont", "dont", "don't"),
    ("10,000 people, 2.5 m", "10,000 people, 2.5 m", "10000 people 2.5 m"),
    ("the man's T-shirt!", "the man's t-shirt!", "man's t shirt"),
    ("10:30", "10:30", "10:30"),
    ("none", "none", "0"),
    ("U.S.", "u.s.", "us"),
  ],
)
def test_forms_of_an_answer(answer, plain, vqa):
  assert answers.plain(answer) == plain
  assert answers.vqa(answer) == vqa


def test_accuracy_counts_by_type():
  predictions = {"q1": "Dog ", "q2": "two cats", "q3": "red", "q4": "a man"}
  questions = {
    "q1": Question(("dog",), "what"),
    "q2": Question(("two",), "how many"),
    "q3": Question(("blue", "red"), "what"),
    "q4": Question(("man",), "who"),
  }
  scores = answers.score_answers(predictions, questions)
  assert scores.ids == ("q1", "q2", "q3", "q4")
  assert scores.correct.tolist() == [True, False, True, False]
  assert scores.accuracy == 0.5
  assert scores.by_type == {"what": (1.0, 2), "how many": (0.0, 1), "who": (0.0, 1)}
  assert scores.wups == {}
  assert answers.score_answers(predictions, questions, form="vqa").accuracy == 0.75


def test_choices_are_numbers():
  questions = {"q1": Question((0,), "causal"), "q2": Question((3,), "temporal")}
  scores = answers.score_answers({"q1": 0, "q2": 1}, questions)
  assert scores.by_type == {"causal": (1.0, 1), "temporal": (0.0, 1)}
  with pytest.raises(InputError, match=r"question 'q1' is answered with 'dog' where 0 is right"):
    answers.score_answers({"q1": "dog", "q2": 1}, questions)


@pytest.mark.parametrize(
  ("prediction", "answer", "at_0", "at_09"),
  [
    ("dog", "dog", 1.0, 1.0),
    ("dog", "cat", 0.75, 0.075),
    ("automobile", "car", 1.0, 1.0),
    ("Firedog", "car", 0.75, 0.075),
    # The best pair of senses: dog as a thing in a fireplace is a vehicle here.
    ("dog", "car", 0.75, 0.075),
    ("puppy", "dog", 8 / 9, 0.1 * 8 / 9),
    ("xyzzy", "xyzzy", 1.0, 1.0),
    ("xyzzy", "dog", 0.0, 0.0),
    ("ice cream", "entity", 2 / 3, 0.1 * 2 / 3),
    # Both items of the right answer must be met: min(1, 1 · 3/4).
    ("dog", "dog, cat", 0.75, 0.075),
    ("cat, dog", "dog, cat", 1.0, 1.0),
  ],
)
def test_wups_by_hand(database, prediction, answer, at_0, at_09):
  assert answers.wups(prediction, answer, 0.0, database) == pytest.approx(at_0)
  assert answers.wups(prediction, answer, 0.9, database) == pytest.approx(at_09)


def test_wups_of_words_takes_first_senses_and_passes_over_the_rest(tmp_path):
  folder = wordnet_files.write(tmp_path / "dict")
  for part in ("adj", "adv"):
    (folder / f"index.{part}").write_text("")
    (folder / f"data.{part}").write_text("")
  database = WordNet(folder)
  measure = answers.wups_of_words
  # dog is an animal first: 2 · 2 / (4 + 4) with car.
  assert measure("dog", "car", 0.0, database) == pytest.approx(0.5)
  assert measure("qqq dog", "zzz cat", 0.0, database) == pytest.approx(0.75)
  assert measure("dog", "zzz", 0.0, database) == 0.0
  assert measure("dog cat", "cat puppy", 0.9, database) == pytest.approx(0.1 * 8 / 9)
  assert measure("", "dog", 0.0, database) == 0.0


def test_wups_of_questions_is_the_mean_of_the_best(database):
  questions = {"q1": Question(("cat", "dog")), "q2": Question(("cat",))}
  scores = answers.score_answers({"q1": "dog", "q2": "dog"}, questions, wordnet=database)
  assert scores.wups == pytest.approx({0.0: (1 + 0.75) / 2, 0.9: (1 + 0.075) / 2})
  assert scores.by_type == {}
  with pytest.raises(InputError, match="question 'q' is a choice of number"):
    answers.score_answers({"q": 1}, {"q": Question((1,))}, wordnet=database)


@pytest.mark.parametrize(
  ("predictions", "questions", "message"),
  [
    ({}, {}, "there is no question"),
    ({}, {"q": Question(("a",))}, "question 'q' has no prediction"),
    ({"p": "a", "q": "a"}, {"q": Question(("a",))}, "prediction 'p' belongs to no question"),
  ],
)
def test_questions_must_be_the_same(predictions, questions, message):
  with pytest.raises(InputError, match=message):
    answers.score_answers(predictions, questions)
