import warnings

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from vsumjax.evaluation import metrics
from vsumjax.types import InputError

# Few distinct values, so that ties are common.
ROW_PAIRS = st.integers(2, 25).flatmap(
  lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=st.integers(-3, 3))] * 2)
)


def is_constant(row):
  return len(set(row)) == 1


@hypothesis.given(ROW_PAIRS)
def test_correlations_are_those_of_scipy(rows):
  score, user = rows
  if is_constant(score) or is_constant(user):
    assert metrics.kendall_tau(score, user) == 0.0
    assert metrics.spearman_rho(score, user) == 0.0
  else:
    assert metrics.kendall_tau(score, user) == pytest.approx(stats.kendalltau(score, user)[0])
    assert metrics.spearman_rho(score, user) == pytest.approx(stats.spearmanr(score, user)[0])


def test_constant_rows_and_single_elements_are_zero_without_a_warning():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for measure in (metrics.kendall_tau, metrics.spearman_rho):
      assert measure([2, 2, 2], [1, 2, 3]) == 0.0
      assert measure([1], [3]) == 0.0


def test_every_row_meets_every_row():
  generator = np.random.default_rng(0)
  score_RN, user_AN = generator.integers(0, 5, (3, 12)), generator.integers(0, 5, (4, 12))
  for measure in (metrics.kendall_tau, metrics.spearman_rho):
    table_RA = measure(score_RN, user_AN)
    assert table_RA.shape == (3, 4)
    assert measure(score_RN[0], user_AN).shape == (4,)
    assert measure(score_RN, user_AN[0]).shape == (3,)
    assert measure(score_RN[2], user_AN[1]) == table_RA[2, 1]
    assert len(np.unique(table_RA)) > 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_rank_nothing_are_refused(bad):
  for measure in (metrics.kendall_tau, metrics.spearman_rho):
    with pytest.raises(InputError, match="NaN or infinite"):
      measure([1.0, bad], [1.0, 2.0])
    with pytest.raises(InputError, match="NaN or infinite"):
      measure([1.0, 2.0], [1.0, bad])
  with pytest.raises(InputError, match="NaN or infinite"):
    metrics.f1([True], [True], [bad])


def test_f1_weighs_time():
  selected, reference = [True, True, False, False], [False, True, True, False]
  # Overlap 3 s, precision 3/4, recall 3/8.
  expected = 2 * (3 / 4) * (3 / 8) / (3 / 4 + 3 / 8)
  assert metrics.f1(selected, reference, [1, 3, 5, 7]) == pytest.approx(expected)
  assert metrics.f1(selected, selected, [1, 3, 5, 7]) == 1.0


def test_f1_of_empty_summaries_is_zero():
  assert metrics.f1([False, False], [False, False], [1, 1]) == 0.0
  assert metrics.f1([False, False], [True, False], [1, 1]) == 0.0


def test_f1_table():
  table = metrics.f1(np.eye(3, dtype=bool), np.ones((2, 3), bool), np.ones(3))
  np.testing.assert_allclose(table, np.full((3, 2), 0.5))
