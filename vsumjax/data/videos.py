"""The videos of a manifest: what is known of each before its file is opened."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from vsumjax.types import InputError

NUM_LEVELS = 5
Location = pathlib.Path | str  # a file, or a URL that fsspec can open


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
  """Importance levels that annotators gave to one video.

  unit_s:    seconds one level covers; unit n is [n * unit_s, (n + 1) * unit_s).
  levels_AN: i8[A annotators, N units], 1 (least important) to 5.
  """

  unit_s: float
  levels_AN: np.ndarray


@dataclasses.dataclass(frozen=True)
class Prepared:
  """Where the segments of a video lie: from record `first` of an ArrayRecord file on."""

  shard: pathlib.Path
  first: int


@dataclasses.dataclass(frozen=True)
class Video:
  """One video of a manifest; see the top of `manifest`. Paths can be opened as they are.

  allow_cut: take what there is of media that is cut off, where it would be refused otherwise.
  """

  id: str
  media: Location | None
  title: str
  split: str
  transcript: Location | None = None
  labels: Labels | None = None
  sounds: Location | None = None
  duration_s: float | None = None
  edges_s: tuple[float, ...] | None = None
  prepared: Prepared | None = None
  allow_cut: bool = False


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The videos of a manifest, in its order.

  digest: blake2b-16 hex over the content; it depends neither on the folder the manifest lies in nor
    on the order of the keys of a line.
  """

  path: pathlib.Path
  videos: tuple[Video, ...]
  digest: str

  @property
  def splits(self) -> frozenset[str]:
    return frozenset(video.split for video in self.videos)

  def of_split(self, split: str) -> tuple[Video, ...]:
    """The videos of one split, in order. Raises InputError where there is none."""
    videos = tuple(video for video in self.videos if video.split == split)
    if not videos:
      known = ", ".join(sorted(self.splits))
      raise InputError(f"{self.path}: no video of split {split!r}; the splits are: {known}")
    return videos
