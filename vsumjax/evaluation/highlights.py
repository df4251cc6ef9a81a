"""The best clips of a video, and how well scores find them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from vsumjax.evaluation.benchmark import uniform_segments
from vsumjax.evaluation.keyshots import SHARE, segment_means

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Variant:
  """How a repository cuts clips and chooses the positive ones.

  Attributes:
    rounding: of the number of positive clips.
    pad: fill the last clip up with zeros, before its mean is taken.
    latest: of clips that are equally good the latest are positive, not the earliest.
    clip: values in a clip.
  """

  rounding: Callable[[float], int]
  pad: bool
  latest: bool
  clip: int = 5


MRHISUM = Variant(math.floor, pad=False, latest=False)
TRIPLESUMM = Variant(math.ceil, pad=True, latest=True)


def best(score_N: Array, rounding: Callable[[float], int], share: float = SHARE) -> Array:
  """bool[N]: a share of the elements, those with the largest scores, the earliest of equals."""
  best_N = np.argsort(-np.asarray(score_N, np.float64), kind="stable")
  kept_N = np.zeros(len(best_N), bool)
  kept_N[best_N[: rounding(len(best_N) * share)]] = True
  return kept_N


def average_precision(score_P: Array, gtscore_P: Array, share: float, variant: Variant) -> float:
  """Area under precision and recall of clips whose reference is among the best.

  The sum over distinct scores of precision times the recall gained there, as scikit-learn's
  `average_precision_score`. 0 if no clip is positive, which a short video leads to.

  Args:
    score_P: real[P].
    gtscore_P: real[P].
    share: of the clips that are positive.
    variant: `MRHISUM` or `TRIPLESUMM`.
  """
  score_N, reference_N = _clips(score_P, variant), _clips(gtscore_P, variant)
  if variant.latest:
    score_N, reference_N = score_N[::-1], reference_N[::-1]
  positive_N = best(reference_N, variant.rounding, share)
  if not positive_N.any():
    return 0.0
  order_N = np.argsort(-score_N, kind="stable")
  is_last_N = np.append(np.diff(score_N[order_N]) != 0, True)  # of equal scores
  found_M = np.cumsum(positive_N[order_N])[is_last_N]
  precision_M = found_M / (np.flatnonzero(is_last_N) + 1)
  return float((np.diff(found_M, prepend=0) * precision_M).sum() / positive_N.sum())


def _clips(values_P: Array, variant: Variant) -> Array:
  """f64[N]: the mean of each clip."""
  if variant.pad:
    values_P = np.pad(values_P, (0, -len(values_P) % variant.clip))
  return segment_means(values_P, uniform_segments(len(values_P), variant.clip))
