"""Where a sequence of frame features changes: kernel temporal segmentation, and shot boundaries."""

from __future__ import annotations

import math

import numpy as np

from vsumjax.types import InputError

_BLOCK_ELEMENTS = 1 << 21  # of float64 in one block of costs: 16 MiB
_BLOCK_ROWS = (96, 1024)  # least and most ends of segments looked at together

# Shots. Distances are in the unit of the colours, here thought of as 0..1.
_LEAST_CUT = 0.03
_CUT_RATIO = 3.0  # a cut stands out from what is around it by so much
_AROUND_S = 1.0
_USUAL_PERCENTILE = 60
_FLASH_S = 0.4
_LEAST_GRADUAL = 0.1
_GRADUAL_RATIO = 2.0
_HALF_GRADUAL_S = 0.5
_DISTANCE_ROWS = 4096  # frames compared at once, so that long videos need no large temporaries


def kts(
  features_TD: np.ndarray,
  *,
  max_segments: int,
  penalty: float = 1.0,
  min_length: int = 1,
  max_length: int | None = None,
) -> np.ndarray:
  """Kernel temporal segmentation with the linear kernel, exact.

  Potapov, Douze, Harchaoui and Schmid, "Category-specific video summarization", ECCV 2014. With m
  change points in n = T frames, it minimises over m and over where they are

      L_m + C * m * (log(n / m) + 1),        C = `penalty`; no penalty where m = 0,

  where L_m is the within-segment scatter: the sum over frames of the squared distance to the mean
  of their segment. C is thus in units of squared feature. The `cpd_auto` that many projects carry
  around divides both terms by n and writes the second with vmax / 2 for C: the same minimum, with
  `vmax = 2 * penalty`. Its option `desc_rate` has no counterpart. Its `lmax` allows segments of
  `lmax - 1` frames at the start and of `lmax` elsewhere; `max_length` is the same for all.

  Of equally good numbers of segments the smallest is taken, of equally good places of the last
  change point the earliest, then likewise of the one before it.

  Scatters come from cumulative sums, block by block; no T x T matrix is ever held. With
  M = `max_length` (T if None) and K = `max_segments`, time is O(T * M * (D + K)), and memory, in
  bytes: 8 D (T + 2 M + 2,048) for sums, K T for the way back (2 K T from M = 256 on, 4 K T from
  65,536 on), 16 K (M + 1,024) for running minima, and 80 MiB, or 4,000 M where that is more, for
  blocks of costs. Three hours at 2 frames a second (T = 21,600) with M = 80, K = 2,160 and D = 256
  take seconds; without a bound on the length, minutes.

  Args:
    features_TD: real[T, D], finite, one row a frame. Rows of norm 1 make the kernel a cosine.
    max_segments: the most segments that are considered, >= 1.
    penalty: C, >= 0.
    min_length: of a segment, in frames.
    max_length: of a segment, in frames; None for no bound.

  Returns:
    i64[segments + 1], ascending: segment k is frames edges[k] .. edges[k + 1] - 1; from 0 to T.

  Raises:
    InputError: features that are not finite or not [T, D] with T >= 1, a negative penalty, or
      lengths and numbers of segments that cannot cover T frames.
  """
  features_TD = _require_finite("features", features_TD, "T, D")
  num_frames = len(features_TD)
  max_length = num_frames if max_length is None else min(max_length, num_frames)
  max_segments = min(max_segments, num_frames // max(min_length, 1))
  if not (penalty >= 0 and 1 <= min_length <= max_length):
    raise InputError(
      f"kts: penalty {penalty} must be at least 0, and min_length {min_length} at least 1 and at"
      f" most max_length and the {num_frames} frames"
    )
  if math.ceil(num_frames / max_length) > max_segments:
    raise InputError(
      f"kts: {num_frames} frames cannot be cut into at most {max_segments} segments of"
      f" {min_length} to {max_length} frames; allow more or longer ones"
    )
  scatter_K, length_KT = _segment(features_TD, max_segments, min_length, max_length)
  changes_K = np.arange(max_segments)
  per_change_K = np.log(num_frames / np.maximum(changes_K, 1)) + 1
  num_segments = 1 + int(np.argmin(scatter_K + penalty * changes_K * per_change_K))
  return _trace_back(length_KT, num_segments)


def _require_finite(name: str, values: np.ndarray, axes: str) -> np.ndarray:
  values = np.asarray(values)
  if values.ndim != axes.count(",") + 1 or not values.size:
    raise InputError(f"{name} must be [{axes}], none of them 0, are {list(values.shape)}")
  is_finite_T = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
  if not is_finite_T.all():
    raise InputError(f"{name} of frame {np.argmin(is_finite_T)} are not finite numbers")
  return values


def _segment(
  features_TD: np.ndarray, max_segments: int, min_length: int, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
  """Least scatters of 1..K segments, f64[K], and the way back, uint[K, T + 1].

  `length[k, t]` is how long the last of k + 1 segments is that cover the first t frames best.
  """
  num_frames = len(features_TD)
  sum_TD, square_T = _cumulative_sums(features_TD)
  length_KT = np.zeros((max_segments, num_frames + 1), np.min_scalar_type(max_length))
  least, most = _BLOCK_ROWS
  num_rows = max(least, min(most, _BLOCK_ELEMENTS // max_length))
  # Row k of `best` is for k segments; its columns end where the block does.
  best = np.full((max_segments + 1, max_length + num_rows), np.inf)
  best[0, -1] = 0.0
  for first in range(1, num_frames + 1, num_rows):
    end_B = np.arange(first, min(first + num_rows, num_frames + 1))
    best = np.roll(best, -len(end_B), axis=1)
    best[:, -len(end_B) :] = np.inf
    reach = min(max_length, int(end_B[-1]))
    # Column c is for a last segment of `reach - c` frames.
    cost_BR = _scatters(sum_TD, square_T, end_B, reach)[:, : reach - min_length + 1]
    fewest = math.ceil(first / max_length)
    for k in range(fewest, min(max_segments, int(end_B[-1]) // min_length) + 1):
      before = best[k - 1, best.shape[1] - len(end_B) - reach :]
      window_BR = np.lib.stride_tricks.sliding_window_view(before, cost_BR.shape[1])[: len(end_B)]
      total_BR = window_BR + cost_BR
      column_B = np.argmin(total_BR, axis=1)
      best[k, -len(end_B) :] = total_BR[np.arange(len(end_B)), column_B]
      length_KT[k - 1, end_B] = reach - column_B
  return best[1:, -1], length_KT


def _cumulative_sums(features_TD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sums over the first t frames of x - x_0, f64[T + 1, D], and of its square, f64[T + 1].

  Scatter does not change with the origin; this one keeps large offsets out of the sums, and sums of
  whole numbers exact.
  """
  sum_TD = np.zeros((len(features_TD) + 1, features_TD.shape[1]))
  np.subtract(features_TD, features_TD[0], out=sum_TD[1:], dtype=np.float64)
  square_T = np.cumsum(np.einsum("td,td->t", sum_TD, sum_TD))
  np.cumsum(sum_TD, axis=0, out=sum_TD)
  return sum_TD, square_T


def _scatters(
  sum_TD: np.ndarray, square_T: np.ndarray, end_B: np.ndarray, reach: int
) -> np.ndarray:
  """f64[B, reach]: scatter of the frames [end - reach + c, end) in column c; inf before frame 0."""
  first, num_rows = int(end_B[0]), len(end_B)
  start_S = np.arange(first - reach, first + num_rows - 1)
  inside_S = np.maximum(start_S, 0)
  # Sums from the block's first row on, so that nothing large is subtracted from something large.
  start_SD = sum_TD[inside_S] - sum_TD[first]
  end_BD = sum_TD[end_B] - sum_TD[first]
  distance_BS = -2 * end_BD @ start_SD.T
  distance_BS += np.einsum("sd,sd->s", start_SD, start_SD)
  distance_BS += np.einsum("bd,bd->b", end_BD, end_BD)[:, None]
  square_S = np.where(start_S < 0, -np.inf, square_T[inside_S])
  rows_B = np.arange(num_rows)
  by_length = np.lib.stride_tricks.sliding_window_view
  cost_BR = by_length(distance_BS, reach, axis=1)[rows_B, rows_B] / -np.arange(reach, 0, -1)
  cost_BR += square_T[end_B][:, None] - by_length(square_S, reach)
  return np.maximum(cost_BR, 0.0, out=cost_BR)


def _trace_back(length_KT: np.ndarray, num_segments: int) -> np.ndarray:
  edges = np.zeros(num_segments + 1, np.int64)
  edges[-1] = length_KT.shape[1] - 1
  for k in range(num_segments, 0, -1):
    edges[k - 1] = edges[k] - length_KT[k - 1, edges[k]]
  return edges


def shot_boundaries(colours_TPC: np.ndarray, frames_per_s: float) -> np.ndarray:
  """Where shots begin, from small pictures of frames taken at a fixed rate.

  The distance of two frames is the median over the P cells of the picture of the Euclidean distance
  of their colours: a cut changes nearly every cell, a thing that moves or appears changes some.

  A cut is where the distance of neighbouring frames is the largest within 0.4 s either way, is at
  least 0.03 plus 3 times what is usual around it (the 60th percentile within 1 s either way), and
  lasts: frames 1, 2, ... steps before are apart from those as many steps after by at least half of
  it, up to 0.4 s. So no flash of up to 0.4 s is a cut. The idea of a threshold local in time is
  that of Yeo and Liu, "Rapid scene analysis on compressed video", IEEE Transactions on Circuits and
  Systems for Video Technology 5(6), 1995; with a percentile in place of the second largest distance
  it holds where two cuts are close together. The 60th, not the 50th, tells motion from cuts where a
  video has half as many frames a second as are looked at, and every second distance is 0.

  A gradual change (dissolve, fade, wipe) is where frames 0.5 s before and after are apart by 0.1
  and by twice what either shot changes by in such a time, and no cut is near. It is placed in its
  middle, as well as that can be told; a quick one counts as a cut at any of its steps. Changes much
  longer than 1 s are missed, as are those within 1.5 s of either end and those between shots whose
  cameras move fast.

  Args:
    colours_TPC: real[T, P, C], finite: P cells of frame t in a colour space where Euclidean
      distances are about those that people see, black and white being 1 apart.
    frames_per_s: the rate of the frames; 8 to 12 is meant.

  Returns:
    i64[shots - 1], ascending: the first frame of every shot but the first.

  Raises:
    InputError: colours that are not finite, or not [T, P, C].
  """
  colours_TPC = _require_finite("colours", colours_TPC, "T, P, C")
  cuts = _hard_cuts(colours_TPC, frames_per_s)
  half = max(1, round(_HALF_GRADUAL_S * frames_per_s))
  changes = _gradual_changes(colours_TPC, half)
  is_near = np.abs(changes[:, None] - cuts).min(axis=1, initial=2 * half + 2) <= 2 * half + 1
  return np.sort(np.concatenate([cuts, changes[~is_near]]))


def _hard_cuts(colours_TPC: np.ndarray, frames_per_s: float) -> np.ndarray:
  flash = max(1, round(_FLASH_S * frames_per_s))
  around = max(1, round(_AROUND_S * frames_per_s))
  distance_T = _distances(colours_TPC, 1)  # entry t is between frames t and t + 1
  steps = np.arange(1, flash + 1)
  cuts = []
  for t in _peaks(distance_T, flash, _LEAST_CUT):
    near = np.concatenate([distance_T[max(t - around, 0) : t], distance_T[t + 1 : t + 1 + around]])
    usual = np.percentile(near, _USUAL_PERCENTILE) if len(near) else 0.0
    before = colours_TPC[np.maximum(t - steps, 0)]
    after = colours_TPC[np.minimum(t + 1 + steps, len(colours_TPC) - 1)]
    lasts = (_apart(before, after) >= distance_T[t] / 2).all()
    if lasts and distance_T[t] >= _LEAST_CUT + _CUT_RATIO * usual:
      cuts.append(t + 1)
  return np.array(cuts, np.int64)


def _gradual_changes(colours_TPC: np.ndarray, half: int) -> np.ndarray:
  lag = 2 * half + 1
  distance_T = _distances(colours_TPC, lag)  # entry t is between frames t and t + lag
  # Nothing is known of what comes before the first frame and after the last one.
  padded = np.pad(distance_T, lag, constant_values=np.inf)
  within_shots_T = np.maximum(padded[: len(distance_T)], padded[2 * lag :])
  excess_T = distance_T - _GRADUAL_RATIO * within_shots_T
  return _peaks(excess_T, 2 * half, _LEAST_GRADUAL) + half + 1


def _peaks(values_T: np.ndarray, reach: int, least: float) -> np.ndarray:
  """Where a value is at least `least` and the largest within `reach` steps, the first of equals."""
  if not len(values_T):
    return np.zeros(0, np.int64)
  padded = np.pad(values_T, reach, constant_values=-np.inf)
  windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
  return np.flatnonzero((windows.argmax(axis=1) == reach) & (values_T >= least))


def _distances(colours_TPC: np.ndarray, lag: int) -> np.ndarray:
  """f64[max(T - lag, 0)]: how far frames t and t + lag are apart."""
  num_pairs = max(len(colours_TPC) - lag, 0)
  distance_T = np.zeros(num_pairs)
  for first in range(0, num_pairs, _DISTANCE_ROWS):
    rows = slice(first, min(first + _DISTANCE_ROWS, num_pairs))
    later = slice(rows.start + lag, rows.stop + lag)
    distance_T[rows] = _apart(colours_TPC[rows], colours_TPC[later])
  return distance_T


def _apart(one_TPC: np.ndarray, other_TPC: np.ndarray) -> np.ndarray:
  difference_TPC = np.subtract(one_TPC, other_TPC, dtype=np.float64)
  return np.median(np.linalg.norm(difference_TPC, axis=2), axis=1)
