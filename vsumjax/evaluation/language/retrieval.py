"""Text-to-video and video-to-text retrieval from a matrix of similarities, fair to ties.

Equal similarities say nothing about the order, so every measure is its expected value when ties
are broken at random: an item shares its places with all that are equal to it. A model that gives
every pair the same similarity so gets the recall of chance, not 100 %, and half precision, where
ties are common, neither helps nor hurts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from vsumjax.types import InputError

DEPTHS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """How well queries find what belongs to them.

  recall:      share of the queries, 0..1, with an answer among the first K, by K.
  median_rank, mean_rank: of each query's best answer, the first place being 1.
  num_queries, num_items: what was searched with and in.
  """

  recall: Mapping[int, float]
  median_rank: float
  mean_rank: float
  num_queries: int
  num_items: int


@dataclasses.dataclass(frozen=True)
class BothWays:
  text_to_video: Retrieval
  video_to_text: Retrieval


def evaluate(similarity: np.ndarray, video_of_text: Sequence[int] | None = None) -> BothWays:
  """Retrieval in both directions.

  Args:
    similarity: real[texts, videos], higher is more alike; bfloat16 and float16 are compared as
      float32.
    video_of_text: i[texts], the column that each text belongs to; by default text n belongs to
      video n. A video may have several texts: the first of them found counts.

  Raises:
    InputError: a similarity is NaN (the row is named), a video has no text, or shapes do not fit.
  """
  values = _checked(similarity)
  num_texts, num_videos = values.shape
  if video_of_text is None:
    if num_texts != num_videos:
      raise InputError(
        f"similarities of {num_texts} texts and {num_videos} videos; say which video each text "
        "belongs to"
      )
    video_of_text = range(num_videos)
  owner = np.asarray(video_of_text)
  if owner.shape != (num_texts,):
    raise InputError(f"{num_texts} rows of similarities and the videos of {owner.size} texts")
  for text in np.flatnonzero((owner < 0) | (owner >= num_videos)):
    raise InputError(f"text {text} belongs to video {owner[text]}, there are {num_videos} videos")
  relevant = owner[:, None] == np.arange(num_videos)
  for video in np.flatnonzero(~relevant.any(axis=0)):
    raise InputError(f"video {video} has no text; take its column out")
  return BothWays(measure(values, relevant), measure(values.T, relevant.T))


def measure(similarity: np.ndarray, relevant: np.ndarray) -> Retrieval:
  """Retrieval of items (columns) by queries (rows).

  The rank of an answer is 1 + the items that are better + half the equal ones beside it. The rank
  of a query is the expected place of its first answer: r answers that share a place with q others
  stand at 1 + better + q / (r + 1) on average.

  Args:
    similarity: real[Q, N].
    relevant: bool[Q, N], the answers to each query, one at least.

  Raises:
    InputError: a similarity is NaN or a query has no answer; the row is named.
  """
  values = _checked(similarity)
  for row in np.flatnonzero(~relevant.any(axis=1)):
    raise InputError(f"query {row} has no answer among the {relevant.shape[1]} items; take it out")
  best = np.where(relevant, values, -np.inf).max(axis=1, keepdims=True)
  better = (values > best).sum(axis=1)
  level = values == best
  answers = (level & relevant).sum(axis=1)
  others = level.sum(axis=1) - answers
  rank = 1 + better + others / (answers + 1)
  recall = {
    depth: float(_chance(depth - better, answers, answers + others).mean()) for depth in DEPTHS
  }
  return Retrieval(recall, float(np.median(rank)), float(rank.mean()), *values.shape)


def _checked(similarity: np.ndarray) -> np.ndarray:
  values = np.asarray(similarity)
  if values.ndim != 2 or 0 in values.shape:
    raise InputError(f"similarities of shape {values.shape}; give a matrix of texts by videos")
  if values.dtype.kind not in "fiu" and values.dtype != ml_dtypes.bfloat16:
    raise InputError(f"similarities of type {values.dtype}; give real numbers")
  values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
  for row in np.flatnonzero(np.isnan(values).any(axis=1)):
    raise InputError(f"row {row} of the similarities holds NaN")
  return values


def _chance(places: np.ndarray, answers: np.ndarray, level: np.ndarray) -> np.ndarray:
  """f64[Q]: chance that one of `answers` is on the first `places` of `level` in random order.

  One minus the hypergeometric chance of drawing none of them.
  """
  places = np.clip(places, 0, level)
  missed = np.ones(len(level))
  for answer in range(int(answers.max())):
    # The next answer stands behind all drawn places too.
    free = np.maximum(level - places - answer, 0)
    missed *= np.where(answer < answers, free / np.maximum(level - answer, 1), 1.0)
  return 1 - missed
