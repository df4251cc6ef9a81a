"""What a summariser says about a video of a benchmark, at the places where people were asked."""

from __future__ import annotations

import dataclasses

import numpy as np

Array = np.ndarray


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
