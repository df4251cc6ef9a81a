"""Scores that lie in several files: joined, or one file for each fold of a split."""

from __future__ import annotations

import dataclasses
import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.score_files import ScoreFile, read_scores, require_all
from vsumjax.evaluation.splits import Split
from vsumjax.evaluation.video_names import VideoNames
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredSet:
  """Videos whose results are averaged: of a whole benchmark, or the test videos of a fold.

  Attributes:
    fold: its number in the split; None if there is no split.
    videos: in the benchmark's order.
    predictions: of these videos, by id.
    files: that the predictions come from.
  """

  fold: int | None
  videos: tuple[AnnotatedVideo, ...]
  predictions: Mapping[str, Prediction]
  files: tuple[Path, ...]


def find_files(patterns: Sequence[str]) -> tuple[Path, ...]:
  """The files that names and globs stand for, in the order of `patterns`.

  What a glob matches is sorted, `split2` before `split10`. A name that exists is no glob, whatever
  characters it holds.

  Raises:
    InputError: a glob matches nothing, or a file is there twice.
  """
  found: list[Path] = []
  for pattern in patterns:
    if not glob.has_magic(pattern) or Path(pattern).exists():
      found.append(Path(pattern))
      continue
    # Not `Path.glob`, which matches hidden files, as those that are being written.
    matched = sorted(glob.glob(pattern, recursive=True), key=_by_numbers)  # noqa: PTH207
    if not matched:
      raise InputError(f"{pattern}: matches no file")
    found += map(Path, matched)
  for path in found:
    if found.count(path) > 1:
      raise InputError(f"{path}: is given twice")
  return tuple(found)


def tested_videos(
  videos: Sequence[AnnotatedVideo], split: Split | None, fold: int | None
) -> tuple[tuple[int | None, tuple[AnnotatedVideo, ...]], ...]:
  """The videos of each set that is measured, behind the number of its fold.

  Args:
    videos: of the benchmark.
    split: None for one set of all videos.
    fold: only this one of `split.folds`.
  """
  if split is None:
    return ((None, tuple(videos)),)
  numbers = range(len(split.folds)) if fold is None else (fold,)
  return tuple(
    (number, tuple(video for video in videos if video.id in split.folds[number].test))
    for number in numbers
  )


def load_sets(
  paths: Sequence[Path],
  videos: Sequence[AnnotatedVideo],
  *,
  split: Split | None = None,
  fold: int | None = None,
) -> tuple[ScoredSet, ...]:
  """The scores of the sets of `tested_videos`, out of files of any of the forms.

  Files that have no video in common are joined. Where folds overlap, a video may be in several
  files if there is one for each fold: the first file is then that of fold 0, and so on.

  Args:
    paths: of the files, each as `score_files.load_scores` takes it.
    videos: of the benchmark.
    split, fold: as `tested_videos` takes them.

  Raises:
    InputError: as `load_scores`; a video is in two files; a set has a video without scores.
  """
  sets = tested_videos(videos, split, fold)
  names = VideoNames(videos)
  wanted = {video.id for _, of_set in sets for video in of_set}
  files = [read_scores(path, names, wanted) for path in paths]
  twice = _in_two_files(files)
  if twice and split is not None and len(files) == len(split.folds):
    return tuple(_select(number, of_set, [files[number]]) for number, of_set in sets)
  if twice:
    raise InputError(twice + _hint(files, split))
  return tuple(_select(number, of_set, files) for number, of_set in sets)


def _by_numbers(path: str) -> list[str | int]:
  """To sort by: text and numbers in turn."""
  parts: list[str | int] = list(re.split(r"([0-9]+)", path))
  parts[1::2] = map(int, parts[1::2])
  return parts


def _in_two_files(files: Sequence[ScoreFile]) -> str:
  """A video that is in two files, and where; "" if there is none."""
  seen: dict[str, Path] = {}
  for file in files:
    for video in file.names:
      if video in seen:
        return f"{video}: is in two files, {seen[video]} and {file.path}"
      seen[video] = file.path
  return ""


def _hint(files: Sequence[ScoreFile], split: Split | None) -> str:
  if split is None:
    return "; if they are of folds that overlap, the split must be given too (--splits)"
  return (
    f"; of folds that overlap, give one file for each fold, in their order:"
    f" there are {len(split.folds)} folds and {len(files)} files"
  )


def _select(
  fold: int | None, videos: tuple[AnnotatedVideo, ...], files: Sequence[ScoreFile]
) -> ScoredSet:
  joined = {video: score for file in files for video, score in file.predictions.items()}
  paths = [file.path for file in files]
  where = _told(paths) if fold is None else f"{_told(paths)}: fold {fold}"
  has = "has" if len(paths) == 1 else "have"
  predictions = require_all(f"{where}: {has}", videos, joined)
  used = [file.path for file in files if file.predictions.keys() & predictions.keys()]
  return ScoredSet(fold, videos, predictions, tuple(used))


def _told(paths: Sequence[Path]) -> str:
  """As errors name them: "a.json and b.json", "a.json, b.json and 3 more files"."""
  if len(paths) > 3:
    return f"{paths[0]}, {paths[1]} and {len(paths) - 2} more files"
  *first, last = map(str, paths)
  return f"{', '.join(first)} and {last}" if first else last
