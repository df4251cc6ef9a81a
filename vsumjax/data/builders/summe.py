"""SumMe: 25 videos, each summarised by 15 to 18 people, from its authors' own files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vsumjax.data.builders import base, matlab
from vsumjax.host import arrays
from vsumjax.types import InputError

FOLDER = "GT"
_KEYS = ("nFrames", "FPS", "video_duration", "user_score", "gt_score", "segments", "all_userIDs")
_INSTRUCTIONS = (
  "get SumMe.zip from the authors of SumMe (https://gyglim.github.io/me/vsum/index.html) and put"
  " its folder GT, and videos if you want them, into the manual_dir"
)
_CARD = base.Card(
  description=(
    "SumMe: 25 user videos, 39 to 389 s long. 15 to 18 people each made a summary of 5 to 15 % of a"
    " video's length. `user_summary` is 1 where a person kept a frame, `user_score` holds the"
    " authors' raw codes, `gt_score` the share of people who kept the frame."
  ),
  citation="""@inproceedings{gygli2014summe,
  title={Creating Summaries from User Videos},
  author={Gygli, Michael and Grabner, Helmut and Riemenschneider, Hayko and Van Gool, Luc},
  booktitle={European Conference on Computer Vision (ECCV)},
  pages={505--520},
  year={2014}
}""",
  homepage="https://gyglim.github.io/me/vsum/index.html",
  license=(
    "For research only: cite the paper, use the annotations for evaluation, do not redistribute"
    " them; what the authors' archive says holds. The videos belong to those who published them."
  ),
)


class Summe(base.AnnotationBuilder):
  """TFDS builder `summe`. Reads the `.mat` files of the folder `GT`, in the order of their names.

  `segments_s` are the pieces that people chose, as seconds, and `segment_user` the row of
  `user_summary` each is of. `user_ids` may be fewer than the rows, and are no names of rows.
  """

  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
  CARD = _CARD

  @property
  def own_features(self) -> dict[str, Any]:
    return {
      "user_summary": base.exact_array(np.uint8, None, None),
      "user_score": base.exact_array(np.uint8, None, None),
      "gt_score": base.exact_array(np.float64, None),
      "segments_s": base.exact_array(np.float64, None, 2),
      "segment_user": base.exact_array(np.int32, None),
      "user_ids": tfds.features.Sequence(tfds.features.Text()),
    }

  def examples(self, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    return load_annotations(folder)


def load_annotations(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The videos in the order of their names, as the features of `Summe` without `media`.

  Raises:
    InputError: no file, a broken one, or a variable that is missing.
  """
  files = find_files(folder)
  if not files:
    raise InputError(f"{folder}: holds no folder {FOLDER} of .mat files; {_INSTRUCTIONS}")
  for file in files:
    yield _load(file)


def find_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """`GT/*.mat` in a folder or below it, by name, capitals first, as the usual files number them."""
  return sorted(folder.rglob(f"{FOLDER}/*.mat"), key=lambda file: file.name)


def _load(path: pathlib.Path) -> dict[str, Any]:
  content = matlab.load_matlab5(path, _KEYS)
  num_frames = int(arrays.number(f"{path}: nFrames", content["nFrames"]))
  fps = arrays.number(f"{path}: FPS", content["FPS"])
  length_s = arrays.number(f"{path}: video_duration", content["video_duration"])
  for key, value in (("nFrames", num_frames), ("FPS", fps), ("video_duration", length_s)):
    arrays.require_positive(f"{path}: {key}", value)
  score_FA, gt_score = content["user_score"], content["gt_score"].ravel()
  arrays.require_shape(f"{path}: user_score", score_FA, (num_frames, None))
  arrays.require_shape(f"{path}: gt_score", gt_score, (num_frames,))
  user_score = arrays.whole_numbers(f"{path}: user_score", score_FA.T, 0, 255)
  segments_s, segment_user = _segments(f"{path}: segments", content["segments"], len(user_score))
  return {
    "video_id": path.stem,
    "title": path.stem.replace("_", " "),
    "num_frames": num_frames,
    "fps": fps,
    "length_s": length_s,
    "user_summary": (user_score > 0).astype(np.uint8),
    "user_score": user_score,
    "gt_score": gt_score.astype(np.float64),
    "segments_s": segments_s,
    "segment_user": segment_user,
    "user_ids": _texts(f"{path}: all_userIDs", content["all_userIDs"]),
  }


def _segments(where: str, cells: np.ndarray, num_users: int) -> tuple[np.ndarray, np.ndarray]:
  """f64[segments, 2] and i32[segments], all people's after each other."""
  try:
    per_user = [cell.astype(np.float64).reshape(-1, 2) for cell in cells.ravel()]
  except (AttributeError, TypeError, ValueError):
    raise InputError(f"{where}: must be cells of two columns, start and end") from None
  if len(per_user) != num_users:
    raise InputError(f"{where}: has {len(per_user)} cells, user_score {num_users} columns")
  segment_user = np.repeat(np.arange(num_users), [len(rows) for rows in per_user])
  return np.concatenate(per_user), segment_user.astype(np.int32)


def _texts(where: str, cells: np.ndarray) -> list[str]:
  texts = cells.ravel().tolist()
  if not all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" for cell in texts):
    raise InputError(f"{where}: must be cells of text")
  return ["".join(cell.ravel().tolist()) for cell in texts]
