"""Cutting a video into segments: every so many seconds, where shots change, or by KTS.

Shots and KTS look at small pictures of frames sampled at a fixed rate: the video is decoded once
more, and of a frame only its features are kept, 768 bytes for shots and 1 kB for KTS. Sample i is
the middle of [i / rate, (i + 1) / rate] and edges lie between samples, so a cut is found within
half a step: 0.05 s for shots, 0.25 s for KTS.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable

import numpy as np

from vsumjax.media import segmentation, segments, video
from vsumjax.types import InputError

KINDS = ("fixed", "shots", "kts")
SHOT_RATE = 10.0  # frames a second
KTS_RATE = 2.0
MIN_SEGMENT_S = 0.5

_SIDE = 32  # of the picture that frames are scaled to
_GRID = 8  # cells of the layout along a side
_BINS = 4  # of the histogram along a colour axis
_YCC_FROM_RGB = np.array(  # ITU-R BT.601: brightness, blue and red difference
  [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
_KTS_PENALTY = 0.06  # finds most cuts between shots of 2 s, and leaves steady shots whole
_KTS_LONGEST_S = 40.0  # bounds its time; a segment this long is divided afterwards in any case


def cut_video(
  kind: str,
  media: str | os.PathLike[str],
  duration_s: float,
  segment_s: float,
  *,
  allow_cut: bool = False,
) -> np.ndarray:
  """Cuts a video in one of the ways of `KINDS`.

  Args:
    kind: "fixed" does not open the file (`segments.cut`).
    media: a media file with a video stream.
    duration_s: of the video.
    segment_s: length of a segment where it is fixed, else of the longest one.
    allow_cut: look at what there is of a file that is cut off.

  Returns:
    f64[N, 2], start and end in seconds; contiguous, from 0 to `duration_s`, N >= 1.

  Raises:
    InputError: naming what is wrong: kind, duration, length, or the file.
  """
  if kind not in KINDS:
    raise InputError(f"segmentation: must be one of {', '.join(KINDS)}, is {kind!r}")
  if kind == "fixed":
    return segments.cut(duration_s, segment_s)
  cut_media = cut_at_shots if kind == "shots" else cut_by_kts
  return cut_media(media, duration_s, segment_s, allow_cut=allow_cut)


def cut_at_shots(
  media: str | os.PathLike[str],
  duration_s: float,
  max_segment_s: float,
  *,
  allow_cut: bool = False,
) -> np.ndarray:
  """Cuts where shots change, as `segmentation.shot_boundaries` finds them in 10 frames a second.

  A segment shorter than MIN_SEGMENT_S, or half of `max_segment_s` if that is less, is merged with
  the one after it, the last one with the one before. One longer than `max_segment_s` is divided
  into equal pieces, as few as possible.

  Returns:
    f64[N, 2], as `cut_video`.

  Raises:
    InputError: as `cut_video`.
  """
  segments.check_seconds(duration_s=duration_s, max_segment_s=max_segment_s)
  colours_TPC = _sampled(media, duration_s, SHOT_RATE, _layout, allow_cut)
  firsts = segmentation.shot_boundaries(colours_TPC, SHOT_RATE)
  return _as_segments(firsts / SHOT_RATE, duration_s, max_segment_s)


def cut_by_kts(
  media: str | os.PathLike[str],
  duration_s: float,
  max_segment_s: float,
  *,
  allow_cut: bool = False,
) -> np.ndarray:
  """Cuts by `segmentation.kts` on 2 frames a second.

  The features are the layout, 8 x 8 cells in YCbCr divided by 8, and the square roots of the shares
  of 4 x 4 x 4 colours, whose products are Bhattacharyya coefficients. KTS considers segments of up
  to 40 s, or `max_segment_s` if that is more, and of 1 s or more on average; then short ones are
  merged and long ones divided as by `cut_at_shots`. Beside the decoding, three hours need some 20 s
  and 500 MiB.

  Returns:
    f64[N, 2], as `cut_video`.

  Raises:
    InputError: as `cut_video`.
  """
  segments.check_seconds(duration_s=duration_s, max_segment_s=max_segment_s)
  features_TD = _sampled(media, duration_s, KTS_RATE, _layout_and_colours, allow_cut)
  edges = segmentation.kts(
    features_TD,
    max_segments=math.ceil(len(features_TD) / KTS_RATE),
    penalty=_KTS_PENALTY,
    max_length=math.ceil(max(max_segment_s, _KTS_LONGEST_S) * KTS_RATE),
  )
  return _as_segments(edges[1:-1] / KTS_RATE, duration_s, max_segment_s)


def _sampled(
  media: str | os.PathLike[str],
  duration_s: float,
  rate: float,
  describe: Callable[[np.ndarray], np.ndarray],
  allow_cut: bool,
) -> np.ndarray:
  """f32[T, ...]: what `describe` says of the frames in the middles of steps of 1 / rate seconds."""
  num_samples = max(1, math.ceil(duration_s * rate - 0.5))
  times_s = (np.arange(num_samples) + 0.5) / rate
  frames = video.iter_frames(media, times_s, (_SIDE, _SIDE), allow_cut=allow_cut)
  return np.stack([describe(frame).astype(np.float32) for frame in frames])


def _layout(frame: np.ndarray) -> np.ndarray:
  """f64[cells, 3]: mean colour of each cell in YCbCr; black and white are 1 apart."""
  cell = _SIDE // _GRID
  rgb_PC = frame.reshape(_GRID, cell, _GRID, cell, 3).mean(axis=(1, 3)).reshape(-1, 3)
  return rgb_PC / 255 @ _YCC_FROM_RGB.T


def _layout_and_colours(frame: np.ndarray) -> np.ndarray:
  return np.concatenate([_layout(frame).ravel() / _GRID, np.sqrt(_colour_shares(frame))])


def _colour_shares(frame: np.ndarray) -> np.ndarray:
  """f64[bins ** 3], sums to 1. A pixel counts for the bins around it, each as near as it is.

  With bins that end sharply, a flat wall would change its bin, and so all of the histogram, with
  the least noise.
  """
  place_N3 = frame.reshape(-1, 3) / 255 * (_BINS - 1)
  low_N3 = np.minimum(place_N3.astype(int), _BINS - 2)
  share_N3 = place_N3 - low_N3
  counts = np.zeros(_BINS**3)
  for corner in itertools.product((0, 1), repeat=3):
    weight_N = np.where(corner, share_N3, 1 - share_N3).prod(axis=1)
    bin_N = (low_N3 + corner) @ (_BINS**2, _BINS, 1)
    counts += np.bincount(bin_N, weight_N, _BINS**3)
  return counts / len(place_N3)


def _as_segments(cut_s: np.ndarray, duration_s: float, max_segment_s: float) -> np.ndarray:
  """f64[N, 2]: segments between ascending cuts, the short ones merged, the long ones divided."""
  least_s = min(MIN_SEGMENT_S, max_segment_s / 2)
  edges_s = [0.0]
  for time_s in cut_s:
    if time_s - edges_s[-1] >= least_s and duration_s - time_s >= least_s:
      edges_s.append(float(time_s))
  edges_s.append(float(duration_s))
  pieces = [
    # The small subtrahend keeps 3 * 0.1 s from being longer than 0.3 s.
    np.linspace(start_s, end_s, 1 + max(1, math.ceil((end_s - start_s) / max_segment_s - 1e-9)))
    for start_s, end_s in itertools.pairwise(edges_s)
  ]
  return segments.between(np.concatenate([[0.0], *(piece[1:] for piece in pieces)]))
