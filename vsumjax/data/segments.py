"""Time: cutting a video into segments, where to look in them, and what annotators said of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vsumjax.data.manifest import Labels
from vsumjax.types import InputError

_LEAST_LABELLED_S = 1e-3  # below this an overlap is rounding, not a label
_ROUNDING_S = 0.1  # durations that containers state and edges that people write differ by so much


def cut(duration_s: float, segment_s: float) -> np.ndarray:
  """Cuts [0, duration_s) into contiguous segments.

  A last piece shorter than half a segment is merged into the one before. `cut(7.0, 2.0)` is
  [[0, 2], [2, 4], [4, 6], [6, 7]] and `cut(6.9, 2.0)` is [[0, 2], [2, 4], [4, 6.9]].

  Returns:
    f64[N, 2], start and end in seconds, N >= 1.

  Raises:
    InputError: a duration or segment length that is not a positive number.
  """
  check_seconds(duration_s=duration_s, segment_s=segment_s)
  num_segments = max(1, math.floor(duration_s / segment_s + 0.5))
  edges_s = np.arange(num_segments + 1) * float(segment_s)
  edges_s[-1] = duration_s
  return between(edges_s)


def between(edges_s: Sequence[float]) -> np.ndarray:
  """f64[N, 2]: the segments between N + 1 edges."""
  edges_s = np.asarray(edges_s, np.float64)
  return np.stack([edges_s[:-1], edges_s[1:]], axis=1)


def edges_of(span_s_N2: np.ndarray) -> tuple[float, ...]:
  """The edges of segments that follow each other: `between` undone."""
  return (*span_s_N2[:, 0].tolist(), float(span_s_N2[-1, 1]))


def check_seconds(**lengths_s: float) -> None:
  """Raises InputError for the first length that is not a positive number, by its name."""
  for name, value in lengths_s.items():
    if not 0 < value < math.inf:
      raise InputError(f"{name} must be a number of seconds above 0, is {value}")


def from_edges(edges_s: Sequence[float], duration_s: float) -> np.ndarray:
  """The segments between edges that somebody chose.

  They need not cover the video: `from_edges((1, 3, 9.03), 9.0)` is [[1, 3], [3, 9]]. An edge up to
  0.1 s after the end is taken to mean the end.

  Args:
    edges_s: two or more, ascending from 0 or later, as the manifest requires.
    duration_s: of the video.

  Returns:
    f64[N, 2], start and end in seconds.

  Raises:
    InputError: an edge after the end of the video, or a duration that is not a positive number.
  """
  check_seconds(duration_s=duration_s)
  edges_s = np.asarray(edges_s, np.float64)
  if edges_s[-1] > duration_s + _ROUNDING_S or edges_s[-2] >= duration_s:
    raise InputError(
      f"edges_s: goes on to {edges_s[-1]:g} s, but the video ends at {duration_s:g} s; take away"
      " the edges after its end"
    )
  return between(np.minimum(edges_s, duration_s))


def frame_times(span_s_N2: np.ndarray, num_frames: int) -> np.ndarray:
  """Middles of `num_frames` equal parts of each span: 2 frames of [0, 2] are at 0.5 and 1.5.

  Returns:
    f64[N, F], seconds.
  """
  start_N1, end_N1 = span_s_N2[:, :1], span_s_N2[:, 1:]
  share_F = (np.arange(num_frames) + 0.5) / num_frames
  return start_N1 + (end_N1 - start_N1) * share_F


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
