"""What the trainings of a cross-validation reach, over folds and seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from vsumjax.evaluation import context
from vsumjax.evaluation.protocols import Protocol, Result
from vsumjax.evaluation.splits import Split

Array = np.ndarray
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and half of its 95 % interval by Student's t; None of a single value."""

  mean: float
  half: float | None

  @classmethod
  def of(cls, values: Sequence[float] | Array) -> Interval:
    """Of independent values: `Interval.of([0.4, 0.5, 0.6])` is 0.5 ± 0.248."""
    num = len(values)
    if num < 2:
      return cls(float(np.mean(values)), None)
    half = stats.t.ppf(0.975, num - 1) * np.std(values, ddof=1) / math.sqrt(num)
    return cls(float(np.mean(values)), float(half))

  def __format__(self, sign: str) -> str:
    """With `sign` as numbers have it: "" or "+", as in "+0.021 ± 0.004"."""
    half = "" if self.half is None else f" ± {self.half:.3f}"
    return f"{self.mean:{sign}.3f}{half}"


@dataclasses.dataclass(frozen=True)
class Trained:
  """One training, measured.

  Attributes:
    fold: its number in the split.
    seed: of the training.
    test: on the test videos of the fold.
    validation: on its validation videos, by which settings may be chosen.
    about: what else is known of the training, as "step": the step of the parameters it is used
      with.
  """

  fold: int
  seed: int
  test: Result
  validation: Result
  about: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class CrossValidation:
  """All trainings of a cross-validation, each fold with each seed.

  Attributes:
    split: its folds, each with the validation part that was used.
    selection: the rule that chose the parameters of each training, in words.
    protocol: what was measured.
    trained: the trainings, measured.
    context: rows of `context.context`, on all videos that any fold tests.
  """

  split: Split
  selection: str
  protocol: Protocol
  trained: tuple[Trained, ...]
  context: tuple[Result, ...]

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(dict.fromkeys(each.seed for each in self.trained))

  @property
  def measures(self) -> tuple[str, ...]:
    return tuple(measure.name for measure in self.protocol.measures)

  def over_seeds(self, measure: str, part: str = "test") -> Interval:
    """Mean over the videos of a fold, over folds, over seeds; the interval is of the seeds.

    It tells what another seed would give on these videos, and nothing of other videos.
    """
    return Interval.of(
      [
        float(np.mean([getattr(t, part).mean(measure) for t in self.trained if t.seed == seed]))
        for seed in self.seeds
      ]
    )

  def by_video(self, measure: str) -> dict[str, list[float]]:
    """{video id: a value for each training that tests it}."""
    values: dict[str, list[float]] = {}
    for each in self.trained:
      for video, value in each.test.by_video[measure].items():
        values.setdefault(video, []).append(value)
    return values

  def more_than(self, predictor: str, measure: str) -> Interval:
    """What is gained on a row of the context, video by video; the interval is of the videos.

    Of a video, the mean over seeds (and folds, where several test it) counts.
    """
    row = next(result for result in self.context if result.predictor == predictor)
    return Interval.of(
      [
        float(np.mean(values)) - row.by_video[measure][video]
        for video, values in self.by_video(measure).items()
      ]
    )

  def as_json(self) -> dict[str, Any]:
    """The report.

    {"schema": 1, "protocol": "tvsum-rank", "selection": "...", "seeds": [0, 1, 2],
     "split": {"name": "...", "tests_each_video_once": true, "never_tested": 0,
               "tested_again": 0, "folds": [{"train": [...], "validation": [...],
               "test": [...]}, ...]},
     "measures": {"tau": {"mean": 0.1, "half_interval_over_seeds": 0.01,
                  "validation": {"mean": ..., "half_interval_over_seeds": ...},
                  "more_than_centre_prior": {"mean": ..., "half_interval_over_videos": ...},
                  "context": {"random": 0.0, ...},
                  "by_video": {"video_1": {"student": [a value a training], "random": ...}}},
                  ...},
     "trainings": [{"fold": 0, "seed": 0, "step": 200, "test": {"tau": ...},
                    "validation": {"tau": ...}}, ...]}
    """
    overlap = self.split.overlap
    return {
      "schema": SCHEMA,
      "protocol": self.protocol.name,
      "description": self.protocol.description,
      "selection": self.selection,
      "seeds": list(self.seeds),
      "split": {
        "name": self.split.name,
        "tests_each_video_once": self.split.is_partition,
        **dataclasses.asdict(overlap),
        "folds": [dataclasses.asdict(fold) for fold in self.split.folds],
      },
      "measures": {measure: self._measure_as_json(measure) for measure in self.measures},
      "trainings": [
        {
          "fold": each.fold,
          "seed": each.seed,
          **each.about,
          **{
            part: {measure: getattr(each, part).mean(measure) for measure in self.measures}
            for part in ("test", "validation")
          },
        }
        for each in self.trained
      ],
    }

  def _measure_as_json(self, measure: str) -> dict[str, Any]:
    rows = {row.predictor: row for row in self.context if measure in row.by_video}
    gain = self.more_than(context.CENTRE, measure)
    return {
      **_over_seeds(self.over_seeds(measure)),
      "validation": _over_seeds(self.over_seeds(measure, "validation")),
      "more_than_centre_prior": {"mean": gain.mean, "half_interval_over_videos": gain.half},
      "context": {name: row.mean(measure) for name, row in rows.items()},
      "by_video": {
        video: {"student": values}
        | {name: row.by_video[measure][video] for name, row in rows.items()}
        for video, values in self.by_video(measure).items()
      },
    }


def _over_seeds(interval: Interval) -> dict[str, float | None]:
  return {"mean": interval.mean, "half_interval_over_seeds": interval.half}
