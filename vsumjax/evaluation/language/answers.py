"""Answers to questions about videos: exact match, multiple choice and WUPS."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vsumjax.evaluation.language.wordnet import ALL_PARTS, NOUN, WordNet
from vsumjax.types import InputError

Answer = str | int
THRESHOLDS = (0.0, 0.9)
_DISCOUNT = 0.1  # of a similarity below the threshold
_NUMBERS = {
  word: str(value)
  for value, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
  )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})
# Words that have a meaning without their apostrophe are left alone.
_APOSTROPHES = (
  "ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he'd he's i'm isn't "
  "it'd let's mightn't mustn't shan't she's shouldn't that's there's they'd they'll they're "
  "they've wasn't we've weren't what's where's who's wouldn't you'd you'll you're you've"
)
_CONTRACTIONS = {word.replace("'", ""): word for word in _APOSTROPHES.split()}


def plain(answer: str) -> str:
  """Lower case, single spaces, none around: the form in which answers of MSRVTT-QA are compared."""
  return " ".join(answer.lower().split())


def vqa(answer: str) -> str:
  """The form in which the VQA challenge compares answers (visualqa.org/evaluation.html).

  Beyond `plain`: periods go unless in numbers, other punctuation becomes a space (apostrophe and
  colon stay, a comma in a number goes), articles go, numbers up to ten become digits, contractions
  get their apostrophe back.
  """
  text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", plain(answer))
  text = re.sub(r"(?<=\d),(?=\d)", "", text)
  text = re.sub(r"[^\w\s'.:]", " ", text)
  words = [_NUMBERS.get(word, word) for word in text.split() if word not in _ARTICLES]
  return " ".join(_CONTRACTIONS.get(word, word) for word in words)


FORMS: Mapping[str, Callable[[str], str]] = {"plain": plain, "vqa": vqa}


@dataclasses.dataclass(frozen=True)
class Question:
  """What counts as an answer, any of `answers`: texts, or the numbers of choices; and its type."""

  answers: tuple[Answer, ...]
  type: str = ""


@dataclasses.dataclass(frozen=True)
class AnswerScores:
  """Figures of a set of answers.

  ids:      the questions, sorted.
  correct:  bool[N], in the order of `ids`.
  accuracy: share that is correct, 0..1.
  by_type:  accuracy and number of the questions of each type, if they have types.
  wups:     mean WUPS in 0..1 by threshold, if a WordNet was given.
  """

  ids: tuple[str, ...]
  correct: np.ndarray
  accuracy: float
  by_type: Mapping[str, tuple[float, int]]
  wups: Mapping[float, float]


def score_answers(
  predictions: Mapping[str, Answer],
  questions: Mapping[str, Question],
  *,
  form: str = "plain",
  wordnet: WordNet | None = None,
  wups_form: str = "items",
) -> AnswerScores:
  """Accuracy of one answer a question, and WUPS if a WordNet is given.

  A number, the index of a choice, is right only where the question asks for that number.

  Args:
    form: of `FORMS`, in which texts are compared.
    wups_form: of `WUPS`: "items" as defined, or "words" as for NExT-QA's open answers.

  Raises:
    InputError: there is no question, the questions of the two differ, or text meets number.
  """
  ids = _check_ids(predictions, questions)
  spelled = FORMS[form]
  correct = np.array(
    [_is_right(name, predictions[name], questions[name], spelled) for name in ids], bool
  )
  return AnswerScores(
    ids,
    correct,
    float(correct.mean()),
    _by_type([questions[name].type for name in ids], correct),
    {} if wordnet is None else _wups_of_all(ids, predictions, questions, wordnet, WUPS[wups_form]),
  )


def _check_ids(
  predictions: Mapping[str, Answer], questions: Mapping[str, Question]
) -> tuple[str, ...]:
  if not questions:
    raise InputError("there is no question")
  for name in questions:
    if name not in predictions:
      raise InputError(f"question {name!r} has no prediction; answer every question")
  for name in predictions:
    if name not in questions:
      raise InputError(f"prediction {name!r} belongs to no question; take it out")
  return tuple(sorted(questions))


def _is_right(
  name: str, prediction: Answer, question: Question, spelled: Callable[[str], str]
) -> bool:
  kinds = {isinstance(answer, str) for answer in question.answers}
  if kinds != {isinstance(prediction, str)}:
    raise InputError(
      f"question {name!r} is answered with {prediction!r} where {question.answers[0]!r} is right; "
      "give both as texts, or both as numbers of choices"
    )
  if not isinstance(prediction, str):
    return prediction in question.answers
  return spelled(prediction) in {spelled(str(answer)) for answer in question.answers}


def _by_type(types: Sequence[str], correct: np.ndarray) -> dict[str, tuple[float, int]]:
  groups = {kind: correct[[kind == other for other in types]] for kind in sorted(set(types))}
  return {kind: (float(part.mean()), len(part)) for kind, part in groups.items() if kind}


def _wups_of_all(
  ids: Sequence[str],
  predictions: Mapping[str, Answer],
  questions: Mapping[str, Question],
  wordnet: WordNet,
  measure: Callable[[str, str, float, WordNet], float],
) -> dict[float, float]:
  for name in ids:
    if not isinstance(predictions[name], str):
      raise InputError(f"question {name!r} is a choice of number; WUPS compares words")
  return {
    threshold: float(
      np.mean(
        [
          max(
            measure(str(predictions[name]), str(answer), threshold, wordnet)
            for answer in questions[name].answers
          )
          for name in ids
        ]
      )
    )
    for threshold in THRESHOLDS
  }


def wups(prediction: str, answer: str, threshold: float, wordnet: WordNet) -> float:
  """WUPS of one answer (Malinowski & Fritz 2014, equation 7), in 0..1.

  Answers are lists with commas between the items; several words of an item are one entry of
  WordNet, as "ice cream". Every item must be met on both sides. The similarity of two items is the
  highest among their senses as nouns; below `threshold` it counts a tenth; an item that is no noun
  of WordNet is similar to itself only.
  """
  ours, theirs = ([plain(item) for item in text.split(",")] for text in (prediction, answer))

  def similarity(first: str, second: str) -> float:
    value = _similarity_of_nouns(first, second, wordnet)
    return value if value >= threshold else _DISCOUNT * value

  return min(
    math.prod(max(similarity(one, other) for other in theirs) for one in ours),
    math.prod(max(similarity(one, other) for one in ours) for other in theirs),
  )


def _similarity_of_nouns(first: str, second: str, wordnet: WordNet) -> float:
  if first == second:
    return 1.0
  ours, theirs = (wordnet.senses(item.replace(" ", "_"), NOUN) for item in (first, second))
  return max((wordnet.similarity(one, other) for one in ours for other in theirs), default=0.0)


def wups_of_words(prediction: str, answer: str, threshold: float, wordnet: WordNet) -> float:
  """WUPS as NExT-QA's open answers are scored: word by word, first sense of any part of speech.

  Words without any likeness on the other side are passed over; without one at all it is 0. The
  benchmark takes stop words out and inflections off first, which is left to the caller.
  """
  ours, theirs = plain(prediction).split(), plain(answer).split()

  def similarity(first: str, second: str) -> float:
    if first == second:
      return 1.0
    ways = [wordnet.senses(word, ALL_PARTS) for word in (first, second)]
    value = wordnet.similarity(ways[0][0], ways[1][0]) if all(ways) else 0.0
    return value if value >= threshold else _DISCOUNT * value

  def covered(words: Sequence[str], others: Sequence[str]) -> float:
    best = [max((similarity(word, other) for other in others), default=0.0) for word in words]
    found = [value for value in best if value > 0]
    return math.prod(found) if found else 0.0

  return min(covered(ours, theirs), covered(theirs, ours))


WUPS: Mapping[str, Callable[[str, str, float, WordNet], float]] = {
  "items": wups,
  "words": wups_of_words,
}
