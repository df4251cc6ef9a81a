"""Recall and ranks of retrieval, with ties broken by every order there is."""

import itertools

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsumjax.evaluation.language import retrieval
from vsumjax.types import InputError


def by_enumeration(similarity, relevant):
  """Recall and rank by query, as means over all orders that do not contradict the similarities."""
  recall, ranks = {depth: [] for depth in retrieval.DEPTHS}, []
  for values, answers in zip(similarity, relevant, strict=True):
    places = []
    for order in itertools.permutations(range(len(values))):
      ranked = [values[item] for item in order]
      if ranked == sorted(ranked, reverse=True):
        places.append(1 + next(n for n, item in enumerate(order) if answers[item]))
    ranks.append(np.mean(places))
    for depth, found in recall.items():
      found.append(np.mean([place <= depth for place in places]))
  return {depth: np.mean(found) for depth, found in recall.items()}, ranks


@st.composite
def questions(draw):
  shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6)))
  similarity = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-1.0, 0.0, 2.5])))
  relevant = draw(hnp.arrays(bool, shape))
  relevant[np.arange(shape[0]), draw(st.integers(0, shape[1] - 1))] = True
  return similarity, relevant


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(questions())
def test_measures_are_means_over_all_orders_of_ties(question):
  recall, ranks = by_enumeration(*question)
  found = retrieval.measure(*question)
  assert found.recall == pytest.approx(recall)
  assert found.median_rank == pytest.approx(np.median(ranks))
  assert found.mean_rank == pytest.approx(np.mean(ranks))


def test_a_case_computed_by_hand():
  similarity = np.array([[0.9, 0.1, 0.3], [0.5, 0.4, 0.2], [0.7, 0.6, 0.1]])
  both = retrieval.evaluate(similarity)
  # Ranks of the diagonal are 1, 2, 3 in rows and 1, 2, 3 in columns.
  for way in (both.text_to_video, both.video_to_text):
    assert way.recall == pytest.approx({1: 1 / 3, 5: 1.0, 10: 1.0})
    assert (way.median_rank, way.mean_rank) == (2.0, 2.0)
    assert (way.num_queries, way.num_items) == (3, 3)


def test_several_texts_of_a_video():
  # Texts 0 and 1 belong to video 0, text 2 to video 1.
  similarity = np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.95]])
  both = retrieval.evaluate(similarity, [0, 0, 1])
  assert both.text_to_video.recall[1] == pytest.approx(2 / 3)
  assert both.text_to_video.mean_rank == pytest.approx((1 + 2 + 1) / 3)
  # Of the texts of video 0 the first found is at place 1; the one of video 1 as well.
  assert both.video_to_text.recall[1] == 1.0
  assert both.video_to_text.mean_rank == 1.0
  assert (both.video_to_text.num_queries, both.video_to_text.num_items) == (2, 3)


def test_a_constant_matrix_gets_what_chance_gets():
  both = retrieval.evaluate(np.zeros((100, 100)))
  assert both.text_to_video.recall == pytest.approx({1: 0.01, 5: 0.05, 10: 0.1})
  assert both.text_to_video.median_rank == 1 + 99 / 2
  # Two texts a video: 1 - (98/100)(97/99) at the first place of 2 of 100.
  both = retrieval.evaluate(np.zeros((100, 50)), np.repeat(np.arange(50), 2))
  assert both.video_to_text.recall[1] == pytest.approx(0.02)
  assert both.video_to_text.recall[5] == pytest.approx(1 - 95 * 94 / (100 * 99))
  assert both.video_to_text.mean_rank == pytest.approx(1 + 98 / 3)


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_counts_as_the_numbers_it_holds(kind):
  values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32).astype(kind)
  assert retrieval.evaluate(values) == retrieval.evaluate(values.astype(np.float32))
  # 1.001 and 1.002 are one number in bfloat16, so the diagonal shares the first place.
  close = np.array([[1.001, 1.002], [1.002, 1.001]]).astype(ml_dtypes.bfloat16)
  assert retrieval.evaluate(close).text_to_video.recall[1] == 0.5


def test_whole_numbers_and_double_precision_keep_their_order():
  values = np.array([[1.0 + 1e-12, 1.0], [1.0, 1.0 + 1e-12]])
  assert retrieval.evaluate(values).text_to_video.recall[1] == 1.0
  assert retrieval.evaluate(np.eye(3, dtype=int)).text_to_video.mean_rank == 1.0


def test_what_cannot_be_ranked_is_refused():
  broken = np.eye(3)
  broken[1, 2] = np.nan
  for kind in (np.float64, ml_dtypes.bfloat16):
    with pytest.raises(InputError, match="row 1 of the similarities holds NaN"):
      retrieval.evaluate(broken.astype(kind))
  with pytest.raises(InputError, match="query 1 has no answer"):
    retrieval.measure(np.eye(2), np.array([[True, False], [False, False]]))
  with pytest.raises(InputError, match="video 2 has no text"):
    retrieval.evaluate(np.eye(3), [0, 1, 1])
  with pytest.raises(InputError, match="text 1 belongs to video 3, there are 3"):
    retrieval.evaluate(np.eye(3), [0, 3, 1])
  with pytest.raises(InputError, match="4 texts and 3 videos"):
    retrieval.evaluate(np.zeros((4, 3)))
  with pytest.raises(InputError, match="4 rows of similarities and the videos of 3 texts"):
    retrieval.evaluate(np.zeros((4, 3)), [0, 1, 2])
  with pytest.raises(InputError, match="give a matrix"):
    retrieval.evaluate(np.zeros(3))
  with pytest.raises(InputError, match="give real numbers"):
    retrieval.evaluate(np.array([["a"]]))
