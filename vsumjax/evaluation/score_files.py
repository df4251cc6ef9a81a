"""Files of scores: our own forms, and those that public repositories write."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from vsumjax.evaluation import score_readers
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.score_readers import FRAMES, PICKS, SPANS, UNITS, Entry
from vsumjax.evaluation.video_names import VideoNames
from vsumjax.host import arrays
from vsumjax.host.files import replacing, write_atomically
from vsumjax.types import InputError

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreFile:
  """What a file of scores has.

  Attributes:
    path: of the file.
    names: {id: what the file calls the video} of all its videos.
    predictions: by video id, of those that were wanted.
  """

  path: pathlib.Path
  names: Mapping[str, str]
  predictions: Mapping[str, Prediction]


def load_scores(
  path: str | os.PathLike[str],
  videos: Sequence[AnnotatedVideo],
  *,
  known: Iterable[AnnotatedVideo] = (),
) -> dict[str, Prediction]:
  """The scores of all of `videos` out of a file, by id and in the order of `videos`.

  The content, not the suffix, tells the form; docs/score_files.md shows each:

  - our JSON of scores at picks, of frames or of spans (`save_scores_file`);
  - JSON `{video: [scores]}`, as PGL-SUM and CA-SUM write it;
  - the `scores.json` of `vsumjax summarize`, or a folder of folders that hold one each;
  - .npz with an array a video;
  - HDF5 with a data set a video, or a group with `score` or `importance_scores` and perhaps
    `machine_summary`, `fscore` or `fm`, as pytorch-vsumm-reinforce writes it.

  Args:
    path: the file or folder.
    videos: those to have scores of, e.g. of one test fold.
    known: others that the file may have; theirs are passed over. Give the whole benchmark.

  Raises:
    InputError: the file cannot be read; it lacks one of `videos`, has one twice, or names a video
      that is neither in `videos` nor in `known`; scores of a wrong number or that are no finite
      numbers. The message names the file, the video and the place.
  """
  path = pathlib.Path(path)
  file = read_scores(path, VideoNames((*videos, *known)), {video.id for video in videos})
  return require_all(f"{path}: has", videos, file.predictions)


def read_scores(path: pathlib.Path, names: VideoNames, wanted: Container[str]) -> ScoreFile:
  """What one file has; `load_scores` tells the forms.

  Args:
    path: the file or folder.
    names: of all videos that the file may have.
    wanted: ids of those whose scores are read; those of others are passed over.

  Raises:
    InputError: as `load_scores`, but not if a video is missing.
  """
  predictions, seen = {}, {}
  for entry in score_readers.read_entries(path):
    try:
      video = names.find(entry.name)
      if video.id in seen:
        raise InputError(
          f"{video.id}: there are two entries, {seen[video.id]!r} and {entry.name!r}"
        )
      seen[video.id] = entry.name
      if video.id in wanted:
        predictions[video.id] = _predict(video, entry)
    except InputError as error:
      raise InputError(f"{path}: {error}") from None
  if not seen:
    raise InputError(f"{path}: holds no scores")
  return ScoreFile(path, seen, predictions)


def require_all(
  where: str, videos: Sequence[AnnotatedVideo], predictions: Mapping[str, Prediction]
) -> dict[str, Prediction]:
  """The predictions of all of `videos`, in their order. Raises InputError if one is missing.

  Args:
    where: what the message begins with, as "a.json: has".
    videos: to have scores of.
    predictions: by video id, perhaps of more videos.
  """
  missing = [video.id for video in videos if video.id not in predictions]
  if missing:
    more = f" and of {len(missing) - 1:,} more" if len(missing) > 1 else ""
    raise InputError(f"{where} no scores of {missing[0]}{more}")
  return {video.id: predictions[video.id] for video in videos}


def save_scores_file(
  path: str | os.PathLike[str], unit: str, scores: Mapping[str, Array | tuple[Array, Array]]
) -> None:
  """Writes scores to a .json, .npz or .h5 file, whole or not at all.

  Args:
    path: its suffix names the form. Spans do not go into .npz, which does not hold the unit either.
    unit: "picks", "frames" or "spans".
    scores: by the video's id, real[P] or real[F]; or `(span_s_N2, score_N)` if the unit is spans.

  Raises:
    InputError: another suffix or unit, or scores that are no finite numbers.
  """
  path = pathlib.Path(path)
  if unit not in UNITS:
    raise InputError(f"{path}: unit must be one of {', '.join(UNITS)}, not {unit!r}")
  checked = {name: _check_saved(f"{path}: {name}", unit, value) for name, value in scores.items()}
  if path.suffix == ".json":
    _save_json(path, unit, checked)
  elif path.suffix == ".npz" and unit != SPANS:
    _save_npz(path, checked)
  elif path.suffix in (".h5", ".hdf5"):
    _save_hdf5(path, unit, checked)
  else:
    forms = ".json or .h5" if unit == SPANS else ".json, .npz or .h5"
    raise InputError(f"{path}: scores of {unit} go into {forms}")


def _predict(video: AnnotatedVideo, entry: Entry) -> Prediction:
  score_N = score_readers.checked_scores(video.id, entry.scores)
  if entry.span_s is not None:
    span_s_N2 = score_readers.checked_spans(video.id, entry.span_s)
    prediction = Prediction.from_spans(video, span_s_N2, score_N)
  elif entry.unit == SPANS:
    raise InputError(f"{video.id}: span_s: there is none, and the unit is spans")
  else:
    read = {PICKS: Prediction.from_picks, FRAMES: Prediction.from_frames}
    prediction = read.get(entry.unit, Prediction.from_scores)(video, score_N)
  if entry.summary is None and entry.fscore is None:
    return prediction
  summary_F = None if entry.summary is None else _summary(video, entry.summary)
  return dataclasses.replace(prediction, summary_F=summary_F, fscore=entry.fscore)


def _summary(video: AnnotatedVideo, summary: Any) -> Array:
  """bool[F]; frames after the last segment, which most repositories leave out, are not in it."""
  where = f"{video.id}: machine_summary"
  values = np.asarray(summary)
  arrays.require_shape(where, values, (None,))
  if len(values) > video.num_frames:
    raise InputError(
      f"{where}: has {len(values):,} entries, but the video has {video.num_frames:,} frames"
    )
  values = arrays.whole_numbers(where, values, 0, 1, bool)
  return np.pad(values, (0, video.num_frames - len(values)))


def _check_saved(where: str, unit: str, value: Any) -> dict[str, Array]:
  """The keys of a video, as our HDF5 and JSON have them."""
  if unit != SPANS:
    return {"score": score_readers.checked_scores(where, np.asarray(value))}
  span_s_N2, score_N = map(np.asarray, value)
  span_s_N2 = score_readers.checked_spans(where, span_s_N2)
  return {"span_s": span_s_N2, "score": score_readers.checked_scores(where, score_N)}


def _save_json(path: pathlib.Path, unit: str, scores: Mapping[str, Mapping[str, Array]]) -> None:
  listed = {
    name: {key: array.tolist() for key, array in keys.items()} for name, keys in scores.items()
  }
  if unit != SPANS:
    listed = {name: keys["score"] for name, keys in listed.items()}
  content = {"schema": score_readers.SCHEMA, "unit": unit, "scores": listed}
  write_atomically(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def _save_npz(path: pathlib.Path, scores: Mapping[str, Mapping[str, Array]]) -> None:
  # Not `np.savez`, to which no array may be called "file".
  with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
    for name, keys in scores.items():
      with archive.open(f"{name}.npy", "w") as file:
        np.lib.format.write_array(file, keys["score"])


def _save_hdf5(path: pathlib.Path, unit: str, scores: Mapping[str, Mapping[str, Array]]) -> None:
  with replacing(path) as temporary, h5py.File(temporary, "w") as file:
    file.attrs["unit"] = np.bytes_(unit)
    for name, keys in scores.items():
      for key, array in keys.items():
        file[f"{name}/{key}"] = array
