"""What a summariser says about a video of a benchmark, at the places where people were asked."""

from __future__ import annotations

import dataclasses

import numpy as np

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.types import InputError

Array = np.ndarray

_SLACK_S = 1e-3  # spans that are rounded apart still meet
_TAIL_S = 0.5  # what a container may state as its length beyond the last whole segment


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
  """Finite scores of one `AnnotatedVideo`; only their order and means count.

  Attributes:
    score_P: f64[P], at its picks.
    score_F: f64[F], of every frame.
    summary_F: bool[F], the summary that the file itself holds, if it does.
    fscore: the F1 that the file itself states, as it stands there, if it does.
  """

  score_P: Array
  score_F: Array
  summary_F: Array | None = None
  fscore: float | None = None

  @classmethod
  def from_scores(cls, video: AnnotatedVideo, score_N: Array) -> Prediction:
    """Of a score at each pick or of each frame, told by their number.

    Raises:
      InputError: there are neither as many as picks nor as many as frames, or one is not finite.
    """
    if len(score_N) == video.num_picks:
      return cls.from_picks(video, score_N)
    if len(score_N) == video.num_frames:
      return cls.from_frames(video, score_N)
    raise _wrong_number(
      video, score_N, f"{video.num_picks:,} picks and {video.num_frames:,} frames"
    )

  @classmethod
  def from_picks(cls, video: AnnotatedVideo, score_P: Array) -> Prediction:
    """Of a score at each pick; a frame has the score of the last pick up to it.

    That is the step function of the public evaluation scripts. Where there are fewer scores than
    picks, those give the frames past the last score 0; here that is an error.

    Raises:
      InputError: another number of scores, or one that is not finite.
    """
    if len(score_P) != video.num_picks:
      raise _wrong_number(video, score_P, f"{video.num_picks:,} picks")
    score_P = _finite(video, score_P)
    return cls(score_P, np.repeat(score_P, np.diff(video.picks_P, append=video.num_frames)))

  @classmethod
  def from_frames(cls, video: AnnotatedVideo, score_F: Array) -> Prediction:
    """Of a score of each frame; a pick has the score of its frame.

    Raises:
      InputError: another number of scores, or one that is not finite.
    """
    if len(score_F) != video.num_frames:
      raise _wrong_number(video, score_F, f"{video.num_frames:,} frames")
    score_F = _finite(video, score_F)
    return cls(score_F[video.picks_P], score_F)

  @classmethod
  def from_spans(cls, video: AnnotatedVideo, span_s_N2: Array, score_N: Array) -> Prediction:
    """Of scores of segments in seconds; frame f, at (f + 0.5) / fps, has that of the one it is in.

    Frames after the last span have its score, up to half a second after it or as long as it lasts
    itself, whichever is more: a summariser may leave out a last segment that is not whole.

    Args:
      video: with a known `fps`.
      span_s_N2: real[N, 2], start and end, in order of time, none in another.
      score_N: real[N].

    Raises:
      InputError: no `fps`, lengths that differ, a number that is not finite, a span that ends
        before it starts or starts before the one before it ends, or a frame that is in no span.
    """
    span_s_N2, score_N = _check_spans(video, span_s_N2), _finite(video, score_N)
    if len(span_s_N2) != len(score_N):
      raise InputError(f"{video.id}: has {len(span_s_N2):,} spans, but {len(score_N):,} scores")
    start_s_N, end_s_N = span_s_N2.T
    time_s_F = (np.arange(video.num_frames) + 0.5) / video.fps
    span_F = np.searchsorted(start_s_N - _SLACK_S, time_s_F, side="right") - 1
    until_s_N = end_s_N + _SLACK_S
    until_s_N[-1] += max(_TAIL_S, end_s_N[-1] - start_s_N[-1])
    for frame in np.flatnonzero((span_F < 0) | (time_s_F > until_s_N[span_F]))[:1]:
      raise InputError(
        f"{video.id}: frame {frame:,}, at {time_s_F[frame]:.2f} s, is in none of the"
        f" {len(score_N):,} spans, which go from {start_s_N[0]:.2f} s to {end_s_N[-1]:.2f} s"
      )
    return cls.from_frames(video, score_N[span_F])


def _wrong_number(video: AnnotatedVideo, score_N: Array, expected: str) -> InputError:
  return InputError(f"{video.id}: {len(score_N):,} scores, but it has {expected}")


def _finite(video: AnnotatedVideo, score_N: Array) -> Array:
  score_N = np.asarray(score_N, np.float64)
  for n in np.flatnonzero(~np.isfinite(score_N))[:1]:
    raise InputError(f"{video.id}: score {n:,} is {score_N[n]}, must be a finite number")
  return score_N


def _check_spans(video: AnnotatedVideo, span_s_N2: Array) -> Array:
  span_s_N2 = np.asarray(span_s_N2, np.float64)
  if not video.fps:
    raise InputError(
      f"{video.id}: its frames a second are not known, so nothing in seconds can be placed; load"
      " the benchmark with annotations that have fps"
    )
  if span_s_N2.ndim != 2 or span_s_N2.shape[1] != 2 or not len(span_s_N2):
    raise InputError(f"{video.id}: spans have shape {list(span_s_N2.shape)}, expected [spans, 2]")
  start_s_N, end_s_N = span_s_N2.T
  for n in np.flatnonzero(~(np.isfinite(span_s_N2).all(axis=1) & (end_s_N > start_s_N)))[:1]:
    raise InputError(f"{video.id}: span {n:,}, {span_s_N2[n].tolist()}, must end after it starts")
  for n in np.flatnonzero(start_s_N[1:] < end_s_N[:-1] - _SLACK_S)[:1]:
    raise InputError(
      f"{video.id}: span {n + 1:,} starts at {start_s_N[n + 1]} s, before span {n:,} ends at"
      f" {end_s_N[n]} s"
    )
  return span_s_N2
