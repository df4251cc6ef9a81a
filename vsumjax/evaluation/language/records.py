"""Captions, answers and similarities from files, in simple forms and in those of COCO and VQA."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vsumjax.evaluation.language.answers import Answer, Question
from vsumjax.types import InputError

_VIDEO_KEYS = ("image_id", "video_id")
_SIMILARITY_KEYS = ("similarity", "video_of_text", "video_ids")


def read_candidates(path: Path) -> dict[str, str]:
  """One caption a video: {id: caption}, or COCO results [{"image_id": id, "caption": caption}].

  Raises:
    InputError: naming the file and the video.
  """
  content = _read_json(path)
  if isinstance(content, list):
    entries = [_coco_caption(path, entry) for entry in content]
    return _unique(path, entries)
  found = _mapping(path, content, 'captions as {"video": "a caption"}')
  return {name: _text(path, name, caption) for name, caption in found.items()}


def read_references(path: Path) -> dict[str, list[str]]:
  """References of each video: {id: [caption, ...]}, or COCO annotations.

  COCO annotations are {"annotations": [{"image_id": id, "caption": caption}]}.

  Raises:
    InputError: naming the file and the video.
  """
  content = _mapping(path, _read_json(path), 'references as {"video": ["a caption"]}')
  references: dict[str, list[str]] = {}
  if isinstance(content.get("annotations"), list):
    for entry in content["annotations"]:
      name, caption = _coco_caption(path, entry)
      references.setdefault(name, []).append(caption)
    return references
  for name, captions in content.items():
    if not isinstance(captions, list) or not captions:
      raise InputError(f"{path}: video {name!r} needs a list with a reference in it")
    references[name] = [_text(path, name, caption) for caption in captions]
  return references


def read_predictions(path: Path) -> dict[str, Answer]:
  """One answer a question: {id: answer}, or VQA results [{"question_id": id, "answer": answer}].

  An answer is a text or the number of a choice.

  Raises:
    InputError: naming the file and the question.
  """
  content = _read_json(path)
  if isinstance(content, list):
    for entry in content:
      if not isinstance(entry, dict) or not {"question_id", "answer"} <= entry.keys():
        raise InputError(f"{path}: {_short(entry)} lacks question_id or answer")
    content = _unique(path, [(str(entry["question_id"]), entry["answer"]) for entry in content])
  found = _mapping(path, content, 'answers as {"question": "an answer"}')
  return {name: _answer(path, name, answer) for name, answer in found.items()}


def read_questions(path: Path) -> dict[str, Question]:
  """What is right: {id: answer}, {id: [answer, ...]} or {id: {"answer": ..., "type": type}}.

  Raises:
    InputError: naming the file and the question.
  """
  content = _mapping(path, _read_json(path), 'answers as {"question": "an answer"}')
  questions = {}
  for name, value in content.items():
    kind = ""
    if isinstance(value, dict):
      if "answer" not in value or not value.keys() <= {"answer", "type"}:
        raise InputError(f"{path}: question {name!r} needs the fields answer and, if any, type")
      kind, value = _text(path, name, value.get("type", "")), value["answer"]
    answers = value if isinstance(value, list) else [value]
    if not answers:
      raise InputError(f"{path}: question {name!r} has an empty list of answers")
    questions[name] = Question(tuple(_answer(path, name, answer) for answer in answers), kind)
  return questions


def read_similarities(
  path: Path, captions_per_video: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
  """Similarities of texts (rows) and videos (columns), and the column each text belongs to.

  A .npy file holds the matrix. A .npz file holds it as `similarity`, and may hold `video_of_text`:
  a column for each text or, beside `video_ids`, the id of a video for each. Arrays of bfloat16 are
  written by NumPy as two bytes without a type and read as what they were.

  Args:
    captions_per_video: where `video_of_text` is not given: that many rows in turn for each video.

  Raises:
    InputError: naming the file and the array.
  """
  arrays = _read_arrays(path)
  similarity, owner = arrays["similarity"], arrays.get("video_of_text")
  if similarity.dtype == np.dtype("V2"):
    similarity = similarity.view(ml_dtypes.bfloat16)
  if captions_per_video is not None:
    if owner is not None:
      raise InputError(f"{path}: holds video_of_text, so captions per video cannot be given too")
    if captions_per_video < 1:
      raise InputError(f"captions per video must be 1 or more, not {captions_per_video}")
    return similarity, np.arange(len(similarity)) // captions_per_video
  if "video_ids" in arrays:
    owner = _columns(path, owner, arrays["video_ids"])
  elif owner is not None and owner.dtype.kind not in "iu":
    raise InputError(f"{path}: video_of_text is of {owner.dtype}; give columns, or video_ids too")
  return similarity, owner


def _columns(path: Path, owner: np.ndarray | None, names: np.ndarray) -> np.ndarray | None:
  columns = {str(name): column for column, name in enumerate(names)}
  if len(columns) != len(names):
    raise InputError(f"{path}: video_ids holds an id twice")
  if owner is None:
    return None
  for name in owner:
    if str(name) not in columns:
      raise InputError(f"{path}: video_of_text names {str(name)!r}, which video_ids lacks")
  return np.array([columns[str(name)] for name in owner])


def _read_arrays(path: Path) -> Mapping[str, np.ndarray]:
  try:
    with path.open("rb") as file:
      loaded = np.load(file, allow_pickle=False)
      if isinstance(loaded, np.ndarray):
        return {"similarity": loaded}
      with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
  except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
    raise InputError(f"{path}: is not a .npy or .npz file that can be read ({error})") from None
  for name in arrays:
    if name not in _SIMILARITY_KEYS:
      raise InputError(f"{path}: unknown array {name!r}; known are {', '.join(_SIMILARITY_KEYS)}")
  if "similarity" not in arrays:
    raise InputError(f"{path}: holds no array `similarity`")
  return arrays


def _read_json(path: Path) -> Any:
  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return _unique(path, pairs)

  try:
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None
  except UnicodeDecodeError:
    raise InputError(f"{path}: is not text in UTF-8") from None
  except json.JSONDecodeError as error:
    raise InputError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from None


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = {}
  for name, value in pairs:
    if name in found:
      raise InputError(f"{path}: {name!r} is there twice; keep one")
    found[name] = value
  return found


def _mapping(path: Path, content: Any, form: str) -> dict[str, Any]:
  if not isinstance(content, dict):
    raise InputError(f"{path}: holds {_short(content)}; give {form}")
  if not content:
    raise InputError(f"{path}: is empty; give {form}")
  return content


def _coco_caption(path: Path, entry: Any) -> tuple[str, str]:
  fields = entry if isinstance(entry, dict) else {}
  key = next((key for key in _VIDEO_KEYS if key in fields), None)
  if key is None or "caption" not in fields:
    raise InputError(f"{path}: {_short(entry)} lacks image_id or caption")
  name = str(fields[key])
  return name, _text(path, name, fields["caption"])


def _text(path: Path, name: str, value: Any) -> str:
  if not isinstance(value, str):
    raise InputError(f"{path}: {name!r} has {_short(value)} where a text is due")
  return value


def _answer(path: Path, name: str, value: Any) -> Answer:
  if isinstance(value, bool) or not isinstance(value, str | int):
    raise InputError(f"{path}: {name!r} has {_short(value)}; give a text or a number of a choice")
  return value


def _short(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False)
  return text if len(text) <= 60 else text[:57] + "..."
