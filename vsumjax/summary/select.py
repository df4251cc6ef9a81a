"""Which segments make the summary: an exact 0/1 knapsack on the score under a length budget."""

from __future__ import annotations

import numpy as np

from vsumjax.ops.knapsack import knapsack
from vsumjax.types import InputError

Array = np.ndarray


def check_share(share: float) -> None:
  """Raises InputError if a share of a video is outside (0, 1]."""
  if not 0 < share <= 1:
    raise InputError(f"share of the video to keep must be above 0 and at most 1, not {share}")


def select_summary(score_N: Array, span_s_N2: Array, share: float) -> Array:
  """The segments with the largest sum of scores that last no longer than a share of all of them.

  Durations are counted in whole milliseconds. If the budget is shorter than every segment (or no
  segment is worth anything), the summary is the one best segment, the earliest among equals.

  Args:
    score_N: real[N], >= 0, importance of each segment.
    span_s_N2: real[N, 2], start and end of each segment in seconds.
    share: of the total duration, in (0, 1].

  Returns:
    bool[N], at least one True.

  Raises:
    InputError: the share is outside (0, 1], there is no segment, a span does not run forward, or a
      score is not a finite number >= 0.
  """
  check_share(share)
  score_N, span_s_N2 = np.asarray(score_N, np.float64), np.asarray(span_s_N2, np.float64)
  _check_segments(score_N, span_s_N2)
  costs_ms_N = np.rint(1000 * (span_s_N2[:, 1] - span_s_N2[:, 0])).astype(np.int64)
  # The small addend keeps 0.15 * 20 s from becoming 2,999 ms.
  selected_N = knapsack(score_N, costs_ms_N, int(share * int(costs_ms_N.sum()) + 1e-6))
  if not selected_N.any():
    selected_N[np.argmax(score_N)] = True
  return selected_N


def _check_segments(score_N: Array, span_s_N2: Array) -> None:
  if len(score_N) == 0:
    raise InputError("there is no segment to select a summary from")
  for n in np.flatnonzero(~(np.isfinite(score_N) & (score_N >= 0)))[:1]:
    raise InputError(f"segment {n} has score {score_N[n]}: scores must be finite and at least 0")
  for n in np.flatnonzero(~(span_s_N2[:, 1] > span_s_N2[:, 0]))[:1]:
    start_s, end_s = span_s_N2[n]
    raise InputError(f"segment {n} runs from {start_s} s to {end_s} s: it must end after it starts")
