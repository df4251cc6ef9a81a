"""What random scores, priors, people and the best prediction reach under a protocol.

These rows belong beside every result (Otani et al., CVPR 2019): on the same videos and segments,
measured in the same way. They say what a number means: "the middle is important" has a tau of 0.10
on TVSum, and nothing can follow annotators who disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from vsumjax.evaluation import keyshots, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.comparisons import consensus
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import Protocol, Result

Array = np.ndarray

RANDOM = "random"
CENTRE = "centre prior"
UNIFORM = "uniform sampling"
HUMAN = "one human"
CEILING = "annotators' ceiling"
ORACLE = "oracle"
BINARY = "binary oracle"

DESCRIPTIONS = {
  RANDOM: "a random score at each pick; the interval holds 95 % of such predictions",
  CENTRE: "the nearer to the middle of the video, the more important",
  UNIFORM: "15 % of the video, evenly spaced",
  HUMAN: "each annotator as a prediction, measured with the others",
  CEILING: "the mean of the other annotators as a prediction for the one held out",
  ORACLE: "the mean of all annotators as a prediction for all: it has seen the answers",
  BINARY: "the oracle as yes or no, yes for its best 15 %: what a keep/drop classifier can reach",
}
_NUM_DRAWS = 2_000  # over all videos


def context(
  videos: Sequence[AnnotatedVideo], protocol: Protocol, *, seed: int = 0
) -> tuple[Result, ...]:
  """The rows of one protocol; see `context_of_all`."""
  return context_of_all(videos, (protocol,), seed=seed)[0]


def context_of_all(
  videos: Sequence[AnnotatedVideo],
  chosen: Sequence[Protocol],
  *,
  seed: int = 0,
  update: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[Result, ...], ...]:
  """The rows of `DESCRIPTIONS` that have a meaning, in that order, protocol after protocol.

  Rows of annotators need two of them in every video and are left out otherwise. `CEILING` holds
  only measures that are means over annotators.

  Args:
    videos: to measure on.
    chosen: the protocols.
    seed: of the random scores, which are the same for all protocols. There are 2,000 draws in all,
      at least 2 and at most 100 a video.
    update: told how many videos are done.

  Raises:
    InputError: as `protocols.evaluate`.
  """
  for protocol in chosen:
    protocols.check(videos, protocol)
  generator = np.random.default_rng(seed)
  num_draws = min(max(math.ceil(_NUM_DRAWS / len(videos)), 2), 100)
  gathered = [_Gathered() for _ in chosen]
  # Video by video, since protocols share much of the work on one.
  for done, video in enumerate(videos):
    update(done, len(videos))
    fixed = _Fixed(video, generator, num_draws)
    for protocol, rows in zip(chosen, gathered, strict=True):
      for name, values in _rows(protocol.prepare(video), fixed, protocol):
        rows.add(name, video.id, values)
  update(len(videos), len(videos))
  return tuple(
    rows.results(protocol, len(videos)) for protocol, rows in zip(chosen, gathered, strict=True)
  )


class _Gathered:
  """The rows of one protocol, video after video."""

  def __init__(self) -> None:
    self._rows: dict[str, dict[str, dict[str, float]]] = {}
    self._variances: dict[str, float] = {}

  def add(self, name: str, video_id: str, values: Mapping[str, Sequence[float]]) -> None:
    """Takes the mean over draws or annotators."""
    for measure, each in values.items():
      mean = sum(each) / len(each)  # of a few: NumPy's takes longer
      self._rows.setdefault(name, {}).setdefault(measure, {})[video_id] = mean
      if name == RANDOM:
        variance = float(np.var(each, ddof=1))
        self._variances[measure] = self._variances.get(measure, 0.0) + variance

  def results(self, protocol: Protocol, num_videos: int) -> tuple[Result, ...]:
    results = [
      Result(name, protocol.name, by_video)
      for name, by_video in self._rows.items()
      # A row that some videos lack would be of other videos than the rest.
      if all(len(values) == num_videos for values in by_video.values())
    ]
    random, *others = results
    half = {m: 1.96 * math.sqrt(v) / num_videos for m, v in self._variances.items()}
    interval = {m: (random.mean(m) - half[m], random.mean(m) + half[m]) for m in half}
    return (dataclasses.replace(random, interval=interval), *others)


def ceiling(measure: str, rows: Sequence[Result]) -> Result | None:
  """`CEILING`, or `ORACLE` where that has no such measure; None if there is neither."""
  having = {row.predictor: row for row in rows if measure in row.by_video}
  return having.get(CEILING, having.get(ORACLE))


def share_of_ceiling(result: Result, measure: str, rows: Sequence[Result]) -> float:
  """A mean as a share of the `ceiling`'s; NaN if there is none above 0."""
  most = ceiling(measure, rows)
  if most is None or most.mean(measure) <= 0:
    return math.nan
  return result.mean(measure) / most.mean(measure)


def centre_prior(video: AnnotatedVideo) -> Prediction:
  """1 in the middle of the video, almost 0 at its ends."""
  num_picks = len(video.picks_P)
  # Of whole numbers, so that picks as far from the middle tie.
  from_middle_P = np.abs(2 * np.arange(num_picks) + 1 - num_picks)
  return Prediction.from_picks(video, (num_picks - from_middle_P) / num_picks)


Row = tuple[str, dict[str, list[float]]]


class _Fixed:
  """Predictions for a video that are the same for all protocols."""

  def __init__(self, video: AnnotatedVideo, generator: np.random.Generator, num_draws: int):
    num_picks = video.num_picks
    self.random = [
      Prediction.from_picks(video, generator.random(num_picks)) for _ in range(num_draws)
    ]
    self.centre = centre_prior(video)
    self.uniform = _uniform_sampling(video)


def _rows(video: AnnotatedVideo, fixed: _Fixed, protocol: Protocol) -> Iterator[Row]:
  """Each row of one prepared video: {measure: its values over draws or annotators}."""
  yield RANDOM, _gather(protocols.measure(video, each, protocol) for each in fixed.random)
  uniform = fixed.uniform
  if video.segments_K2 is not None:
    uniform = dataclasses.replace(uniform, summary_F=keyshots.evenly_spaced(video))
  for name, prediction in ((CENTRE, fixed.centre), (UNIFORM, uniform)):
    yield name, _gather([protocols.measure(video, prediction, protocol)])
  yield from _annotators(video, protocol)
  oracle = Prediction.from_frames(video, consensus(video))
  if protocol.by_gtscore:
    oracle = Prediction.from_picks(video, video.gtscore_P)
  yield ORACLE, _gather([protocols.measure(video, oracle, protocol)])
  if protocol.ranks_scores:
    yes_P = oracle.score_P >= np.quantile(oracle.score_P, 1 - keyshots.SHARE)
    binary = dataclasses.replace(oracle, score_P=yes_P.astype(np.float64))
    yield BINARY, _gather([protocols.measure(video, binary, protocol)])


def _annotators(video: AnnotatedVideo, protocol: Protocol) -> Iterator[Row]:
  said_AF = video.summary_AF if video.levels_AF is None else video.levels_AF
  if said_AF is None or len(said_AF) < 2 or protocol.by_gtscore:
    return
  humans, ceilings = [], []
  for a, said_F in enumerate(said_AF):
    own_F = None if video.summary_AF is None else video.summary_AF[a]
    human = dataclasses.replace(Prediction.from_frames(video, said_F), summary_F=own_F)
    is_other_A = np.arange(len(said_AF)) != a
    others = _of_annotators(video, is_other_A)
    humans.append(protocols.measure(others, human, protocol))
    mean = Prediction.from_frames(video, consensus(others))
    ceilings.append(protocols.measure(_of_annotators(video, ~is_other_A), mean, protocol))
  yield HUMAN, _gather(humans)
  of_mean = {m.name for m in protocol.measures if m.reduce == "mean"}
  if of_mean:
    yield CEILING, {m: values for m, values in _gather(ceilings).items() if m in of_mean}


def _of_annotators(video: AnnotatedVideo, is_kept_A: Array) -> AnnotatedVideo:
  kept = {
    field: None if said is None else said[is_kept_A]
    for field, said in (("levels_AF", video.levels_AF), ("summary_AF", video.summary_AF))
  }
  return dataclasses.replace(video, **kept)


def _uniform_sampling(video: AnnotatedVideo) -> Prediction:
  """1 at 15 % of the picks, evenly spaced, 0 at the others."""
  num_kept = max(1, int(video.num_picks * keyshots.SHARE))
  score_P = np.zeros(video.num_picks)
  score_P[((np.arange(num_kept) + 0.5) * video.num_picks / num_kept).astype(int)] = 1.0
  return Prediction.from_picks(video, score_P)


def _gather(values) -> dict[str, list[float]]:
  """[{"tau": 0.1}, {"tau": 0.3}] -> {"tau": [0.1, 0.3]}."""
  gathered: dict[str, list[float]] = {}
  for each in values:
    for measure, value in each.items():
      gathered.setdefault(measure, []).append(value)
  return gathered
