"""What people said about the videos of a benchmark, in its own unit of time: the frame."""

from __future__ import annotations

import dataclasses

import numpy as np

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotatedVideo:
  """One video of a benchmark. A field is None where the benchmark's file does not have it.

  Attributes:
    id: the name of its group in the file, as "video_1".
    num_frames: F, frames that are annotated.
    picks_P: i64[P], ascending from 0, the frames that published models give a score for (every
      15th of TVSum and SumMe, every one of Mr.HiSum, whose frames are a second apart).
    fps: frames a second.
    names: what else score files may call it: TVSum's id at YouTube, SumMe's file name.
    title: for people.
    levels_AF: u8[A annotators, F], importance, higher is more; only their order counts.
    summary_AF: bool[A, F], the frames that annotators kept.
    gtscore_P: f64[P], the importance that published models are trained on.
    segments_K2: i64[K, 2], first and last frame of each segment, both within it, ascending, from
      which summaries are put together. They may leave gaps and end before the last frame.
    ends_overlap: the file gives the first frame of the next segment as the end of each (Mr.HiSum);
      `segments_K2` has been mended, but its authors' means still take that frame in.
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
