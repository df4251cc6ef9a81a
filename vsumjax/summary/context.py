"""What random scores, priors, people and the best prediction reach under a protocol.

These rows belong beside every result (Otani et al., CVPR 2019): on the same videos and segments,
measured in the same way. They say what a number means: "the middle is important" has a tau of 0.10
on TVSum, and nothing can follow annotators who disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vsumjax.summary import keyshots, protocols
from vsumjax.summary.benchmark import AnnotatedVideo
from vsumjax.summary.predictions import Prediction
from vsumjax.summary.protocols import Protocol, Result

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
  videos: Sequence[AnnotatedVideo],
  protocol: Protocol,
  *,
  seed: int = 0,
  update: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Result, ...]:
  """The rows of `DESCRIPTIONS` that have a meaning under a protocol, in that order.

  Rows of annotators need two of them in every video and are left out otherwise. `CEILING` holds
  only measures that are means over annotators.

  Args:
    videos: to measure on.
    protocol: the convention.
    seed: of the random scores. There are 2,000 draws in all, at least 2 and at most 100 a
      video.
    update: told how many videos are done.

  Raises:
    InputError: as `protocols.evaluate`.
  """
  protocols.check(videos, protocol)
  generator = np.random.default_rng(seed)
  num_draws = min(max(math.ceil(_NUM_DRAWS / len(videos)), 2), 100)
  rows: dict[str, dict[str, dict[str, float]]] = {}
  variances: dict[str, float] = {}
  for done, video in enumerate(videos):
    update(done, len(videos))
    prepared = protocol.prepare(video)
    for name, values in _rows(prepared, protocol, generator, num_draws):
      for measure, draws in values.items():
        rows.setdefault(name, {}).setdefault(measure, {})[video.id] = float(np.mean(draws))
        if name == RANDOM:
          variances[measure] = variances.get(measure, 0.0) + float(np.var(draws, ddof=1))
  results = [
    Result(name, protocol.name, by_video)
    for name, by_video in rows.items()
    # A row that some videos lack would be of other videos than the rest.
    if all(len(values) == len(videos) for values in by_video.values())
  ]
  random = results[0]
  half = {m: 1.96 * math.sqrt(variance) / len(videos) for m, variance in variances.items()}
  interval = {m: (random.mean(m) - half[m], random.mean(m) + half[m]) for m in half}
  return (dataclasses.replace(random, interval=interval), *results[1:])


def share_of_ceiling(result: Result, measure: str, rows: Sequence[Result]) -> float:
  """A mean as a share of the ceiling's: `CEILING`, or `ORACLE` where that has no such measure.

  NaN if there is none above 0.
  """
  for name in (CEILING, ORACLE):
    for row in rows:
      if row.predictor == name and measure in row.by_video:
        ceiling = row.mean(measure)
        return result.mean(measure) / ceiling if ceiling > 0 else math.nan
  return math.nan


def centre_prior(video: AnnotatedVideo) -> Prediction:
  """1 in the middle of the video, 0 at its ends."""
  num_picks = len(video.picks_P)
  return Prediction.from_picks(video, 1 - np.abs((2 * np.arange(num_picks) + 1) / num_picks - 1))


Row = tuple[str, dict[str, list[float]]]


def _rows(
  video: AnnotatedVideo, protocol: Protocol, generator: np.random.Generator, num_draws: int
) -> Iterator[Row]:
  """Each row of one video: {measure: its values over draws or annotators}."""
  num_picks = len(video.picks_P)
  yield (
    RANDOM,
    _gather(
      _measure(video, Prediction.from_picks(video, generator.random(num_picks)), protocol)
      for _ in range(num_draws)
    ),
  )
  yield CENTRE, _gather([_measure(video, centre_prior(video), protocol)])
  yield UNIFORM, _gather([_measure(video, _uniform_sampling(video), protocol)])
  yield from _annotators(video, protocol)
  oracle = Prediction.from_frames(video, protocols.consensus(video))
  if protocol.by_gtscore:
    oracle = Prediction.from_picks(video, video.gtscore_P)
  yield ORACLE, _gather([_measure(video, oracle, protocol)])
  if protocol.ranks_scores:
    yes_P = oracle.score_P >= np.quantile(oracle.score_P, 1 - keyshots.SHARE)
    binary = dataclasses.replace(oracle, score_P=yes_P.astype(np.float64))
    yield BINARY, _gather([_measure(video, binary, protocol)])


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
    humans.append(_measure(others, human, protocol))
    mean = Prediction.from_frames(video, protocols.consensus(others))
    ceilings.append(_measure(_of_annotators(video, ~is_other_A), mean, protocol))
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
  """Evenly spaced picks, and, where there are segments, evenly spaced segments as the summary."""
  num_picks = len(video.picks_P)
  num_kept = max(1, int(num_picks * keyshots.SHARE))
  score_P = np.zeros(num_picks)
  score_P[((np.arange(num_kept) + 0.5) * num_picks / num_kept).astype(int)] = 1.0
  sampled = Prediction.from_picks(video, score_P)
  if video.segments_K2 is None:
    return sampled
  return dataclasses.replace(sampled, summary_F=keyshots.evenly_spaced(video))


def _measure(video: AnnotatedVideo, prediction: Prediction, protocol: Protocol) -> dict:
  return protocols.measure(video, prediction, protocol)


def _gather(values) -> dict[str, list[float]]:
  """[{"tau": 0.1}, {"tau": 0.3}] -> {"tau": [0.1, 0.3]}."""
  gathered: dict[str, list[float]] = {}
  for each in values:
    for measure, value in each.items():
      gathered.setdefault(measure, []).append(value)
  return gathered
