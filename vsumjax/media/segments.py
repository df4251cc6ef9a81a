"""Time: cutting a video into segments, where to look in them, and times as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vsumjax.types import InputError

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
      f"edges_s: extends to {edges_s[-1]:g} s, but the video ends at {duration_s:g} s; take away"
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


def clock(time_s: float) -> str:
  """A time as people write it: "0:07", "12:30.5", "1:02:03"; tenths only where there are any."""
  tenths = round(10 * float(time_s))
  minutes, seconds = divmod(tenths // 10, 60)
  hours, minutes = divmod(minutes, 60)
  text = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
  return f"{text}.{tenths % 10}" if tenths % 10 else text
