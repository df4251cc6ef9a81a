"""Which videos are trained on and which are tested, in the folds of a cross-validation."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.video_names import VideoNames
from vsumjax.host.hdf5 import number_last
from vsumjax.host.json_files import read_json
from vsumjax.types import InputError

# What the keys of one fold are called: in our files, and in those of PGL-SUM, DSNet and Mr.HiSum.
_KEYS = (("train", "test", "val"), ("train_keys", "test_keys", "val_keys"))


@dataclasses.dataclass(frozen=True)
class Fold:
  """Ids of videos. Raises InputError if one stands twice, or nothing is trained on or tested.

  Attributes:
    train: to train on.
    test: to test on.
    validation: to choose among checkpoints with, where the published split has such a part.
  """

  train: tuple[str, ...]
  test: tuple[str, ...]
  validation: tuple[str, ...] = ()

  def __post_init__(self):
    if not self.train or not self.test:
      raise InputError("a fold needs videos to train on and videos to test on")
    seen: dict[str, str] = {}
    for part in ("train", "test", "validation"):
      for video in getattr(self, part):
        if video in seen:
          raise InputError(f"{video} stands in {seen[video]} and in {part} of one fold")
        seen[video] = part


@dataclasses.dataclass(frozen=True)
class Overlap:
  """How far the folds of a split are from testing every video once.

  Attributes:
    never_tested: number of the videos that are only trained on.
    tested_again: number of the videos that several folds test.
  """

  never_tested: int
  tested_again: int


@dataclasses.dataclass(frozen=True)
class Split:
  """Named folds."""

  name: str
  folds: tuple[Fold, ...]

  @property
  def videos(self) -> frozenset[str]:
    return frozenset(
      video for fold in self.folds for video in (*fold.train, *fold.test, *fold.validation)
    )

  @property
  def overlap(self) -> Overlap:
    times = Counter(video for fold in self.folds for video in fold.test)
    return Overlap(
      never_tested=len(self.videos) - len(times),
      tested_again=sum(number > 1 for number in times.values()),
    )

  @property
  def is_partition(self) -> bool:
    """Whether every video of the split is tested exactly once."""
    return self.overlap == Overlap(never_tested=0, tested_again=0)


def true_folds(videos: Sequence[AnnotatedVideo], num_folds: int = 5, seed: int = 0) -> Split:
  """Folds that test every video exactly once, of one size to within one video.

  Where videos have a category, folds have as many of each to within one: each of 5 folds of TVSum
  tests one video of each of its 10 categories. The order of `videos` makes no difference, and the
  folds are the same on every machine and in every version of Python and NumPy.

  Raises:
    InputError: fewer than 2 folds, fewer videos than folds, or two videos with one id.
  """
  if not 2 <= num_folds <= len(videos):
    raise InputError(
      f"cannot make {num_folds} folds of {len(videos)} videos: there must be at least 2 folds, and"
      " a video for each"
    )
  ids = _stratified([video.id for video in videos], _categories(videos), seed)
  tests = [ids[fold::num_folds] for fold in range(num_folds)]
  folds = [Fold(_in_order(set(ids) - set(test)), _in_order(test)) for test in tests]
  return Split(f"{num_folds} true folds, seed {seed}", tuple(folds))


def carve_validation(
  fold: Fold, share: float, seed: int = 0, *, videos: Sequence[AnnotatedVideo] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """What is left to train on, and a validation part out of the training videos of a fold.

  The test videos are never looked at. A fold with a validation part of its own keeps that.

  Args:
    fold: to carve from.
    share: of the training videos, in (0, 1); at least one video.
    seed: another one chooses others; the choice is as stable as that of `true_folds`.
    videos: with their categories, over which the part is spread; by default they do not count.

  Raises:
    InputError: a share outside (0, 1), or one that leaves nothing to train on.
  """
  if fold.validation:
    return fold.train, fold.validation
  if not 0 < share < 1:
    raise InputError(f"share of the training videos must be above 0 and below 1, not {share}")
  ids = _stratified(fold.train, _categories(videos), seed)
  number = max(1, round(share * len(ids)))
  if number >= len(ids):
    raise InputError(f"{share:.0%} of {len(ids)} training videos leaves none to train on")
  validation = {ids[(2 * n + 1) * len(ids) // (2 * number)] for n in range(number)}
  return _in_order(set(ids) - validation), _in_order(validation)


def load_splits(
  path: str | os.PathLike[str], name: str = "", *, videos: Iterable[AnnotatedVideo]
) -> Split:
  """A split out of a file of published ones.

  Forms (docs/score_files.md has an example of each): JSON of a list of folds, of one fold, or of
  objects with such in them, where a fold is an object of `train` and `test`, or of `train_keys`
  and `test_keys`, and perhaps `val` or `val_keys`; and text, a line a fold, as
  `TVSum/split0/video_1,video_2/video_3`.

  Args:
    path: the file.
    name: which of the splits of the file, as "tvsum/csta"; "" if it has but one.
    videos: of the benchmark. The split may call them by any of their names.

  Raises:
    InputError: the file cannot be read, or has no such split; a fold names a video that the
      benchmark lacks, has one twice, or tests what it trains on.
  """
  path = pathlib.Path(path)
  content = _choose(path, _read(path), name)
  names = VideoNames(videos)
  folds = []
  for number, fold in enumerate(content):
    try:
      folds.append(_fold(fold, names))
    except InputError as error:
      raise InputError(f"{path}: fold {number}: {error}") from None
  if not folds:
    raise InputError(f"{path}: {f'split {name!r}: ' if name else ''}holds no fold")
  return Split(name or path.stem, tuple(folds))


def load_split_of_files(
  paths: Sequence[str | os.PathLike[str]], name: str = "", *, videos: Sequence[AnnotatedVideo]
) -> Split:
  """A split out of one file, or of several that hold a fold each; see `load_splits`.

  Folds are in the order of the files.
  """
  splits = [load_splits(path, name, videos=videos) for path in paths]
  if len(splits) == 1:
    return splits[0]
  folds = tuple(fold for split in splits for fold in split.folds)
  return Split(name or f"{splits[0].name} to {splits[-1].name}", folds)


def _categories(videos: Iterable[AnnotatedVideo]) -> dict[str, str]:
  return {video.id: video.category for video in videos}


def _stratified(ids: Sequence[str], categories: Mapping[str, str], seed: int) -> list[str]:
  """The ids, category after category, in an order that depends on the seed and on nothing else."""
  for twice in (video for video, number in Counter(ids).items() if number > 1):
    raise InputError(f"{twice}: there are two videos with this id")

  def digest(text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()

  def key(video: str) -> tuple[bytes, bytes]:
    return digest(f"category/{categories.get(video, '')}"), digest(f"video/{video}")

  return sorted(ids, key=key)


def _in_order(ids: Iterable[str]) -> tuple[str, ...]:
  return tuple(sorted(ids, key=lambda video: (number_last(video), video)))


def _read(path: pathlib.Path) -> Any:
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read: {error}") from None
  if text.lstrip()[:1] in ("{", "["):
    return read_json(path, "is not JSON")
  splits: dict[str, list[dict[str, list[str]]]] = {}
  for number, line in enumerate(text.splitlines(), start=1):
    parts = line.strip().split("/")
    if len(parts) == 4:
      train, test = (part.split(",") for part in parts[2:])
      splits.setdefault(parts[0], []).append({"train": train, "test": test})
    elif line.strip():
      raise InputError(f"{path}:{number}: expected DATASET/FOLD/training videos/test videos")
  return splits


def _choose(path: pathlib.Path, content: Any, name: str) -> list[Any]:
  """The folds of the split of that name."""
  splits = dict(_named_splits(content, ""))
  if not splits:
    raise InputError(f"{path}: holds no fold; see docs/score_files.md for the forms")
  if name in splits:
    return splits[name]
  if not name and len(splits) == 1:
    return next(iter(splits.values()))
  told = ", ".join(found or "one without a name" for found in splits)
  asked = f"has no split {name!r}" if name else "has several splits"
  raise InputError(f"{path}: {asked}; name one of its own: {told}")


def _named_splits(content: Any, name: str) -> Iterable[tuple[str, list[Any]]]:
  if isinstance(content, list):
    yield name, content
  elif isinstance(content, dict) and _part_names(content) is not None:
    yield name, [content]
  elif isinstance(content, dict):
    for key, value in content.items():
      yield from _named_splits(value, f"{name}/{key}" if name else key)


def _part_names(fold: Mapping[str, Any]) -> tuple[str, str, str] | None:
  return next((keys for keys in _KEYS if set(keys[:2]) <= fold.keys()), None)


def _fold(fold: Any, names: VideoNames) -> Fold:
  keys = _part_names(fold) if isinstance(fold, dict) else None
  if keys is None:
    raise InputError("must be an object of train and test, or of train_keys and test_keys")
  parts = []
  for key in keys:
    part = fold.get(key, [])
    if not isinstance(part, list) or not all(isinstance(video, str) for video in part):
      raise InputError(f"{key}: must be a list of names")
    part = [video.strip() for video in part]
    unknown = [video for video in part if video not in names]
    if unknown:
      told = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5:,} more" if unknown[5:] else "")
      raise InputError(f"{key}: names what is not a video of the benchmark: {told}")
    parts.append(tuple(names.find(video).id for video in part))
  return Fold(*parts)
