"""The usual `eccv16_dataset_*_google_pool5.h5`: features, summaries and KTS segments."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
import tensorflow_datasets as tfds

from vsumjax.data.builders import base, summe, tvsum
from vsumjax.host import arrays, hdf5
from vsumjax.types import InputError

NAMES = ("tvsum", "summe", "ovp", "youtube")
_INSTRUCTIONS = (
  "get the .h5 files that https://github.com/KaiyangZhou/pytorch-vsumm-reinforce names and put them"
  " into the manual_dir, and with them the authors' files of TVSum or SumMe: the .h5 files"
  " do not say how long a frame is shown"
)
_CARD = base.Card(
  description=(
    "The files most papers on video summarisation train and test on. At every 15th frame: features"
    " of GoogLeNet (pool5, 1024 wide) and `gtscore`; for every frame `user_summary`, the summaries"
    " of 15 % that the annotators' scores make, or the key frames that people chose;"
    " `change_points`, the segments that kernel temporal segmentation (KTS) found."
  ),
  citation="""@inproceedings{zhang2016dpplstm,
  title={Video Summarization with Long Short-Term Memory},
  author={Zhang, Ke and Chao, Wei-Lun and Sha, Fei and Grauman, Kristen},
  booktitle={European Conference on Computer Vision (ECCV)},
  pages={766--782},
  year={2016}
}
@inproceedings{zhou2018dsn,
  title={Deep Reinforcement Learning for Unsupervised Video Summarization with
    Diversity-Representativeness Reward},
  author={Zhou, Kaiyang and Qiao, Yu and Xiang, Tao},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2018}
}""",
  homepage="https://github.com/KaiyangZhou/pytorch-vsumm-reinforce",
  license=(
    "The files hold no licence text. They are made of TVSum, SumMe, OVP and YouTube, whose terms"
    " hold: cite those papers too, use the files for evaluation, do not redistribute them."
  ),
)


class Eccv16(base.AnnotationBuilder):
  """TFDS builder `eccv16`, with a config for each data set: `eccv16/tvsum`, `eccv16/summe`, ...

  Reads `eccv16_dataset_NAME_google_pool5.h5`, or any other ending. Keys that a file lacks make
  empty arrays; `user_summary`, `n_frames` and `picks` must be there. The files say neither how fast
  a video runs nor, but for SumMe, what it is called: both come from the authors' files where they
  lie in `manual_dir`, else `fps` and `length_s` are 0. `key` is the video's name in the file.
  """

  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
  CARD = _CARD
  BUILDER_CONFIGS = [  # noqa: RUF012  (as TFDS declares it)
    tfds.core.BuilderConfig(name=name, description=f"eccv16_dataset_{name}_*.h5") for name in NAMES
  ]

  @property
  def own_features(self) -> dict[str, Any]:
    return {
      "key": tfds.features.Text(),
      "category": tfds.features.Text(),
      "user_summary": base.exact_array(np.uint8, None, None),
      "change_points": base.exact_array(np.int32, None, 2),
      "n_frame_per_seg": base.exact_array(np.int32, None),
      "picks": base.exact_array(np.int32, None),
      "gtscore": base.exact_array(np.float32, None),
      "gtsummary": base.exact_array(np.float32, None),
      "features": base.exact_array(np.float32, None, None),
    }

  def examples(self, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    name = self.builder_config.name
    path = find_file(folder, name)
    if path is None:
      raise InputError(f"{folder}: holds no eccv16_dataset_{name}_*.h5; {_INSTRUCTIONS}")
    authors = _authors_videos(folder, name)
    with hdf5.open_file(path) as file:
      keys = hdf5.names(path, file)
      if not keys:
        raise InputError(f"{path}: holds no video; get the file again")
      for key in keys:
        yield _load(path, file, key, authors)

  def media_names(self, example: dict[str, Any]) -> tuple[str, ...]:
    return (example["video_id"], example["key"])


def find_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The file of one of `NAMES` in a folder or below it."""
  return base.find_file(folder, f"eccv16_dataset_{name}*.h5")


def _load(
  path: pathlib.Path, file: h5py.File, key: str, authors: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  group, where = file[key], f"{path}: {key}"
  if not isinstance(group, h5py.Group):
    raise InputError(f"{where}: expected a group, one a video; get the file again")
  num_frames = int(arrays.number(f"{where}/n_frames", hdf5.read(path, group, "n_frames")))
  arrays.require_positive(f"{where}/n_frames", num_frames)
  summary = np.asarray(hdf5.read(path, group, "user_summary"))
  arrays.require_shape(f"{where}/user_summary", summary, (None, num_frames))
  change_points = _optional(path, group, "change_points", (None, 2), np.int32)
  if (change_points[:, 1] < change_points[:, 0]).any() or (change_points < 0).any():
    raise InputError(f"{where}/change_points: a segment ends before it starts; get the file again")
  picks = np.asarray(hdf5.read(path, group, "picks"))
  arrays.require_shape(f"{where}/picks", picks, (None,))
  fields = {
    "user_summary": arrays.whole_numbers(f"{where}/user_summary", summary, 0, 1),
    "picks": picks.astype(np.int32),
    "change_points": change_points,
    "n_frame_per_seg": _optional(path, group, "n_frame_per_seg", (None,), np.int32),
    "gtscore": _optional(path, group, "gtscore", (len(picks),), np.float32),
    "gtsummary": _optional(path, group, "gtsummary", (len(picks),), np.float32),
    "features": _optional(path, group, "features", (len(picks), None), np.float32),
  }
  return fields | {"key": key, "num_frames": num_frames} | _about(path, group, num_frames, authors)


def _optional(
  path: pathlib.Path, group: h5py.Group, name: str, shape: tuple[int | None, ...], dtype: type
) -> np.ndarray:
  """The array; one of no rows where the file lacks the key."""
  if name not in group:
    return np.zeros((0, *(length or 0 for length in shape[1:])), dtype)
  array = np.asarray(hdf5.read(path, group, name))
  arrays.require_shape(f"{path}: {group.name.strip('/')}/{name}", array, shape)
  return array.astype(dtype)


def _about(
  path: pathlib.Path, group: h5py.Group, num_frames: int, authors: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  """What the video is called and how fast it runs, from the authors' files where they are."""
  key = group.name.strip("/")
  name = hdf5.read_text(path, group, "video_name") if "video_name" in group else ""
  about = {
    "video_id": name or key,
    "title": name.replace("_", " "),
    "category": "",
    "fps": 0.0,
    "length_s": 0.0,
  }
  if "fps" in group:
    fps = arrays.number(f"{path}: {key}/fps", hdf5.read(path, group, "fps"))
    arrays.require_positive(f"{path}: {key}/fps", fps)
    about |= {"fps": fps, "length_s": num_frames / fps}
  # TVSum's videos have no names here, but no two have the same number of frames.
  matches = [
    video
    for video in authors
    if video["num_frames"] == num_frames and name in ("", video["video_id"])
  ]
  if len(matches) == 1:
    about |= {field: matches[0][field] for field in about if field in matches[0]}
  return about


def _authors_videos(folder: pathlib.Path, name: str) -> list[dict[str, Any]]:
  """The videos of TVSum's or SumMe's own files; none where they are not there."""
  if name == "tvsum" and tvsum.has_files(folder):
    return list(tvsum.load_annotations(folder))
  if name == "summe" and summe.find_files(folder):
    return list(summe.load_annotations(folder))
  return []
