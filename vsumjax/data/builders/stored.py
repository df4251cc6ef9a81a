"""Data sets that TFDS keeps: building one, whole or not at all, and reading it as a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vsumjax.data.builders import base
from vsumjax.data.videos import NUM_LEVELS, Labels, Manifest, Video
from vsumjax.host import files
from vsumjax.types import InputError

INFO_FILE = "dataset_info.json"
_FEATURES = ("video_id", "title", "media", "fps", "length_s")
_AGAIN = "delete the folder and build it again"


def build(
  builder: type[base.AnnotationBuilder],
  manual_dir: pathlib.Path,
  data_dir: pathlib.Path,
  *,
  config: str | None = None,
) -> tuple[pathlib.Path, bool]:
  """Builds a data set with ArrayRecord files; one that is there stays as it is.

  Args:
    builder: the class.
    manual_dir: folder of the authors' files.
    data_dir: TFDS's folder of data sets.
    config: name of a config, if the builder has configs.

  Returns:
    The folder of the version, as data_dir/tvsum/1.0.0, and whether it was built now.

  Raises:
    InputError: files that are missing or broken; nothing is left then.
  """
  target = data_dir.joinpath(builder.name, *([config] if config else []), str(builder.VERSION))
  if (target / INFO_FILE).is_file():
    return target, False
  if target.exists():
    raise InputError(f"{target}: is there and holds no {INFO_FILE}; move it away to build here")
  if not manual_dir.is_dir():
    raise InputError(f"{manual_dir}: no such folder; {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
  with files.staging(target) as folder:
    # TFDS would leave its own half-built folder where it is killed, and an empty `downloads`.
    work = folder / "work"
    with _silence():
      made = builder(config=config, data_dir=work, file_format="array_record")
      made.download_and_prepare(
        download_dir=work / "downloads",
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False),
      )
    pathlib.Path(made.data_path).rename(folder / target.name)
    shutil.rmtree(work)
  return target, True


def load_manifest(folder: pathlib.Path, *, check_files: bool = True) -> Manifest:
  """Reads a version that `build` made as a manifest; see `vsumjax.data.manifest.load_manifest`.

  Labels are per frame, as the annotators' frames are: one covers 1 / fps seconds. `user_anno` holds
  levels; of `user_summary`, 1 (kept) becomes the highest level and 0 the lowest. `change_points`
  without a gap become `edges_s`. The digest is over what the videos say and not over `manual_dir`.

  Raises:
    InputError: a folder that is not one of a data set of ours, media that has gone.
  """
  builder = _open(folder)
  media_dir = pathlib.Path(builder.info.metadata[base.MANUAL_DIR])
  digest = hashlib.blake2b(digest_size=16)
  videos = []
  for split, example in _examples(folder, builder):
    video = _to_video(folder, split, example, media_dir)
    if check_files and video.media is not None and not video.media.is_file():
      raise InputError(
        f"{folder}: video {video.id!r}: there is no file {video.media}; put it back, or delete"
        f" {folder} and build it again"
      )
    _update(digest, video, example["media"])
    videos.append(video)
  return Manifest(folder, tuple(videos), digest.hexdigest())


def read_examples(folder: pathlib.Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """The examples of a version that `build` made, each with its split; text comes as bytes.

  Raises:
    InputError: a folder that is not one of a data set of ours, or is broken.
  """
  yield from _examples(folder, _open(folder))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
  """TFDS prints what it does and draws bars, and its protocol buffers warn of themselves."""
  with (
    warnings.catch_warnings(),
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
  ):
    warnings.filterwarnings("ignore", r"label\(\) is deprecated", DeprecationWarning)
    yield


def _open(folder: pathlib.Path) -> tfds.core.DatasetBuilder:
  try:
    with _silence():
      builder = tfds.builder_from_directory(folder)
  except Exception as error:  # of any kind: TFDS parses three files of JSON
    raise InputError(
      f"{folder / INFO_FILE}: cannot be read ({_one_line(error)}); {_AGAIN}"
    ) from None
  missing = [name for name in _FEATURES if name not in builder.info.features]
  if missing:
    raise InputError(
      f"{folder}: the data set {builder.name!r} has no feature {missing[0]!r}; only what"
      " `vsumjax build-dataset` built can be read as a manifest"
    )
  if base.MANUAL_DIR not in (builder.info.metadata or {}):
    raise InputError(f"{folder / 'metadata.json'}: lacks {base.MANUAL_DIR!r}; {_AGAIN}")
  return builder


def _examples(
  folder: pathlib.Path, builder: tfds.core.DatasetBuilder
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  for split in builder.info.splits:
    try:
      with _silence():
        source = builder.as_data_source(split=split)
      for index in range(len(source)):
        yield split, source[index]
    except RuntimeError as error:  # ArrayRecord's: a file that is missing, cut or changed
      raise InputError(f"{folder}: split {split!r}: {_one_line(error)}; {_AGAIN}") from None


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200]


def _to_video(
  folder: pathlib.Path, split: str, example: Mapping[str, Any], media_dir: pathlib.Path
) -> Video:
  video_id, title, media = (example[name].decode() for name in ("video_id", "title", "media"))
  fps, length_s = float(example["fps"]), float(example["length_s"])
  if not fps:
    raise InputError(
      f"{folder}: video {video_id!r}: nothing says how fast it runs; put the authors' own files"
      f" into the manual_dir too, delete {folder} and build it again"
    )
  return Video(
    id=video_id,
    media=media_dir / media if media else None,
    title=title,
    split=split,
    labels=Labels(1 / fps, _levels(example)),
    duration_s=length_s,
    edges_s=_edges_s(example.get("change_points"), fps),
  )


def _levels(example: Mapping[str, Any]) -> np.ndarray:
  """i8[annotators, frames], 1 to 5."""
  if "user_anno" in example:
    return example["user_anno"].astype(np.int8)
  return (1 + (NUM_LEVELS - 1) * example["user_summary"]).astype(np.int8)


def _edges_s(change_points: np.ndarray | None, fps: float) -> tuple[float, ...] | None:
  """First frames of the segments and the end of the last, if each begins where one ends."""
  if change_points is None or not len(change_points):
    return None
  first, last = change_points.T
  if not np.array_equal(first[1:], last[:-1] + 1):
    return None
  return tuple(float(frame) / fps for frame in (*first, last[-1] + 1))


def _update(digest: Any, video: Video, media: bytes) -> None:
  """Adds all that a video says; its media by the name within the authors' files."""
  about = [video.id, video.title, video.split, media.decode(), video.duration_s, video.edges_s]
  shape = [video.labels.unit_s, *video.labels.levels_AN.shape]
  digest.update(json.dumps(about + shape).encode() + b"\n" + video.labels.levels_AN.tobytes())
