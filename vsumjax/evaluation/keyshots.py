"""From scores of frames to a summary of whole segments, as published evaluations make it.

The score of a segment is the mean of its frames'; the segments with the largest sum of scores that
last no longer than 15 % of the video are kept (0/1 knapsack). Shared by VASNet, DSNet, PGL-SUM,
CA-SUM, CSTA and others, which differ in what "15 % of the video" is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.ops.knapsack import knapsack
from vsumjax.types import InputError

Array = np.ndarray
Budget = Callable[[AnnotatedVideo], int]  # frames that a summary may have

SHARE = 0.15
_DIGITS = 12
_RECENT = 256  # videos of which results are kept for other protocols


def budget_of_segments(video: AnnotatedVideo) -> int:
  """15 % of the frames up to the end of the last segment, rounded down (PGL-SUM, CA-SUM, CSTA)."""
  return int((int(video.segments_K2[-1, 1]) + 1) * SHARE)


def budget_of_frames(video: AnnotatedVideo) -> int:
  """15 % of all frames, rounded down (vsumm-reinforce, DSNet, Mr.HiSum, SummDiff)."""
  return int(video.num_frames * SHARE)


def make_summary(video: AnnotatedVideo, score_F: Array, budget: int) -> Array:
  """The summary that scores of the frames lead to.

  Of equally good sets of segments the one with the earlier segments is taken, as by `knapsack`.
  Segments whose mean is 0 or less are never taken; if no segment fits the budget, nothing is.

  Args:
    video: with segments.
    score_F: real[F].
    budget: frames it may have.

  Returns:
    bool[F].

  Raises:
    InputError: a score is not finite.
  """
  if not np.isfinite(score_F).all():
    raise InputError(f"{video.id}: a score is NaN or infinite")
  segments_K2 = video.segments_K2
  mean_K = segment_means(score_F, segments_K2, overlap=int(video.ends_overlap))
  length_K = segments_K2[:, 1] - segments_K2[:, 0] + 1
  kept_K = knapsack(mean_K, length_K, budget)
  summary_F = np.zeros(video.num_frames, bool)
  for first, last in segments_K2[kept_K]:
    summary_F[first : last + 1] = True
  return summary_F


def segment_means(score_F: Array, segments_K2: Array, overlap: int = 0) -> Array:
  """f64[K], means over the frames first .. last + `overlap` of each segment.

  Rounded to 12 digits: what is equal but for the order of additions is a tie.
  """
  score_F = np.asarray(score_F, np.float64)
  first_K = segments_K2[:, 0]
  length_K = np.minimum(segments_K2[:, 1] + 1 + overlap, len(score_F)) - first_K
  start_K = np.cumsum(length_K) - length_K  # of each segment where all stand one behind the other
  frame_S = np.arange(length_K.sum()) + np.repeat(first_K - start_K, length_K)
  mean_K = np.add.reduceat(score_F[frame_S], start_K) / length_K
  largest = np.abs(mean_K).max()
  return np.round(mean_K, _DIGITS - math.ceil(math.log10(largest))) if largest > 0 else mean_K


@functools.lru_cache(maxsize=_RECENT)
def evenly_spaced(video: AnnotatedVideo) -> Array:
  """bool[F]: segments spread evenly over the video, as many as fit both budgets.

  For n = 1, 2, ... the segments under the middles of n equal parts of the video are a candidate;
  the largest n whose segments fit is taken.
  """
  first_K, stop_K = video.segments_K2[:, 0], video.segments_K2[:, 1] + 1
  length_K = stop_K - first_K
  allowed = min(budget_of_segments(video), budget_of_frames(video))
  most = np.count_nonzero(np.cumsum(np.sort(length_K)) <= allowed)
  chosen = np.zeros(0, np.int64)
  for num in range(most, 0, -1):
    middle_n = (np.arange(num) + 0.5) * stop_K[-1] / num
    candidate = np.unique(np.searchsorted(stop_K, middle_n, side="right"))
    if length_K[candidate].sum() <= allowed:
      chosen = candidate
      break
  summary_F = np.zeros(video.num_frames, bool)
  for first, stop in zip(first_K[chosen], stop_K[chosen], strict=True):
    summary_F[first:stop] = True
  return summary_F
