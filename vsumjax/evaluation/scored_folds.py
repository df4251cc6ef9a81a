"""What files of scores reach on each fold of a split, and over the folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vsumjax.evaluation.folds_report import overlap_notes
from vsumjax.evaluation.protocols import Result
from vsumjax.evaluation.report import show
from vsumjax.evaluation.score_sets import ScoredSet
from vsumjax.evaluation.splits import Split


@dataclasses.dataclass(frozen=True)
class ScoredFolds:
  """The folds of a split, measured.

  Attributes:
    split: that the folds are of.
    sets: the test videos of each fold, with their scores.
    results: of each fold, protocol after protocol.
  """

  split: Split
  sets: Sequence[ScoredSet]
  results: Sequence[Sequence[Result]]

  @property
  def notes(self) -> tuple[str, ...]:
    """The means over folds, and how far the folds are from testing every video once."""
    means = "; ".join(
      f"{result.protocol} " + ", ".join(f"{m} {show(result, m)}" for m in result.by_video)
      for result in self._over_folds()
    )
    mean = f"Mean over the {len(self.sets)} folds, as papers have it: {means}."
    return (mean, *overlap_notes(self.split))

  def as_json(self) -> dict[str, Any]:
    """The figures of each fold and over all.

    {"split": "splits", "means": {"tvsum-rank": {"tau": 0.11, "rho": 0.14}, ...},
     "by_fold": [{"fold": 0, "files": ["split0.json"], "num_videos": 10, "means": {...}}, ...]}
    """
    return {
      "split": self.split.name,
      "means": _means(self._over_folds()),
      "by_fold": [
        {
          "fold": each.fold,
          "files": list(map(str, each.files)),
          "num_videos": len(each.videos),
          "means": _means(results),
        }
        for each, results in zip(self.sets, self.results, strict=True)
      ],
    }

  def _over_folds(self) -> list[Result]:
    """For each protocol a result whose values are the means of the folds."""
    return [
      dataclasses.replace(
        of_folds[0],
        by_video={
          measure: {str(fold): result.mean(measure) for fold, result in enumerate(of_folds)}
          for measure in of_folds[0].by_video
        },
      )
      for of_folds in zip(*self.results, strict=True)
    ]


def _means(results: Sequence[Result]) -> Mapping[str, Mapping[str, float]]:
  return {
    result.protocol: {measure: result.mean(measure) for measure in result.by_video}
    for result in results
  }
