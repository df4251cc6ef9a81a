"""The alignment METEOR scores, against every alignment there is."""

import hypothesis
from hypothesis import strategies as st

from vsumjax.evaluation.language.alignment import Match, align


def exact(first, second):
  return [Match(0, i, 1, j, 1) for j, b in enumerate(second) for i, a in enumerate(first) if a == b]


def chunks(alignment):
  steps = [(m.first - m.second, m.second) for m in alignment]
  return sum(
    n == 0 or (shift, place) != (steps[n - 1][0], steps[n - 1][1] + 1)
    for n, (shift, place) in enumerate(steps)
  )


def every_alignment(matches):
  if not matches:
    yield []
    return
  head, rest = matches[0], matches[1:]
  yield from every_alignment(rest)
  compatible = [m for m in rest if m.first != head.first and m.second != head.second]
  for tail in every_alignment(compatible):
    yield [head, *tail]


WORDS = st.lists(st.sampled_from("abc"), max_size=5)


@hypothesis.settings(deadline=None)
@hypothesis.given(WORDS, WORDS)
def test_most_words_in_fewest_chunks(first, second):
  matches = exact(first, second)
  found = align(matches, len(second))
  assert set(found) <= set(matches)
  assert [m.second for m in found] == sorted({m.second for m in found})
  assert len({m.first for m in found}) == len(found)
  best = min((-len(other), chunks(other)) for other in every_alignment(matches))
  assert (-len(found), chunks(found)) == best


def test_of_equal_matches_the_first_tried_even_if_it_is_far():
  # As in the published program, where the second is charged with the distance of the first.
  (match,) = align(exact("abcda", "xxxxa"), 5)
  assert match.first == 0


def test_a_phrase_beats_its_first_word():
  phrase, word = Match(3, 0, 2, 0, 2), Match(0, 0, 1, 0, 1)
  # Two words on each side count one each, cut off from half; an exact word counts one on each.
  assert align([word, phrase, Match(0, 1, 1, 1, 1)], 2) == (word, Match(0, 1, 1, 1, 1))
  assert align([phrase, Match(1, 0, 1, 0, 1)], 2) == (phrase,)


def test_disputed_stems_stay_unmatched():
  # They count nothing on their own, and a chunk less is better.
  assert align([Match(1, 0, 1, 0, 1), Match(2, 0, 1, 0, 1)], 1) == ()
  assert align([Match(1, 0, 1, 0, 1)], 1) == (Match(1, 0, 1, 0, 1),)
