"""TVSum: 50 videos, each rated by 20 annotators, from its authors' own files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vsumjax.data.builders import base, matlab
from vsumjax.host import arrays, hdf5, tvsum_tsv
from vsumjax.types import InputError

MAT_FILE = "ydata-tvsum50.mat"
ANNO_FILE = "ydata-tvsum50-anno.tsv"
INFO_FILE = "ydata-tvsum50-info.tsv"
_GROUP = "tvsum50"
_INFO_COLUMNS = ("category", "video_id", "title", "url", "length")
_INSTRUCTIONS = (
  f"get ydata-tvsum50-v1_1.zip from the authors of TVSum (https://github.com/yalesong/tvsum) and"
  f" put {MAT_FILE}, or {ANNO_FILE} and {INFO_FILE}, into the manual_dir"
)
_CARD = base.Card(
  description=(
    "TVSum: 50 videos of 10 categories from YouTube, 98 to 648 s long. 20 annotators rated the"
    " importance of every shot of 2 seconds from 1 to 5. `user_anno` holds their levels for every"
    " frame, `gt_score` the mean of the annotators."
  ),
  citation="""@inproceedings{song2015tvsum,
  title={{TVSum}: Summarizing Web Videos Using Titles},
  author={Song, Yale and Vallmitjana, Jordi and Stent, Amanda and Jaimes, Alejandro},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages={5179--5187},
  year={2015}
}""",
  homepage="https://github.com/yalesong/tvsum",
  license=(
    "The annotation files hold no licence text: cite the paper, use them for evaluation, do not"
    " redistribute them; what the authors' archive says holds. The videos belong to those who"
    " published them."
  ),
)


class Tvsum(base.AnnotationBuilder):
  """TFDS builder `tvsum`. Reads `ydata-tvsum50.mat`; where it is not there, the two .tsv files."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
  CARD = _CARD

  @property
  def own_features(self) -> dict[str, Any]:
    return {
      "category": tfds.features.Text(),
      "user_anno": base.exact_array(np.uint8, None, None),
      "gt_score": base.exact_array(np.float64, None),
    }

  def examples(self, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    return load_annotations(folder)


def has_files(folder: pathlib.Path) -> bool:
  """Whether the authors' annotations lie in a folder or below it."""
  return any(base.find_file(folder, name) is not None for name in (MAT_FILE, ANNO_FILE))


def load_annotations(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The videos in the authors' order, as the features of `Tvsum` without `media`.

  Raises:
    InputError: no file, a broken one, or a key that is missing.
  """
  mat = base.find_file(folder, MAT_FILE)
  if mat is not None:
    yield from _from_mat(mat)
    return
  anno, info = base.find_file(folder, ANNO_FILE), base.find_file(folder, INFO_FILE)
  if anno is None and info is None:
    raise InputError(f"{folder}: holds no {MAT_FILE} and no {ANNO_FILE}; {_INSTRUCTIONS}")
  if anno is None or info is None:
    missing = ANNO_FILE if anno is None else INFO_FILE
    raise InputError(f"{folder}: holds no {missing}, and the other .tsv needs it; {_INSTRUCTIONS}")
  yield from _from_tsv(anno, info)


def _from_mat(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  with hdf5.open_file(path) as file:
    names = ("video", "title", "category", "length", "nframes", "user_anno", "gt_score")
    columns = {name: matlab.cells(path, file, f"{_GROUP}/{name}") for name in names}
    for index in range(len(columns["video"])):
      cell = {
        name: matlab.read_cell(path, file, f"{_GROUP}/{name}", column, index)
        for name, column in columns.items()
      }
      where = f"{path}: {_GROUP}/"
      yield _example(
        f"{path}: video {index + 1}",
        video_id=matlab.text(f"{where}video", cell["video"]),
        title=matlab.text(f"{where}title", cell["title"]),
        category=matlab.text(f"{where}category", cell["category"]),
        length_s=arrays.number(f"{where}length", cell["length"]),
        num_frames=int(arrays.number(f"{where}nframes", cell["nframes"])),
        user_anno=cell["user_anno"],
        gt_score=cell["gt_score"].ravel(),
      )


def _example(
  where: str, *, length_s: float, num_frames: int, user_anno, gt_score, **texts: str
) -> dict[str, Any]:
  arrays.require_positive(f"{where}: length", length_s)
  arrays.require_positive(f"{where}: nframes", num_frames)
  arrays.require_shape(f"{where}: user_anno", user_anno, (None, num_frames))
  arrays.require_shape(f"{where}: gt_score", gt_score, (num_frames,))
  return texts | {
    "num_frames": num_frames,
    "length_s": length_s,
    "fps": num_frames / length_s,
    "user_anno": arrays.whole_numbers(f"{where}: user_anno", user_anno, 1, 5),
    "gt_score": gt_score.astype(np.float64),
  }


def _from_tsv(anno: pathlib.Path, info: pathlib.Path) -> Iterator[dict[str, Any]]:
  about = _read_info(info)
  for video_id, (category, user_anno) in tvsum_tsv.read_levels(anno).items():
    if video_id not in about:
      raise InputError(f"{info}: has no line of video {video_id!r}, which {anno.name} annotates")
    yield _example(
      f"{anno}: video {video_id!r}",
      video_id=video_id,
      title=about[video_id]["title"],
      category=category,
      length_s=_seconds(f"{info}: video {video_id!r}", about[video_id]["length"]),
      num_frames=user_anno.shape[1],
      user_anno=user_anno,
      # The .mat's gt_score is this mean, to the bit.
      gt_score=user_anno.mean(axis=0),
    )


def _read_info(path: pathlib.Path) -> dict[str, dict[str, str]]:
  """{video id: {column: value}}."""
  lines = tvsum_tsv.lines(path)
  _, header = next(lines, (0, []))
  for column in ("video_id", "title", "length"):
    if column not in header:
      raise InputError(
        f"{path}:1: lacks the column {column!r}; the columns are {', '.join(_INFO_COLUMNS)}"
      )
  about = {}
  for number, fields in lines:
    if len(fields) != len(header):
      raise InputError(f"{path}:{number}: has {len(fields)} columns, the first line {len(header)}")
    row = dict(zip(header, fields, strict=True))
    about[row["video_id"]] = row
  return about


def _seconds(where: str, text: str) -> float:
  """353.6, 5:54 or 1:05:54, in seconds."""
  try:
    seconds = 0.0
    for part in text.split(":"):
      seconds = seconds * 60 + float(part)
  except ValueError:
    raise InputError(f"{where}: length: must be seconds or minutes:seconds, is {text!r}") from None
  return seconds
