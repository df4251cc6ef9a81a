"""Agreement of scores and of summaries with annotators, many rankings against many at once.

Every function takes one row, `[N]`, or several, `[R, N]`, on either side and compares each row of
the first with each row of the second: the result has shape `first.shape[:-1] + second.shape[:-1]`.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from vsumjax.types import InputError

Array = np.ndarray


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
  concordance_RA = np.zeros((len(score_RN), len(user_AN)))
  pairs_R, pairs_A = np.zeros(len(score_RN)), np.zeros(len(user_AN))
  # One element against all later ones at a time keeps memory linear in N.
  for n in range(score_RN.shape[1] - 1):
    order_RN = np.sign(score_RN[:, n + 1 :] - score_RN[:, n : n + 1])
    order_AN = np.sign(user_AN[:, n + 1 :] - user_AN[:, n : n + 1])
    concordance_RA += order_RN @ order_AN.T
    pairs_R += np.count_nonzero(order_RN, axis=1)
    pairs_A += np.count_nonzero(order_AN, axis=1)
  tau_RA = _ratio(concordance_RA, np.sqrt(np.outer(pairs_R, pairs_A)))
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


def _centred_ranks(values_RN: Array) -> Array:
  rank_RN = stats.rankdata(values_RN, axis=1)
  return rank_RN - (values_RN.shape[1] + 1) / 2


def _ratio(part: Array, whole: Array) -> Array:
  return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
