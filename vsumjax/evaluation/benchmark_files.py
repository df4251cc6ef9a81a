"""Benchmarks out of the HDF5 files that the field trains and tests on, told apart by their keys."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.host import arrays, hdf5, tvsum_tsv
from vsumjax.media.segmentation import kts
from vsumjax.types import InputError

KTS = "kts:"
_KTS_PENALTY = 0.5
_CHANGE_POINTS = "change_points"

Array = np.ndarray
Path = str | os.PathLike[str]


def load_benchmark(
  path: Path, *, segments: str | None = None, annotations: Path | None = None
) -> tuple[AnnotatedVideo, ...]:
  """The videos of a benchmark, video_2 before video_10.

  Every group of the file is a video. Keys that are read, all else is passed over:

    n_frames                   else as many as `user_summary` or `user_anno` has columns; a file
                               with no `picks` either has an entry of `gtscore` for every frame
    picks                      else every frame, if there is a `gtscore` for every frame
    fps, fps_est               else 1 in a file with neither `n_frames` nor `picks` (Mr.HiSum, MoSu)
    user_anno                  levels of importance, [annotators, n_frames]
    user_summary, gt_summary   0 or 1, [annotators, n_frames] or, of one annotator, [n_frames]; else
                               a `gtsummary` that has an entry for every frame
    gtscore, gt_score          at the picks
    video_name, video_id, youtube_id, title, category

  Segments are first and last frames, from 0. Three other habits are seen from the numbers and
  mended: the first frame of the next segment as the end (Mr.HiSum); frames counted from 1 (the
  first segment starts at 1, the last ends at `n_frames`); a last segment that takes in one frame
  more than there are.

  Args:
    path: the file, e.g. `eccv16_dataset_tvsum_google_pool5.h5` or `mr_hisum.h5`.
    segments: the key of the segments in a video's group, "kts/googlenet" one in a group of it;
      "" for none. By default `change_points`, if there are any. "kts:features" makes them out of
      the features [picks, D] under that key (`segmentation.kts`, over all numbers of segments,
      C = 0.5: the `vmax = 1` of public scripts).
    annotations: another such file, of the same videos, for what `path` does not have; or TVSum's
      `ydata-tvsum50-anno.tsv`, whose videos are video_1, video_2, ... as they come. TVSum's usual
      file has the canonical segments, but no levels.

  Raises:
    InputError: no HDF5 file or a cut one; no video; a key that is needed and not there, or is
      wrong; `segments` that no video has; a video that `annotations` lacks, or has with another
      number of frames. The message names file, video and key.
  """
  key = _CHANGE_POINTS if segments is None else segments
  videos = _load_file(path, key)
  if annotations is not None:
    others = {video.id: video for video in _load_annotations(annotations, key)}
    for video in videos:
      if video.id not in others:
        raise InputError(f"{annotations}: has no {video.id}, which {path} has")
    videos = tuple(_complete(video, others[video.id], annotations) for video in videos)
  if segments and all(video.segments_K2 is None for video in videos):
    _refuse_segments(path, segments)
  return videos


def _load_file(path: Path, segments: str) -> tuple[AnnotatedVideo, ...]:
  with hdf5.open_file(path) as file:
    keys = hdf5.names(path, file)
    if not keys:
      raise InputError(f"{path}: holds no video; get the file again")
    return tuple(_load_video(path, file, key, segments) for key in keys)


def _load_annotations(path: Path, segments: str) -> Iterable[AnnotatedVideo]:
  if h5py.is_hdf5(path):
    return _load_file(path, segments)
  return _load_tsv(pathlib.Path(path))


def _load_tsv(path: pathlib.Path) -> Iterator[AnnotatedVideo]:
  levels = tvsum_tsv.read_levels(path)
  for number, (name, (category, levels_AF)) in enumerate(levels.items(), start=1):
    where = f"{path}: video {name!r}: levels"
    yield AnnotatedVideo(
      id=f"video_{number}",
      num_frames=levels_AF.shape[1],
      picks_P=np.arange(levels_AF.shape[1]),
      fps=0.0,
      names=(name,),
      levels_AF=arrays.whole_numbers(where, levels_AF, 0, 255),
      category=category,
    )


def _load_video(path: Path, file: h5py.File, key: str, segments: str) -> AnnotatedVideo:
  group = _VideoGroup(path, file[key])
  num_frames = group.num_frames()
  picks_P = group.picks(num_frames)
  names = (group.text(name) for name in ("video_name", "video_id", "youtube_id"))
  if segments.startswith(KTS):
    features = segments.removeprefix(KTS)
    segments_K2, ends_overlap = group.kts_segments(features, picks_P, num_frames), False
  else:
    segments_K2, ends_overlap = group.segments(segments, num_frames)
  fields: dict[str, Any] = {
    "id": key,
    "num_frames": num_frames,
    "picks_P": picks_P,
    "fps": group.fps(),
    "names": tuple(name for name in names if name),
    "title": group.text("title"),
    "levels_AF": group.whole_numbers("user_anno", (None, num_frames), 255, np.uint8),
    "summary_AF": group.summaries(num_frames),
    "gtscore_P": group.scores(len(picks_P)),
    "segments_K2": segments_K2,
    "ends_overlap": ends_overlap,
    "category": group.text("category"),
  }
  try:
    return AnnotatedVideo(**fields)
  except InputError as error:
    raise InputError(f"{path}: {error}") from None


def _complete(video: AnnotatedVideo, other: AnnotatedVideo, where: Path) -> AnnotatedVideo:
  """The video with what only the other one, of the same id, has."""
  if video.num_frames != other.num_frames:
    raise InputError(
      f"{where}: {video.id}: n_frames: has {other.num_frames} frames, but the benchmark's has"
      f" {video.num_frames}; is it the same benchmark?"
    )
  names = (*video.names, *(name for name in other.names if name not in video.names))
  fields = ["fps", "title", "category", "levels_AF", "summary_AF"]
  if np.array_equal(video.picks_P, other.picks_P):
    fields.append("gtscore_P")
  found = {field: getattr(other, field) for field in fields if _is_absent(getattr(video, field))}
  if video.segments_K2 is None:
    found |= {"segments_K2": other.segments_K2, "ends_overlap": other.ends_overlap}
  return dataclasses.replace(video, names=names, **found)


def _is_absent(value: Any) -> bool:
  return value is None or (not isinstance(value, np.ndarray) and not value)


def _refuse_segments(path: Path, segments: str) -> None:
  """Raises InputError, naming the keys of the first video that hold pairs of whole numbers."""
  found = []

  def look(key: str, node: Any) -> None:
    is_array = isinstance(node, h5py.Dataset) and node.dtype.kind in "iu"
    if is_array and node.ndim == 2 and node.shape[1] == 2:
      found.append(key)

  with hdf5.open_file(path) as file:
    file[hdf5.names(path, file)[0]].visititems(look)
  instead = f"name one of {', '.join(found)}, or '' for none" if found else "name '' for none"
  raise InputError(f"{path}: no video has the segments {segments!r}; {instead}")


class _VideoGroup:
  """The group of one video. What a file need not have is None, or "", where it is not there."""

  def __init__(self, path: Path, group: h5py.Group):
    if not isinstance(group, h5py.Group):
      where = f"{path}: {group.name.strip('/')}"
      raise InputError(f"{where}: expected a group, one a video; get the file again")
    self._path, self._group = path, group
    self._keys = frozenset(group)
    self._read = functools.cache(functools.partial(hdf5.read, path, group))

  def _where(self, key: str) -> str:
    return hdf5.place(self._path, self._group, key)

  def _first(self, *keys: str) -> str | None:
    return next((key for key in keys if key in self._keys), None)

  def _number(self, key: str) -> float:
    value = arrays.number(self._where(key), self._read(key))
    arrays.require_positive(self._where(key), value)
    return value

  def whole_numbers(
    self, key: str, shape: tuple[int | None, ...], high: int, dtype: type
  ) -> Array | None:
    if key not in self._keys:
      return None
    array = np.asarray(self._read(key))
    arrays.require_shape(self._where(key), array, shape)
    return arrays.whole_numbers(self._where(key), array, 0, high, dtype)

  def text(self, key: str) -> str:
    return hdf5.read_text(self._path, self._group, key) if key in self._keys else ""

  def num_frames(self) -> int:
    if "n_frames" in self._keys:
      return int(self._number("n_frames"))
    key = self._first("user_summary", "user_anno")
    if key is None and "picks" not in self._keys:
      key = self._first("gtscore", "gt_score")
    shape = np.shape(self._read(key)) if key else ()
    if not shape:
      raise InputError(
        f"{self._where('n_frames')}: there is no such key, and no user_summary, user_anno or"
        " gtscore that has an entry for every frame"
      )
    return shape[-1]

  def picks(self, num_frames: int) -> Array:
    if "picks" in self._keys:
      return self.whole_numbers("picks", (None,), num_frames - 1, np.int64)
    key = self._first("gtscore", "gt_score")
    if key is None or len(np.atleast_1d(self._read(key))) != num_frames:
      raise InputError(
        f"{self._where('picks')}: there is no such key, and no gtscore that has an entry for each"
        f" of the {num_frames} frames"
      )
    return np.arange(num_frames)

  def fps(self) -> float:
    key = self._first("fps", "fps_est")
    if key is not None:
      return self._number(key)
    return 0.0 if self._keys & {"n_frames", "picks"} else 1.0

  def scores(self, num_picks: int) -> Array | None:
    key = self._first("gtscore", "gt_score")
    if key is None:
      return None
    array = np.asarray(self._read(key))
    arrays.require_shape(self._where(key), array, (num_picks,))
    return array.astype(np.float64)

  def summaries(self, num_frames: int) -> Array | None:
    key = self._first("user_summary", "gt_summary")
    if key is None and "gtsummary" in self._keys:
      key = "gtsummary" if np.shape(self._read("gtsummary")) == (num_frames,) else None
    if key is None:
      return None
    array = np.asarray(self._read(key))
    shape = (num_frames,) if array.ndim == 1 else (None, num_frames)
    return np.atleast_2d(self.whole_numbers(key, shape, 1, bool))

  def kts_segments(self, key: str, picks_P: Array, num_frames: int) -> Array | None:
    """i64[K, 2]: kernel temporal segmentation of the features at the picks."""
    if key not in self._group:
      return None
    features_PD = np.asarray(self._read(key))
    arrays.require_shape(self._where(key), features_PD, (len(picks_P), None))
    try:
      edges_K1 = kts(features_PD, max_segments=len(picks_P), penalty=_KTS_PENALTY)
    except InputError as error:
      raise InputError(f"{self._where(key)}: {error}") from None
    first_K = picks_P[edges_K1[:-1]]
    return np.stack([first_K, np.append(first_K[1:], num_frames) - 1], axis=1)

  def segments(self, key: str, num_frames: int) -> tuple[Array | None, bool]:
    """Of `AnnotatedVideo`: `segments_K2` and `ends_overlap`."""
    if not key or key not in self._group:
      return None, False
    array = np.asarray(self._read(key))
    arrays.require_shape(self._where(key), array, (None, 2))
    # One more frame than a video that is counted from 1 has: the worst that is mended.
    array = arrays.whole_numbers(self._where(key), array, 0, num_frames + 1, np.int64)
    return _mended(array, num_frames)


def _mended(segments_K2: Array, num_frames: int) -> tuple[Array, bool]:
  """i64[K, 2] of first and last frames, and whether the ends were the next segments' starts."""
  first_K, last_K = segments_K2.T
  if first_K[0] == 1 and last_K[-1] >= num_frames:
    first_K, last_K = first_K - 1, last_K - 1
  ends_overlap = len(first_K) > 1 and np.array_equal(last_K[:-1], first_K[1:])
  if ends_overlap:
    last_K = last_K - 1
  last_K = np.where(last_K == num_frames, num_frames - 1, last_K)
  return np.stack([first_K, last_K], axis=1), ends_overlap
