"""The conventions by which published scores of video summarisers are measured, each by its name.

Numbers under different names can't be compared: "Kendall's tau on SumMe" usually is that of a
binary summary after segmentation and knapsack, on TVSum that of raw scores. Here one prediction can
be measured under all of them, beside what random scores, people and the best possible prediction
reach (`context`).

Two rules hold for all. A ranking that is constant, and a summary or a reference that is empty, get
0, where some published code has NaN. Means are taken over annotators, then over videos.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vsumjax.evaluation import comparisons, highlights, keyshots
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.types import InputError

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Measure:
  """One number of a protocol.

  Attributes:
    name: "tau", "F1 mean", ...
    of: which of the values that `Protocol.compare` returns.
    reduce: "mean" or "max" over the annotators; "" where there is one reference made of all.
  """

  name: str
  of: str
  reduce: str = ""


@dataclasses.dataclass(frozen=True)
class Protocol:
  """A convention for measuring predictions.

  Attributes:
    name: stands beside every number measured under it.
    description: what is compared with what.
    used_by: papers and repositories whose numbers are of this kind.
    needs: fields that a video must have; of "levels_AF|summary_AF" one.
    compare: (video, prediction) -> values. `prepare` has been applied to the video.
    measures: what is reported.
    prepare: adds to a video what `compare` needs and the benchmark leaves to the convention.
    ranks_scores: raw scores are ranked, so that a classifier's yes and no are capped.
  """

  name: str
  description: str
  used_by: str
  needs: tuple[str, ...]
  compare: Callable[[AnnotatedVideo, Prediction], comparisons.Values]
  measures: tuple[Measure, ...]
  prepare: Callable[[AnnotatedVideo], AnnotatedVideo] = lambda video: video
  ranks_scores: bool = False

  @property
  def by_gtscore(self) -> bool:
    """Whether the reference is gtscore alone, which holds no single annotators."""
    return self.needs == ("gtscore_P",)

  def missing(self, video: AnnotatedVideo) -> str:
    """The first of the needed fields that a video lacks, "" if none."""
    return next((need for need in self.needs if not any(_given(video, need))), "")


@dataclasses.dataclass(frozen=True)
class Result:
  """What one predictor reaches under one protocol.

  Attributes:
    predictor: "student", "random", ...
    protocol: its name.
    by_video: {measure: {video id: value}}; for random draws the means over the draws.
    interval: {measure: (low, high)} holds the mean over videos in 95 % of random draws.
  """

  predictor: str
  protocol: str
  by_video: Mapping[str, Mapping[str, float]]
  interval: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

  def mean(self, measure: str) -> float:
    """Mean over the videos."""
    return float(np.mean(list(self.by_video[measure].values())))


def evaluate(
  videos: Sequence[AnnotatedVideo],
  predictions: Mapping[str, Prediction],
  protocol: Protocol,
  name: str,
) -> Result:
  """Measures one predictor under one protocol; see `evaluate_all`."""
  return evaluate_all(videos, predictions, (protocol,), name)[0]


def evaluate_all(
  videos: Sequence[AnnotatedVideo],
  predictions: Mapping[str, Prediction],
  chosen: Sequence[Protocol],
  name: str,
) -> tuple[Result, ...]:
  """Measures one predictor.

  Args:
    videos: to measure on.
    predictions: by video id; those of other videos are passed over.
    chosen: the protocols, in the order of the results.
    name: of the predictor.

  Raises:
    InputError: no video, a video without a prediction, or without a field a protocol needs.
  """
  for protocol in chosen:
    check(videos, protocol)
  values: list[dict[str, dict[str, float]]] = [
    {m.name: {} for m in protocol.measures} for protocol in chosen
  ]
  # Video by video, since protocols share much of the work on one.
  for video in videos:
    if video.id not in predictions:
      raise InputError(f"{video.id}: has no predicted scores")
    for protocol, by_measure in zip(chosen, values, strict=True):
      measured = measure(protocol.prepare(video), predictions[video.id], protocol)
      for measure_name, value in measured.items():
        by_measure[measure_name][video.id] = value
  return tuple(
    Result(name, protocol.name, by_measure)
    for protocol, by_measure in zip(chosen, values, strict=True)
  )


def check(videos: Sequence[AnnotatedVideo], protocol: Protocol) -> None:
  """Raises InputError, with video and field, if a protocol can't be applied."""
  if not videos:
    raise InputError("there is no video to measure on")
  for video in videos:
    if lacking := protocol.missing(video):
      raise InputError(
        f"{video.id}: has no {FIELDS[lacking]}, which protocol {protocol.name!r} needs"
      )


def measure(
  prepared: AnnotatedVideo, prediction: Prediction, protocol: Protocol
) -> dict[str, float]:
  """{measure: value} of one video to which `protocol.prepare` has been applied."""
  values = protocol.compare(prepared, prediction)
  return {m.name: _REDUCE[m.reduce](values[m.of]) for m in protocol.measures}


def _mean(values_A: Array) -> float:
  return float(values_A[0] if len(values_A) == 1 else values_A.mean())


_REDUCE = {"mean": _mean, "max": lambda values_A: float(values_A.max()), "": _mean}


FIELDS = {
  "levels_AF": "levels of annotators (user_anno)",
  "summary_AF": "summaries of annotators (user_summary)",
  "levels_AF|summary_AF": "levels or summaries of annotators (user_anno, user_summary)",
  "gtscore_P": "gtscore",
  "fps": "frames a second (fps)",
  "levels_AF|summary_AF|gtscore_P": "levels, summaries or gtscore",
  "segments_K2": "segments (change_points, or the key that --segments names)",
}


def _given(video: AnnotatedVideo, need: str) -> list[bool]:
  if need == "fps":
    return [video.fps > 0]
  return [getattr(video, field) is not None for field in need.split("|")]


_CORRELATIONS = (Measure("tau", "tau"), Measure("rho", "rho"))
_F1 = (Measure("F1 mean", "F1", "mean"), Measure("F1 max", "F1", "max"))


def _keyshot_protocol(name: str, budget: keyshots.Budget, length: str, used_by: str) -> Protocol:
  return Protocol(
    name,
    "F1 of the summary made of whole segments by a 0/1 knapsack on the mean score of each, at most"
    f" 15 % of {length}, with each annotator's. TVSum's published numbers are the mean over"
    " annotators, SumMe's the best of them.",
    used_by,
    ("segments_K2", "levels_AF|summary_AF"),
    functools.partial(comparisons.keyshot_f1, budget=budget),
    _F1,
    functools.partial(comparisons.with_summaries, budget=budget),
  )


PROTOCOLS: tuple[Protocol, ...] = (
  Protocol(
    "tvsum-rank",
    "Kendall's tau-b and Spearman's rho of raw scores at the picks (every 15th frame) with each"
    " annotator's levels there.",
    "CA-SUM, CSTA, LLMVS, SummDiff on TVSum; Otani et al. 2019 with all frames",
    ("levels_AF",),
    comparisons.rank_levels,
    (Measure("tau", "tau", "mean"), Measure("rho", "rho", "mean")),
    ranks_scores=True,
  ),
  Protocol(
    "summe-rank",
    "Kendall's tau-b and Spearman's rho, over all frames, of the binary summary (segments, knapsack"
    " of 15 % of the frames up to the end of the last segment) with the mean of the annotators'"
    " summaries: segments and knapsack are measured too.",
    "CSTA, LLMVS, SummDiff on SumMe",
    ("segments_K2", "levels_AF|summary_AF"),
    functools.partial(comparisons.rank_summary, budget=keyshots.budget_of_segments),
    _CORRELATIONS,
    functools.partial(comparisons.with_summaries, budget=keyshots.budget_of_segments),
  ),
  _keyshot_protocol(
    "keyshot-f1",
    keyshots.budget_of_segments,
    "the frames up to the end of the last segment, rounded down",
    "PGL-SUM, CA-SUM, CSTA",
  ),
  _keyshot_protocol(
    "keyshot-f1-frames",
    keyshots.budget_of_frames,
    "all frames, rounded down",
    "vsumm-reinforce, VASNet, DSNet, SummDiff",
  ),
  Protocol(
    "uniform-f1",
    "As keyshot-f1 with segments of 2 seconds, which no segmentation helps. Annotators' summaries"
    " are made of the same segments where their levels are known.",
    "Otani et al. 2019 (as one of their segmentations)",
    ("levels_AF|summary_AF", "fps"),
    functools.partial(comparisons.keyshot_f1, budget=keyshots.budget_of_segments),
    _F1,
    comparisons.with_uniform_segments,
  ),
  Protocol(
    "mrhisum",
    "F1 of the keyshot summary (budget of all frames) with gt_summary, and tau-b and rho of that"
    " binary summary with the mean of the reference summaries.",
    "MR.HiSum",
    ("segments_K2", "summary_AF"),
    comparisons.mrhisum,
    (Measure("F1", "F1", "mean"), *_CORRELATIONS),
  ),
  Protocol(
    "gtscore-rank",
    "Kendall's tau-b and Spearman's rho of raw scores with gtscore.",
    "TripleSumm; SummDiff on Mr.HiSum",
    ("gtscore_P",),
    comparisons.rank_gtscore,
    _CORRELATIONS,
    ranks_scores=True,
  ),
  Protocol(
    "mrhisum-map",
    "Average precision of clips of 5 picks (5 s on Mr.HiSum). Positives are the best 50 % and 15 %"
    " of the clips by gtscore, rounded down; a shorter last clip has the mean of what it has.",
    "MR.HiSum, SummDiff on Mr.HiSum",
    ("gtscore_P",),
    functools.partial(comparisons.mean_precision, variant=highlights.MRHISUM),
    (Measure("mAP50", "mAP50"), Measure("mAP15", "mAP15")),
  ),
  Protocol(
    "triplesumm-map",
    "As mrhisum-map, but rounded up, and the last clip is filled up with zeros.",
    "TripleSumm",
    ("gtscore_P",),
    functools.partial(comparisons.mean_precision, variant=highlights.TRIPLESUMM),
    (Measure("mAP50", "mAP50"), Measure("mAP15", "mAP15")),
  ),
  Protocol(
    "keep-drop",
    "F1 of the kept seconds, the best 15 % by mean score, rounded up, with the best 15 % by the"
    " mean of the annotators: one label a second, no segments, no knapsack.",
    "our reading of DEEVISum, whose code keeps seconds in this way and holds no F1",
    ("levels_AF|summary_AF|gtscore_P", "fps"),
    comparisons.keep_drop,
    (Measure("F1", "F1"),),
  ),
)

BY_NAME: dict[str, Protocol] = {protocol.name: protocol for protocol in PROTOCOLS}
