"""Time: cutting a video into segments, where to look in them, and what annotators said of them."""

from __future__ import annotations

import math

import numpy as np

from vsumjax.data.manifest import Labels
from vsumjax.types import InputError

_LEAST_LABELLED_S = 1e-3  # below this an overlap is rounding, not a label


def cut(duration_s: float, segment_s: float) -> np.ndarray:
  """Cuts [0, duration_s) into contiguous segments.

  A last piece shorter than half a segment is merged into the one before. `cut(7.0, 2.0)` is
  [[0, 2], [2, 4], [4, 6], [6, 7]] and `cut(6.9, 2.0)` is [[0, 2], [2, 4], [4, 6.9]].

  Returns:
    f64[N, 2], start and end in seconds, N >= 1.

  Raises:
    InputError: a duration or segment length that is not a positive number.
  """
  for name, value in (("duration_s", duration_s), ("segment_s", segment_s)):
    if not 0 < value < math.inf:
      raise InputError(f"{name} must be a number of seconds above 0, is {value}")
  num_segments = max(1, math.floor(duration_s / segment_s + 0.5))
  edges_s = np.arange(num_segments + 1) * float(segment_s)
  edges_s[-1] = duration_s
  return np.stack([edges_s[:-1], edges_s[1:]], axis=1)


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
  [0.5, 0, 0.5, 0, 0].

  Returns:
    f32[N, C]; a row sums to 1, and is all zeros where no label covers the span.

  Raises:
    InputError: a level above `num_levels`.
  """
  highest = int(labels.levels_AN.max())
  if highest > num_levels:
    raise InputError(f"a label has level {highest}, above the {num_levels} levels of the model")
  levels_AN = labels.levels_AN
  # Here U counts the labelled units, N the spans asked for.
  share_UC = (levels_AN[:, :, None] == np.arange(1, num_levels + 1)).mean(axis=0)
  unit_start_U = np.arange(levels_AN.shape[1]) * labels.unit_s
  start_NU = np.maximum(span_s_N2[:, :1], unit_start_U)
  end_NU = np.minimum(span_s_N2[:, 1:], unit_start_U + labels.unit_s)
  overlap_NU = np.maximum(end_NU - start_NU, 0.0)
  covered_N1 = overlap_NU.sum(axis=1, keepdims=True)
  is_labelled_N1 = covered_N1 >= _LEAST_LABELLED_S
  weight_NU = np.where(is_labelled_N1, overlap_NU / np.where(is_labelled_N1, covered_N1, 1.0), 0.0)
  return (weight_NU @ share_UC).astype(np.float32)
