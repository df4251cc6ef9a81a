"""A manifest from one's own folder of videos."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import difflib
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping

from vsumjax.data import manifest
from vsumjax.data.videos import Labels, Video
from vsumjax.media import demux, subtitles, video
from vsumjax.media.names import is_video_name
from vsumjax.types import InputError

SPLITS = ("train", "validation", "test")
_PROBE_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Scan:
  """What is in a folder.

  videos: in the order of their ids.
  num_skipped: files that are neither videos nor words beside one.
  broken: (path in the folder, reason) of the files that are named like videos and can't be used.
  """

  videos: tuple[Video, ...]
  num_skipped: int
  broken: tuple[tuple[str, str], ...]


def scan_folder(
  folder: str | os.PathLike[str],
  *,
  shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
  labels: str | os.PathLike[str] | None = None,
  update: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
  """Looks into every video of a folder and of the folders in it; hidden ones are passed over.

  The id of a video is its path in the folder. Beside `NAME.mp4`, what is said is read from
  `NAME.srt`, `NAME.vtt` or `NAME.json`, the first that is there, and what is heard from
  `NAME.sounds.srt` and so on. The title is the one that the container states, else the name of the
  file.

  Args:
    folder: of the videos.
    shares: of train, validation and test, in any unit. A hash of the id alone decides the split of
      a video, so that it stays where it is when others come or go; the shares are met on average.
    labels: a JSON file, {id: {"unit_s": seconds, "levels": [[1, 5, 3], ...]}}, as in a manifest.
    update: told how many of the files were looked into.

  Raises:
    InputError: no folder, no video that can be used, shares that are none, labels that cannot be
      used or are of no video.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise InputError(f"{root}: there is no such folder; give the folder of your videos")
  _require_shares(shares)
  files = _list_files(root)
  names = [name for name in files if is_video_name(pathlib.PurePosixPath(name).name)]
  found: dict[str, Video] = {}
  broken = []
  with concurrent.futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
    looks = pool.map(lambda name: _look(root, name, files, split_of(name, shares)), names)
    for done, (name, item) in enumerate(zip(names, looks, strict=True), start=1):
      if isinstance(item, Video):
        found[name] = item
      else:
        broken.append((name, item))
      update(done, len(names))
  if not found:
    raise InputError(f"{root}: holds no video that can be used{_reasons(broken)}")
  if labels is not None:
    found = _with_labels(found, pathlib.Path(labels))
  beside = {words for name in names for words in _words_beside(name, files).values()}
  num_skipped = len(files) - len(names) - len(beside)
  return Scan(tuple(found.values()), num_skipped, tuple(broken))


def split_of(video_id: str, shares: tuple[float, float, float]) -> str:
  """The split that the id alone decides: equal ids and shares give equal splits, everywhere."""
  digest = hashlib.blake2b(video_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
  place = int.from_bytes(digest) / 2**64 * sum(shares)
  if place < shares[0]:
    return SPLITS[0]
  return SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]


def _require_shares(shares: tuple[float, float, float]) -> None:
  if len(shares) != len(SPLITS) or not all(0 <= share < float("inf") for share in shares):
    raise InputError(f"shares: must be three numbers from 0 on, are {list(shares)}")
  if not sum(shares) > 0:
    raise InputError("shares: one of them must be above 0")


def _list_files(root: pathlib.Path) -> dict[str, None]:
  """Paths in the folder, sorted, without what is hidden; a dict, to be looked up."""
  names = []
  for place, folders, files in os.walk(root):
    folders[:] = [name for name in folders if not name.startswith(".")]
    inside = pathlib.Path(place).relative_to(root)
    names += [(inside / name).as_posix() for name in files if not name.startswith(".")]
  return dict.fromkeys(sorted(names))


def _words_beside(name: str, files: Mapping[str, None]) -> dict[str, str]:
  """{"transcript": path, "sounds": path} as far as they are there."""
  path = pathlib.PurePosixPath(name)
  beside = {}
  for field, middle in (("transcript", ""), ("sounds", ".sounds")):
    options = (str(path.with_name(path.stem + middle + suffix)) for suffix in subtitles.SUFFIXES)
    first = next((option for option in options if option in files), None)
    if first is not None:
      beside[field] = first
  return beside


def _look(root: pathlib.Path, name: str, files: Mapping[str, None], split: str) -> Video | str:
  """The video, or why it can't be used."""
  path = root / name
  try:
    duration_s = video.probe(path).duration_s
    title = _title(path)
  except InputError as error:
    return str(error).removeprefix(f"{path}: ")
  words = {field: root / beside for field, beside in _words_beside(name, files).items()}
  return Video(id=name, media=path, title=title, split=split, duration_s=duration_s, **words)


def _title(path: pathlib.Path) -> str:
  with demux.open_media(path) as container:
    stated = container.metadata.get("title", "")
  return " ".join(stated.split()) or " ".join(path.stem.replace("_", " ").split())


def _reasons(broken: list[tuple[str, str]]) -> str:
  if not broken:
    return ""
  name, reason = broken[0]
  return f"; of {len(broken)} broken ones the first is {name}: {reason}"


def _with_labels(videos: Mapping[str, Video], path: pathlib.Path) -> dict[str, Video]:
  labelled = dict(videos)
  for video_id, labels in _load_labels(path).items():
    if video_id not in videos:
      near = difflib.get_close_matches(video_id, videos, n=1)
      advice = (
        f"did you mean {near[0]!r}?" if near else "an id is the path of a video in the folder"
      )
      raise InputError(f"{path}: {video_id!r} is the id of no video that can be used; {advice}")
    labelled[video_id] = dataclasses.replace(videos[video_id], labels=labels)
  return labelled


def _load_labels(path: pathlib.Path) -> dict[str, Labels]:
  try:
    content = json.loads(path.read_bytes())
  except OSError as error:
    raise InputError(f"{path}: cannot read the labels: {error.strerror}") from None
  except (ValueError, RecursionError) as error:  # or nested too deeply
    raise InputError(f"{path}: not JSON: {error}") from None
  if not isinstance(content, dict):
    raise InputError(
      f"{path}: must be a JSON object, {{id: {{'unit_s': 2.0, 'levels': [[1, 5]]}}}}"
    )
  return {
    video_id: manifest.parse_labels(f"{path}: {video_id}", record)
    for video_id, record in content.items()
  }
