"""What stands in a file of scores, whatever its form, before it is held against a benchmark."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from vsumjax.host import arrays, hdf5
from vsumjax.host.json_files import read_json
from vsumjax.types import InputError

Array = np.ndarray

SCHEMA = 1
PICKS, FRAMES, SPANS = UNITS = ("picks", "frames", "spans")
# What zipfile and NumPy raise on damaged bytes.
_NPZ_ERRORS = (
  OSError,
  ValueError,
  EOFError,
  KeyError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
  """One video of a file of scores.

  Attributes:
    name: of the video, as the file has it.
    scores: a list or an array, not checked yet; see `checked_scores`.
    unit: one of `UNITS`; "" if their number has to tell.
    span_s: as `scores`, [N, 2], if the unit is spans.
    summary: 0 or 1 for each frame, if the file has that.
    fscore: if the file has that.
  """

  name: str
  scores: Any
  unit: str = ""
  span_s: Any = None
  summary: Any = None
  fscore: Any = None


def read_entries(path: pathlib.Path) -> Iterator[Entry]:
  """The entries of a file, or of a folder of `scores.json`; the content tells the form.

  Raises:
    InputError: naming the file, and the place in it.
  """
  if path.is_dir():
    yield from _read_folder(path)
    return
  try:
    with path.open("rb") as file:
      head = file.read(4)
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None
  if h5py.is_hdf5(path):
    yield from _read_hdf5(path)
  elif head == b"PK\x03\x04":
    yield from _read_npz(path)
  else:
    yield from _read_json(path)


def checked_scores(where: str, scores: Any) -> Array:
  """The scores as f64[N]. `[[...]]`, one row or one column, is read as the list that it holds.

  Raises:
    InputError: they are no list, empty, of two axes, or one of them is no finite number.
  """
  score_N = _flat_list(where, scores) if isinstance(scores, list) else _flat_array(where, scores)
  if not score_N.size:
    raise InputError(f"{where}: has no scores")
  for n in np.flatnonzero(~np.isfinite(score_N))[:1]:
    raise InputError(f"{where}: score {n:,} is {score_N[n]}, must be a finite number")
  return score_N


def checked_spans(where: str, span_s: Any) -> Array:
  """The spans as f64[N, 2]. Raises InputError if they are no list of pairs of numbers."""
  if isinstance(span_s, list):
    pairs = (isinstance(span, list) and len(span) == 2 for span in span_s)
    for n in (n for n, is_pair in enumerate(pairs) if not is_pair):
      raise InputError(f"{where}: span {n:,} must be a start and an end in seconds")
    flat_list = [bound for span in span_s for bound in span]
    return checked_scores(f"{where}: span_s, in one row", flat_list).reshape(-1, 2)
  if not isinstance(span_s, np.ndarray) or span_s.dtype.kind not in "iuf" or span_s.ndim != 2:
    raise InputError(f"{where}: span_s: expected the start and the end of each span in seconds")
  return span_s.astype(np.float64)


def _flat_list(where: str, scores: list) -> Array:
  if scores and all(isinstance(row, list) for row in scores):
    if len(scores) == 1:
      scores = scores[0]
    elif all(len(row) == 1 for row in scores):
      scores = [row[0] for row in scores]
  if not set(map(type, scores)) <= {int, float}:
    n = next(n for n, score in enumerate(scores) if type(score) not in (int, float))
    told = "a list" if isinstance(scores[n], list) else json.dumps(scores[n])[:40]
    raise InputError(f"{where}: score {n:,} is {told}, must be a finite number")
  try:
    return np.array(scores, np.float64)
  except OverflowError:
    raise InputError(f"{where}: a score is a whole number of more than 300 digits") from None


def _flat_array(where: str, scores: Any) -> Array:
  if not isinstance(scores, np.ndarray):
    raise InputError(f"{where}: expected a list of scores, found {type(scores).__name__}")
  if scores.dtype.kind not in "iuf":
    raise InputError(f"{where}: holds {scores.dtype}, expected numbers")
  if scores.ndim == 0 or scores.size != max(scores.shape, default=0):
    raise InputError(f"{where}: has shape {list(scores.shape)}, expected [scores]")
  return scores.reshape(-1).astype(np.float64)


def _read_folder(folder: pathlib.Path) -> Iterator[Entry]:
  files = sorted([*folder.glob("scores.json"), *folder.glob("*/scores.json")])
  if not files:
    raise InputError(f"{folder}: holds no scores.json and no */scores.json")
  for file in files:
    yield from _read_json(file)


def _read_json(path: pathlib.Path) -> Iterator[Entry]:
  content = read_json(path, "neither JSON nor .npz nor HDF5; see docs/score_files.md")
  if not isinstance(content, dict):
    raise InputError(f"{path}: expected an object, one list of scores a video")
  if "schema" not in content:
    yield from (Entry(name, scores) for name, scores in content.items())
    return
  if content["schema"] != SCHEMA:
    raise InputError(f"{path}: schema: is {content['schema']!r}, this version reads {SCHEMA}")
  if "segments" in content:
    yield _summary_entry(path, content)
    return
  unit, scores = content.get("unit"), content.get("scores")
  if unit not in UNITS:
    raise InputError(f"{path}: unit: must be one of {', '.join(UNITS)}, is {unit!r}")
  if not isinstance(scores, dict):
    raise InputError(f"{path}: scores: must be an object, one entry a video")
  for name, value in scores.items():
    if unit != SPANS:
      yield Entry(name, value, unit)
    elif isinstance(value, dict) and value.keys() == {"span_s", "score"}:
      yield Entry(name, value["score"], unit, value["span_s"])
    else:
      raise InputError(f"{path}: {name}: must be an object of span_s and score")


def _summary_entry(path: pathlib.Path, content: dict[str, Any]) -> Entry:
  """Of the `scores.json` that `summary.scores.save_scores` writes."""
  try:
    name, segments = pathlib.PurePath(content["media"]).stem, content["segments"]
    span_s = [[segment["start_s"], segment["end_s"]] for segment in segments]
    return Entry(name, [segment["score"] for segment in segments], SPANS, span_s)
  except (KeyError, TypeError) as error:
    raise InputError(
      f"{path}: is no whole scores.json of `vsumjax summarize` ({error}); write it again"
    ) from None


def _read_npz(path: pathlib.Path) -> Iterator[Entry]:
  try:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
      for name in file.files:
        yield Entry(name, file[name])
  except _NPZ_ERRORS as error:
    reason = " ".join(str(error).split())
    raise InputError(f"{path}: cannot be read as .npz ({reason}); write it again") from None


def _read_hdf5(path: pathlib.Path) -> Iterator[Entry]:
  with hdf5.open_file(path) as file:
    unit = file.attrs.get("unit", "")
    unit = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)
    if unit not in ("", *UNITS):
      raise InputError(f"{path}: attribute unit: must be one of {', '.join(UNITS)}, is {unit!r}")
    for name in hdf5.names(path, file):
      if isinstance(file[name], h5py.Group):
        yield from _read_group(path, file[name], unit)
      else:
        yield Entry(name, np.asarray(hdf5.read(path, file, name)), unit)


def _read_group(path: pathlib.Path, group: h5py.Group, unit: str) -> Iterator[Entry]:
  """The entry of a video's group, or those of the groups in it."""
  name = group.name.strip("/")
  key = next((key for key in ("score", "importance_scores") if key in group), None)
  if key is None:
    nodes = [group[name] for name in hdf5.names(path, group)]
    if not nodes or not all(isinstance(node, h5py.Group) for node in nodes):
      raise InputError(f"{path}: {name}: has neither score nor importance_scores")
    for node in nodes:
      yield from _read_group(path, node, unit)
    return

  def optional(*keys: str) -> Any:
    found = next((key for key in keys if key in group), None)
    return None if found is None else np.asarray(hdf5.read(path, group, found))

  fscore = optional("fscore", "fm")
  yield Entry(
    name,
    np.asarray(hdf5.read(path, group, key)),
    unit,
    optional("span_s"),
    optional("machine_summary"),
    None if fscore is None else arrays.number(f"{path}: {name}: fscore", fscore),
  )
