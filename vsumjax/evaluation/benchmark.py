"""What people said about the videos of a benchmark, in its own unit of time: the frame."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from vsumjax.types import InputError

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotatedVideo:
  """One video of a benchmark. A field is None where the benchmark's file does not have it.

  Making one raises InputError, with the video and the field, unless all of what follows holds.

  Attributes:
    id: the name of its group in the file, as "video_1".
    num_frames: F, frames that are annotated.
    picks_P: i64[P], ascending from 0, the frames that published models give a score for (every
      15th of TVSum and SumMe, every one of Mr.HiSum, whose frames are a second apart).
    fps: frames a second; 0 where the file does not tell.
    names: what else score files may call it: TVSum's id at YouTube, SumMe's file name.
    title: for people.
    levels_AF: u8[A annotators, F], importance, higher is more; only their order counts.
    summary_AF: bool[A, F], the frames that annotators kept.
    gtscore_P: f64[P], the importance that published models are trained on.
    segments_K2: i64[K, 2], first and last frame of each segment, both within it, ascending, from
      which summaries are put together. They may leave gaps and end before the last frame.
    ends_overlap: the file gives the first frame of the next segment as the end of each (Mr.HiSum);
      `segments_K2` has been mended, but its authors' means still take that frame in.
    category: TVSum's, as "VT"; "" where the benchmark has none.
  """

  id: str
  num_frames: int
  picks_P: Array
  fps: float
  names: tuple[str, ...] = ()
  title: str = ""
  levels_AF: Array | None = None
  summary_AF: Array | None = None
  gtscore_P: Array | None = None
  segments_K2: Array | None = None
  ends_overlap: bool = False
  category: str = ""

  def __post_init__(self):
    if self.num_frames < 1:
      self._refuse("num_frames", f"must be at least 1, is {self.num_frames}")
    if not 0 <= self.fps < math.inf:
      self._refuse("fps", f"must be a number, and 0 where it is not known, is {self.fps}")
    self._check_picks()
    self._check_shape("levels_AF", "annotators", self.num_frames)
    self._check_shape("summary_AF", "annotators", self.num_frames)
    self._check_shape("gtscore_P", self.num_picks)
    if self.gtscore_P is not None and not np.isfinite(self.gtscore_P).all():
      pick = np.argmin(np.isfinite(self.gtscore_P))
      self._refuse("gtscore_P", f"entry {pick} is {self.gtscore_P[pick]}, must be finite")
    self._check_shape("segments_K2", "segments", 2)
    if self.segments_K2 is not None:
      self._check_segments(self.segments_K2)

  @property
  def num_picks(self) -> int:
    return len(self.picks_P)

  def _refuse(self, field: str, problem: str) -> None:
    raise InputError(f"{self.id}: {field}: {problem}")

  def _check_shape(self, field: str, *shape: int | str) -> None:
    """A number is a length, a name any length above 0."""
    array = getattr(self, field)
    if array is None:
      return
    fits = array.ndim == len(shape) and all(
      length > 0 if isinstance(want, str) else length == want
      for length, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
      told = ", ".join(str(length) for length in shape)
      self._refuse(field, f"has shape {list(array.shape)}, expected [{told}]")

  def _check_picks(self) -> None:
    self._check_shape("picks_P", "picks")
    picks_P = self.picks_P
    if picks_P[0] != 0:
      self._refuse("picks_P", f"the first must be frame 0, is {picks_P[0]}")
    for p in np.flatnonzero(np.diff(picks_P) <= 0)[:1]:
      self._refuse("picks_P", f"must ascend, but {picks_P[p]} is followed by {picks_P[p + 1]}")
    if picks_P[-1] >= self.num_frames:
      self._refuse("picks_P", f"frame {picks_P[-1]} is not of the {self.num_frames} frames")

  def _check_segments(self, segments_K2: Array) -> None:
    first_K, last_K = segments_K2.T
    for k in np.flatnonzero(last_K < first_K)[:1]:
      self._refuse("segments_K2", f"segment {k} ends before it starts: {segments_K2[k].tolist()}")
    for k in np.flatnonzero(first_K[1:] <= last_K[:-1])[:1]:
      pair = f"{segments_K2[k].tolist()} and {segments_K2[k + 1].tolist()}"
      self._refuse("segments_K2", f"segments {k} and {k + 1} overlap or do not ascend: {pair}")
    if first_K[0] < 0 or last_K[-1] >= self.num_frames:
      span = [int(first_K[0]), int(last_K[-1])]
      self._refuse("segments_K2", f"reach over {span}, but the video has {self.num_frames} frames")


def uniform_segments(num_frames: int, length: int) -> Array:
  """i64[K, 2], first and last frame of segments of one length; the last may be shorter.

  Raises:
    InputError: a number of frames or a length below 1.
  """
  if num_frames < 1 or length < 1:
    raise InputError(
      f"cannot cut {num_frames} frames into segments of {length}: both must be at least 1"
    )
  first_K = np.arange(0, num_frames, length)
  return np.stack([first_K, np.minimum(first_K + length, num_frames) - 1], axis=1)
