import itertools
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vsumjax.summary import select
from vsumjax.types import InputError


def brute_force(values, costs, budget):
  """The best subset; of equal ones, that which leaves out the last item they differ in."""
  subsets = itertools.product([False, True], repeat=len(values))
  fitting = [s for s in subsets if np.dot(s, costs) <= budget]
  return max(fitting, key=lambda s: (np.dot(s, values), [not taken for taken in reversed(s)]))


@hypothesis.given(
  st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=9),
  st.integers(0, 40),
)
def test_knapsack_is_the_best_subset_and_breaks_ties_as_documented(items, budget):
  values, costs = np.array(items).T
  np.testing.assert_array_equal(
    select.knapsack(values, costs, budget), brute_force(values, costs, budget)
  )


@hypothesis.given(
  st.lists(st.floats(0.01, 5), min_size=1, max_size=9),
  st.integers(1, 1000),
  st.integers(1, 9),
  st.integers(0, 5000),
)
def test_knapsack_of_real_values_with_a_ragged_last_item(values, cost, last_cost, budget):
  costs = np.full(len(values), cost)
  costs[-1] = last_cost
  selected = select.knapsack(values, costs, budget)
  assert np.dot(selected, costs) <= budget
  expected = np.dot(brute_force(values, costs, budget), values)
  assert np.dot(selected, values) == pytest.approx(expected)


def test_items_of_no_worth_are_not_taken():
  np.testing.assert_array_equal(
    select.knapsack([-1.0, 0.0, 2.0], [1, 1, 1], 3), [False, False, True]
  )


def test_three_hours_in_two_second_segments_with_a_ragged_end():
  starts = 2.0 * np.arange(5400)
  spans = np.stack([starts, starts + 2.0], axis=1)
  spans[-1, 1] = 10_801.367
  scores = np.random.default_rng(0).random(5400).astype(np.float32)
  begin = time.process_time()
  selected = select.select_summary(scores, spans, 0.15)
  assert time.process_time() - begin < 1.0
  assert selected.sum() == 810
  assert scores[selected].min() >= np.sort(scores)[-811]


def contiguous(*durations):
  ends = np.cumsum(durations)
  return np.stack([ends - durations, ends], axis=1)


def test_summary_fills_the_share():
  spans = contiguous(*[2.0] * 20)
  scores = np.linspace(1, 5, 20)
  np.testing.assert_array_equal(
    np.flatnonzero(select.select_summary(scores, spans, 0.15)), [17, 18, 19]
  )
  assert select.select_summary(scores, spans, 1.0).all()


def test_many_short_segments_beat_one_long():
  spans = contiguous(4.0, 2.0, 2.0, 12.0)
  np.testing.assert_array_equal(
    select.select_summary([4.0, 3.0, 2.0, 5.0], spans, 0.2), [False, True, True, False]
  )


@pytest.mark.parametrize("scores", [[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
def test_summary_has_at_least_the_best_segment(scores):
  selected = select.select_summary(scores, contiguous(2.0, 2.0, 2.0), 0.15)
  np.testing.assert_array_equal(np.flatnonzero(selected), [np.argmax(scores)])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_share_out_of_range(share):
  with pytest.raises(InputError, match="share of the video"):
    select.select_summary([1.0], contiguous(2.0), share)


def test_bad_segments_are_named():
  with pytest.raises(InputError, match="no segment"):
    select.select_summary([], np.zeros((0, 2)), 0.5)
  for bad in (np.nan, np.inf, -0.1):
    with pytest.raises(InputError, match="segment 1 has score"):
      select.select_summary([1.0, bad], contiguous(2.0, 2.0), 0.5)
  with pytest.raises(InputError, match=r"segment 1 runs from 2\.0 s to 1\.0 s"):
    select.select_summary([1.0, 1.0], [[0.0, 2.0], [2.0, 1.0]], 0.5)


@pytest.mark.parametrize("share", [1e-6, 0.15, 1, 1.0])
def test_shares_of_a_video(share):
  select.check_share(share)


@pytest.mark.parametrize("share", [0, -0.1, 1.001, 2, float("nan"), float("inf")])
def test_shares_that_are_none(share):
  with pytest.raises(InputError, match=f"at most 1, not {share}"):
    select.check_share(share)
