"""What annotators said of segments."""

from __future__ import annotations

import numpy as np

from vsumjax.data.videos import Labels
from vsumjax.types import InputError

_LEAST_LABELLED_S = 1e-3  # below this an overlap is rounding, not a label


def level_histogram(labels: Labels, span_s_N2: np.ndarray, num_levels: int) -> np.ndarray:
  """Share of annotators at each level, weighted by how long each labelled unit is in the span.

  Of two annotators who gave levels 1 and 3 to the unit a span lies in, with 5 levels:
  [0.5, 0, 0.5, 0, 0]. Memory grows with the number of units and of spans, not with their product.

  Returns:
    f32[N, C]; a row sums to 1, and is all zeros where no label covers the span.

  Raises:
    InputError: a level above `num_levels`.
  """
  highest = int(labels.levels_AN.max())
  if highest > num_levels:
    raise InputError(f"a label has level {highest}, above the {num_levels} levels of the model")
  num_units = labels.levels_AN.shape[1]
  edge_N2 = np.clip(np.asarray(span_s_N2, np.float64) / labels.unit_s, 0, num_units)
  covered_N = edge_N2[:, 1] - edge_N2[:, 0]
  is_labelled_N = covered_N * labels.unit_s >= _LEAST_LABELLED_S
  histogram_NC = np.zeros((len(edge_N2), num_levels), np.float32)
  for level in range(1, num_levels + 1):
    # How much of the level there is before each edge of a unit; between edges it grows evenly.
    share_U = (labels.levels_AN == level).mean(axis=0)
    before = np.interp(edge_N2, np.arange(num_units + 1), np.concatenate([[0], np.cumsum(share_U)]))
    amount_N = np.maximum(before[:, 1] - before[:, 0], 0)
    np.divide(amount_N, covered_N, out=histogram_NC[:, level - 1], where=is_labelled_N)
  return histogram_NC
