"""Agreement of scores and of summaries with annotators, many rankings against many at once.

Every function takes one row, `[N]`, or several, `[R, N]`, on either side and compares each row of
the first with each row of the second: the result has shape `first.shape[:-1] + second.shape[:-1]`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from vsumjax.types import InputError

Array = np.ndarray

_FEW_LEVELS = 32
_LARGEST_TABLE = 1 << 17  # cells, from where on sorting is faster and smaller


def kendall_tau(score: Array, user: Array) -> Array:
  """Kendall's tau-b, which counts ties (Kendall 1945), as `scipy.stats.kendalltau` defines it.

  A row that is constant (or has a single element) ranks nothing: its tau is 0, not NaN.

  Args:
    score: real[N] or real[R, N].
    user: real[N] or real[A, N].

  Returns:
    f64[], f64[R], f64[A] or f64[R, A] in -1..1.

  Raises:
    InputError: a value is NaN or infinite.
  """
  score_RN, user_AN = _rows(score), _rows(user)
  level_AN, num_levels = _dense_ranks(user_AN)
  tau_RA = np.zeros((len(score_RN), len(user_AN)))
  untied_A = _num_untied(level_AN, num_levels)
  for r, row_N in enumerate(score_RN):
    (rank_N,), num_ranks = _dense_ranks(row_N[None])
    if num_ranks * num_levels > _LARGEST_TABLE:
      tau_RA[r] = np.nan_to_num([stats.kendalltau(rank_N, level_N)[0] for level_N in level_AN])
      continue
    concordance_A = _concordance(rank_N, num_ranks, level_AN, num_levels)
    untied = _num_untied(rank_N[None], num_ranks)[0]
    tau_RA[r] = _ratio(concordance_A, np.sqrt(untied * untied_A))
  return tau_RA.reshape(np.shape(score)[:-1] + np.shape(user)[:-1])


def spearman_rho(score: Array, user: Array) -> Array:
  """Spearman's rho: the correlation of average ranks, as `scipy.stats.spearmanr` defines it.

  Shapes, errors and constant rows (0) as in `kendall_tau`.
  """
  rank_RN, rank_AN = _centred_ranks(_rows(score)), _centred_ranks(_rows(user))
  norm_RA = np.outer(np.linalg.norm(rank_RN, axis=1), np.linalg.norm(rank_AN, axis=1))
  rho_RA = np.clip(_ratio(rank_RN @ rank_AN.T, norm_RA), -1.0, 1.0)
  return rho_RA.reshape(np.shape(score)[:-1] + np.shape(user)[:-1])


def f1(selected: Array, reference: Array, duration_s: Array) -> Array:
  """Harmonic mean of precision and recall of the selected time.

  Args:
    selected: bool[N] or bool[R, N], the segments in a summary.
    reference: bool[N] or bool[A, N], the segments in an annotator's summary.
    duration_s: real[N], seconds each segment lasts.

  Returns:
    f64 of the shape the module's docstring gives, in 0..1; 0 where both summaries are empty.

  Raises:
    InputError: a duration is NaN or infinite.
  """
  seconds_N = _rows(duration_s)[0]
  selected_RN = np.atleast_2d(np.asarray(selected, bool)) * seconds_N
  reference_AN = np.atleast_2d(np.asarray(reference, bool))
  overlap_RA = selected_RN @ reference_AN.T
  total_RA = np.add.outer(selected_RN.sum(axis=1), reference_AN @ seconds_N)
  return _ratio(2.0 * overlap_RA, total_RA).reshape(
    np.shape(selected)[:-1] + np.shape(reference)[:-1]
  )


def _rows(values: Array) -> Array:
  values_RN = np.atleast_2d(np.asarray(values, np.float64))
  if not np.isfinite(values_RN).all():
    raise InputError("cannot rank or weigh segments: a value is NaN or infinite")
  return values_RN


def _dense_ranks(values_RN: Array) -> tuple[Array, int]:
  """i64[R, N] in which equal values of a row have equal ranks from 0 on, and one more than all."""
  # One sort for all rows: distinct values keep their order whichever row they are of.
  values, inverse = np.unique(values_RN, return_inverse=True)
  rank_RN = inverse.reshape(values_RN.shape)
  if len(values_RN) == 1 or len(values) <= _FEW_LEVELS:
    return rank_RN, len(values)
  ranks = [np.unique(row_N, return_inverse=True)[1] for row_N in rank_RN]
  return np.stack(ranks), 1 + max(int(rank_N.max()) for rank_N in ranks)


def _num_untied(rank_RN: Array, num_ranks: int) -> Array:
  """f64[R]: pairs of elements that differ."""
  num_rows, length = rank_RN.shape
  cell_RN = rank_RN + num_ranks * np.arange(num_rows)[:, None]
  count_RK = np.bincount(cell_RN.ravel(), minlength=num_rows * num_ranks).reshape(num_rows, -1)
  return (length**2 - (count_RK.astype(np.float64) ** 2).sum(axis=1)) / 2


def _concordance(rank_N: Array, num_ranks: int, level_AN: Array, num_levels: int) -> Array:
  """f64[A]: pairs that both sides order alike, less those that they order the other way round.

  From the table of how often each rank (row) meets each level (column): a pair agrees if one of the
  two is above and to the left of the other.
  """
  num_annotators = len(level_AN)
  cell_AN = rank_N + num_ranks * np.arange(num_annotators)[:, None]
  shape = (num_annotators, num_ranks, num_levels)
  count = np.bincount((cell_AN * num_levels + level_AN).ravel(), minlength=math.prod(shape))
  count = count.reshape(shape)
  above = np.cumsum(count, axis=1) - count
  above_left = np.cumsum(above, axis=2) - above
  above_right = above.sum(axis=2, keepdims=True) - above_left - above
  return (count * (above_left - above_right)).sum(axis=(1, 2)).astype(np.float64)


def _centred_ranks(values_RN: Array) -> Array:
  """f64[R, N]: average ranks of each row, less their mean."""
  rank_RN = np.empty(values_RN.shape)
  for row_N, rank_N in zip(values_RN, rank_RN, strict=True):
    _, inverse_N, count_K = np.unique(row_N, return_inverse=True, return_counts=True)
    rank_N[:] = (np.cumsum(count_K) - (count_K - 1) / 2)[inverse_N]
  return rank_RN - (values_RN.shape[1] + 1) / 2


def _ratio(part: Array, whole: Array) -> Array:
  return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
