"""Scores of segments measured with the levels of a manifest, as in training and on own videos.

Annotators' units of time take the place of a benchmark's frames: scores are brought to them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vsumjax.evaluation import comparisons, context, keyshots, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.context import CEILING, CENTRE, HUMAN, RANDOM
from vsumjax.evaluation.predictions import Prediction
from vsumjax.types import InputError, SegmentScores

Array = np.ndarray
Labels = Mapping[str, tuple[float, Array]]  # by video id: seconds a level covers, levels [A, N]


def _budget(video: AnnotatedVideo) -> int:
  """15 % of the units, at least one. The small addend keeps 0.15 * 20 from becoming 2."""
  return max(1, int(keyshots.SHARE * video.num_frames + 1e-6))


UNIFORM_SEGMENTS = protocols.Protocol(
  name="uniform segments",
  description=(
    "Scores are brought to the annotators' time units. Kendall's tau-b and Spearman's rho against"
    " each annotator; F1 of the 15 % knapsack summary against each annotator's own 15 % knapsack"
    " summary. Mean over annotators, then over videos."
  ),
  used_by="this library, in training",
  needs=("levels_AF",),
  compare=functools.partial(comparisons.rank_levels_and_keyshots, budget=_budget),
  measures=tuple(protocols.Measure(name, name, "mean") for name in ("tau", "rho", "F1")),
  prepare=functools.partial(comparisons.with_summaries, budget=_budget),
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table of results: means over the videos."""

  name: str
  tau: float
  rho: float
  f1: float


def evaluate_scores(predictions: Mapping[str, SegmentScores], labels: Labels, name: str) -> Row:
  """Measures one predictor on labelled videos under `UNIFORM_SEGMENTS`.

  Args:
    predictions: by video id; their segments may differ from the labels' units and are resampled.
    labels: by video id, `(unit_s, levels_AN)`; the same videos.
    name: of the row.

  Raises:
    InputError: the videos differ, a score is not finite, or the segments end before the labels do.
  """
  for missing in sorted(labels.keys() ^ predictions.keys())[:1]:
    lacks = "predicted scores" if missing in labels else "labels"
    raise InputError(f"video {missing} has no {lacks}")
  videos = _videos(labels)
  resampled = {}
  for video_id, (unit_s, levels_AN) in labels.items():
    score_N = _resample(video_id, predictions[video_id], unit_s, levels_AN.shape[1])
    resampled[video_id] = Prediction(score_N, score_N)
  return _row(protocols.evaluate(videos, resampled, UNIFORM_SEGMENTS, name))


def context_rows(labels: Labels, *, seed: int = 0) -> tuple[Row, ...]:
  """The rows that belong beside every result: random, centre prior, one human, annotators' ceiling.

  See `context.DESCRIPTIONS`. The last two need two annotators; they are left out if a video has
  only one.
  """
  results = context.context(_videos(labels), UNIFORM_SEGMENTS, seed=seed)
  shown = (RANDOM, CENTRE, HUMAN, CEILING)
  return tuple(_row(result) for result in results if result.predictor in shown)


def share_of_ceiling(row: Row, rows: Sequence[Row]) -> float:
  """Tau as a share of the annotators' ceiling; NaN if there is no ceiling above 0."""
  ceiling = next((other.tau for other in rows if other.name == CEILING), 0.0)
  return row.tau / ceiling if ceiling > 0 else math.nan


def _row(result: protocols.Result) -> Row:
  return Row(result.predictor, *(result.mean(name) for name in ("tau", "rho", "F1")))


def _videos(labels: Labels) -> tuple[AnnotatedVideo, ...]:
  """Videos whose frames, picks and segments are the annotators' units."""
  _check_labels(labels)
  videos = []
  for video_id, (unit_s, levels_AN) in labels.items():
    units_N = np.arange(levels_AN.shape[1])
    videos.append(
      AnnotatedVideo(
        video_id,
        len(units_N),
        units_N,
        1 / unit_s,
        levels_AF=levels_AN,
        segments_K2=np.stack([units_N, units_N], axis=1),
      )
    )
  return tuple(videos)


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
