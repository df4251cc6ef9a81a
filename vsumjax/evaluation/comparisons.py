"""How one prediction is compared with what people said about one video.

Each function returns values by measure, `{"tau": f64[A]}`: one for each annotator, or a single one
where the reference is made of all. Results that several protocols ask for are kept for a while.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from vsumjax.evaluation import highlights, keyshots, metrics
from vsumjax.evaluation.benchmark import AnnotatedVideo, uniform_segments
from vsumjax.evaluation.predictions import Prediction

Array = np.ndarray
Values = dict[str, Array]

UNIFORM_S = 2.0
_RECENT = 256


def consensus(video: AnnotatedVideo) -> Array:
  """f64[F]: what all annotators together say of each frame, from the best that is known of them."""
  if video.levels_AF is not None:
    return video.levels_AF.mean(axis=0)
  if video.summary_AF is not None:
    return video.summary_AF.mean(axis=0)
  pick_F = np.searchsorted(video.picks_P, np.arange(video.num_frames), side="right") - 1
  return video.gtscore_P[pick_F]


# --- rankings


def _correlate(score: Array, reference: Array) -> Values:
  return {
    "tau": np.atleast_1d(metrics.kendall_tau(score, reference)),
    "rho": np.atleast_1d(metrics.spearman_rho(score, reference)),
  }


def rank_levels(video: AnnotatedVideo, prediction: Prediction) -> Values:
  return _correlate(prediction.score_P, video.levels_AF[:, video.picks_P])


def rank_gtscore(video: AnnotatedVideo, prediction: Prediction) -> Values:
  return _correlate(prediction.score_P, video.gtscore_P)


def rank_summary(
  video: AnnotatedVideo, prediction: Prediction, *, budget: keyshots.Budget
) -> Values:
  """tau and rho of the binary summary with the mean of the annotators'."""
  return _rank_summary(video, prediction, budget(video))


@functools.lru_cache(maxsize=_RECENT)
def _rank_summary(video: AnnotatedVideo, prediction: Prediction, budget: int) -> Values:
  summary_F = summary_of(video, prediction, budget)
  return _correlate(summary_F, video.summary_AF.mean(axis=0))


# --- summaries


@functools.lru_cache(maxsize=_RECENT)
def summary_of(video: AnnotatedVideo, prediction: Prediction, budget: int) -> Array:
  """bool[F]: the prediction's own summary, if it has one, else that which its scores lead to."""
  if prediction.summary_F is not None:
    return prediction.summary_F
  return keyshots.make_summary(video, prediction.score_F, budget)


def rank_levels_and_keyshots(
  video: AnnotatedVideo, prediction: Prediction, *, budget: keyshots.Budget
) -> Values:
  """tau, rho and F1, each with every annotator's own."""
  return rank_levels(video, prediction) | keyshot_f1(video, prediction, budget=budget)


def keyshot_f1(video: AnnotatedVideo, prediction: Prediction, *, budget: keyshots.Budget) -> Values:
  return {"F1": summary_f1(summary_of(video, prediction, budget(video)), video.summary_AF)}


def summary_f1(summary_F: Array, summary_AF: Array) -> Array:
  """f64[A]: harmonic mean of precision and recall of the frames, 0 where both are empty."""
  return metrics.f1(summary_F, summary_AF, np.ones(len(summary_F)))


def with_summaries(video: AnnotatedVideo, *, budget: keyshots.Budget) -> AnnotatedVideo:
  """Annotators' own summaries, where only their levels are known: made as predictions' are."""
  if video.summary_AF is not None:
    return video
  return _with_own_summaries(video, budget(video))


@functools.lru_cache(maxsize=_RECENT)
def _with_own_summaries(video: AnnotatedVideo, budget: int) -> AnnotatedVideo:
  summaries = [keyshots.make_summary(video, row_F, budget) for row_F in video.levels_AF]
  return dataclasses.replace(video, summary_AF=np.stack(summaries))


def with_uniform_segments(video: AnnotatedVideo) -> AnnotatedVideo:
  length = max(1, round(UNIFORM_S * video.fps))
  video = dataclasses.replace(
    video, segments_K2=uniform_segments(video.num_frames, length), ends_overlap=False
  )
  if video.levels_AF is not None:
    video = dataclasses.replace(video, summary_AF=None)
  return with_summaries(video, budget=keyshots.budget_of_segments)


def mrhisum(video: AnnotatedVideo, prediction: Prediction) -> Values:
  budget = keyshots.budget_of_frames
  return keyshot_f1(video, prediction, budget=budget) | rank_summary(
    video, prediction, budget=budget
  )


# --- highlights


def _second_means(video: AnnotatedVideo, score_F: Array) -> Array:
  """f64[seconds]: mean over the frames that begin in each second of the video."""
  second_F = (np.arange(video.num_frames) / video.fps).astype(np.int64)
  first = np.unique(second_F, return_index=True)[1]
  last = np.append(first[1:], video.num_frames) - 1
  return keyshots.segment_means(score_F, np.stack([first, last], axis=1))


def keep_drop(video: AnnotatedVideo, prediction: Prediction) -> Values:
  kept, reference = (
    highlights.best(_second_means(video, score_F), math.ceil)
    for score_F in (prediction.score_F, consensus(video))
  )
  return {"F1": summary_f1(kept, reference[None])}


def mean_precision(
  video: AnnotatedVideo, prediction: Prediction, *, variant: highlights.Variant
) -> Values:
  return {
    f"mAP{share}": np.array(
      [highlights.average_precision(prediction.score_P, video.gtscore_P, share / 100, variant)]
    )
    for share in (50, 15)
  }
