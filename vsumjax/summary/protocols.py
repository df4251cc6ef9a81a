"""How predicted scores are measured against annotators, and the rows that make a number readable.

A measure without a baseline and a ceiling says little (Otani et al., CVPR 2019): predicting "the
middle of the video" reaches a tau of 0.10 on TVSum, and nothing can follow annotators who disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vsumjax.summary import metrics
from vsumjax.types import InputError, SegmentScores

Array = np.ndarray
Labels = Mapping[str, tuple[float, Array]]  # by video id: seconds a level covers, levels [A, N]

RANDOM = "random"
CENTRE = "centre prior"
HUMAN = "one human"
CEILING = "annotators' ceiling"


@dataclasses.dataclass(frozen=True)
class Protocol:
  """A convention for measuring scores; its name stands beside every number measured under it."""

  name: str
  description: str
  share: float  # of a video's units that make its summary


UNIFORM_SEGMENTS = Protocol(
  name="uniform segments",
  description=(
    "Scores are brought to the annotators' time units. Kendall's tau-b and Spearman's rho against"
    " each annotator; F1 of the 15 % knapsack summary against each annotator's own 15 % knapsack"
    " summary. Mean over annotators, then over videos."
  ),
  share=0.15,
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table of results: means over the videos."""

  name: str
  tau: float
  rho: float
  f1: float
  # What chance alone adds to tau: standard deviation over draws; 0 where nothing is drawn.
  tau_std: float = 0.0


def evaluate_scores(
  predictions: Mapping[str, SegmentScores],
  labels: Labels,
  name: str,
  protocol: Protocol = UNIFORM_SEGMENTS,
) -> Row:
  """Measures one predictor on labelled videos.

  Args:
    predictions: by video id; their segments may differ from the labels' units and are resampled.
    labels: by video id, `(unit_s, levels_AN)`; the same videos.
    name: of the row.
    protocol: the convention to measure under.

  Raises:
    InputError: the videos differ, a score is not finite, or the segments end before the labels do.
  """
  for missing in sorted(labels.keys() ^ predictions.keys())[:1]:
    lacks = "predicted scores" if missing in labels else "labels"
    raise InputError(f"video {missing} has no {lacks}")
  _check_labels(labels)
  values = []
  for video_id, (unit_s, levels_AN) in labels.items():
    score_N = _resample(video_id, predictions[video_id], unit_s, levels_AN.shape[1])
    values.append(_measure(score_N[None], levels_AN, protocol).mean(axis=(1, 2)))
  return Row(name, *_floats(np.mean(values, axis=0)))


def context_rows(
  labels: Labels, protocol: Protocol = UNIFORM_SEGMENTS, *, num_draws: int = 100, seed: int = 0
) -> tuple[Row, ...]:
  """The rows that belong beside every result, in this order.

  - `RANDOM`: uniform random scores, mean over the draws, with the deviation of tau between them.
  - `CENTRE`: the nearer to the middle of the video, the more important.
  - `HUMAN`: each annotator as a predictor of each of the others.
  - `CEILING`: the mean of the other annotators as a predictor of the one held out.

  The last two need two annotators; they are left out if a video has only one.
  """
  _check_labels(labels)
  generator = np.random.default_rng(seed)
  draws, centre, humans = [], [], []
  for _, levels_AN in labels.values():
    num_annotators, num_units = levels_AN.shape
    random_RN = generator.random((num_draws, num_units))
    draws.append(_measure(random_RN, levels_AN, protocol).mean(axis=2))
    centre.append(_measure(_centre_prior(num_units), levels_AN, protocol).mean(axis=(1, 2)))
    if num_annotators > 1:
      humans.append(_human_measures(levels_AN, protocol))

  draws_3R = np.mean(draws, axis=0)
  rows = [
    Row(RANDOM, *_floats(draws_3R.mean(axis=1)), tau_std=float(draws_3R[0].std())),
    Row(CENTRE, *_floats(np.mean(centre, axis=0))),
  ]
  if len(humans) == len(labels):
    one_3, ceiling_3 = np.mean(humans, axis=0)
    rows += [Row(HUMAN, *_floats(one_3)), Row(CEILING, *_floats(ceiling_3))]
  return tuple(rows)


def share_of_ceiling(row: Row, context: Sequence[Row]) -> float:
  """Tau as a share of the annotators' ceiling; NaN if there is no ceiling above 0."""
  ceiling = next((other.tau for other in context if other.name == CEILING), 0.0)
  return row.tau / ceiling if ceiling > 0 else math.nan


def _measure(score_RN: Array, levels_AN: Array, protocol: Protocol) -> Array:
  """f64[3, R, A]: tau, rho and F1 of each row of scores against each annotator."""
  return np.stack(
    [
      metrics.kendall_tau(score_RN, levels_AN),
      metrics.spearman_rho(score_RN, levels_AN),
      metrics.f1(
        _summaries(score_RN, protocol.share),
        _summaries(levels_AN, protocol.share),
        np.ones(score_RN.shape[1]),
      ),
    ]
  )


def _human_measures(levels_AN: Array, protocol: Protocol) -> tuple[Array, Array]:
  """f64[3] of one human against the others, f64[3] of the mean of the others against the one."""
  num_annotators = len(levels_AN)
  pairs_3AA = _measure(levels_AN, levels_AN, protocol)
  others_AN = levels_AN.sum(axis=0, dtype=np.int64) - levels_AN  # sums rank as means do
  held_out_3AA = _measure(others_AN, levels_AN, protocol)
  is_other_AA = ~np.eye(num_annotators, dtype=bool)
  return pairs_3AA[:, is_other_AA].mean(axis=1), held_out_3AA[:, ~is_other_AA].mean(axis=1)


def _centre_prior(num_units: int) -> Array:
  middle_N = np.arange(num_units) + 0.5
  return -np.abs(middle_N - num_units / 2)[None]


def _summaries(score_RN: Array, share: float) -> Array:
  """bool[R, N]: the best units of each row under the budget, at least one, early ones of equals.

  Units last the same, so the knapsack is the best k of them: `select.select_summary` says the same.
  """
  num_units = score_RN.shape[1]
  num_kept = max(1, int(share * num_units + 1e-6))
  # The negative of unsigned levels would wrap around.
  best_RN = np.argsort(-score_RN.astype(np.float64), axis=1, kind="stable")[:, :num_kept]
  selected_RN = np.zeros(score_RN.shape, bool)
  np.put_along_axis(selected_RN, best_RN, True, axis=1)
  return selected_RN


def _resample(video_id: str, scores: SegmentScores, unit_s: float, num_units: int) -> Array:
  """f32[N units]: mean of the scores of the segments over each unit, weighted by overlap."""
  score_M, span_s_M2 = np.asarray(scores.score), np.asarray(scores.span_s, np.float64)
  if not np.isfinite(score_M).all():
    raise InputError(f"video {video_id}: a predicted score is NaN or infinite")
  start_s_N = unit_s * np.arange(num_units)
  overlap_s_NM = np.clip(
    np.minimum(start_s_N[:, None] + unit_s, span_s_M2[:, 1])
    - np.maximum(start_s_N[:, None], span_s_M2[:, 0]),
    0.0,
    None,
  )
  covered_s_N = overlap_s_NM.sum(axis=1)
  for n in np.flatnonzero(covered_s_N <= 0)[:1]:
    raise InputError(f"video {video_id}: no segment covers the labels at {start_s_N[n]} s")
  # Back to 32 bits: what is equal before resampling must tie after it.
  return (overlap_s_NM @ score_M.astype(np.float64) / covered_s_N).astype(np.float32)


def _check_labels(labels: Labels) -> None:
  if not labels:
    raise InputError("there is no labelled video to measure on")
  for video_id, (_, levels_AN) in labels.items():
    if levels_AN.ndim != 2 or 0 in levels_AN.shape:
      raise InputError(f"video {video_id}: labels need annotators and units, not {levels_AN.shape}")


def _floats(values_3: Array) -> tuple[float, ...]:
  return tuple(float(value) for value in values_3)
