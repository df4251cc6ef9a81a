"""TVSum without its videos: a corpus for models that read text alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vsumjax.data import prompt, tokenizer, transcript
from vsumjax.data.manifest import FILES, Labels, Video, save_manifest
from vsumjax.files import write_atomically
from vsumjax.types import InputError

_VOCAB_SIZE, _NUM_MARKERS = 1024, 64
_PICK_FRAMES = 15  # levels are those of the frames that the usual protocols look at

# Of the paper's table 1 (Song et al., CVPR 2015).
CATEGORIES = {
  "VT": "changing vehicle tire",
  "VU": "getting vehicle unstuck",
  "GA": "grooming an animal",
  "MS": "making sandwich",
  "PK": "parkour",
  "PR": "parade",
  "FM": "flash mob gathering",
  "BK": "beekeeping",
  "BT": "attempting bike tricks",
  "DS": "dog show",
}


def make_corpus(
  annotations: Path, captions: Path, out: Path, *, captions_as: str = "sounds", edges: str = ""
) -> Path:
  """Writes a manifest of all videos, their captions and a tokenizer to `out`.

  The tokenizer is trained on titles, captions and the prompt's own words, of all videos and without
  any label. All videos are of the split "all": folds are the evaluation's matter.

  Args:
    annotations: HDF5, a group a video with `user_anno` [20, frames], `title`, `category` and
      `fps_est`.
    captions: JSON, {"tvsum": {group: [{"start_s": 0.0, "end_s": 32.0, "text": "A man ..."}]}}.
    captions_as: "sounds" gives each segment the whole of every caption that overlaps it,
      "transcript" only the words that fall into it, as if they were spoken.
    edges: of the segments ("given"): a data set of each group, as "shots", i[segments, 2] frames.

  Returns:
    The path of the manifest.

  Raises:
    InputError: a file that cannot be read, or lacks a video or a key.
  """
  if captions_as not in FILES[1:]:
    raise InputError(f"captions_as: must be one of {', '.join(FILES[1:])}, is {captions_as!r}")
  told = _load_captions(captions)
  videos = []
  try:
    with h5py.File(annotations) as file:
      for name in sorted(file, key=lambda name: (len(name), name)):
        cues = _cues_of(captions, told, name)
        words = out / "captions" / f"{name}.json"
        write_atomically(words, json.dumps(cues, indent=1))
        video = _video(annotations, file[name], edges)
        videos.append(Video(**(video | {captions_as: words})))
  except OSError as error:
    raise InputError(f"{annotations}: cannot be read as HDF5: {error}") from None
  tokenizer.train_tokenizer(_texts(videos, captions_as), out / "tokenizer.model", _VOCAB_SIZE,
    _NUM_MARKERS)  # fmt: skip
  save_manifest(out / "manifest.jsonl", videos)
  return out / "manifest.jsonl"


def _texts(videos: Sequence[Video], captions_as: str) -> Iterable[str]:
  yield prompt.TEMPLATE
  yield prompt.PLACE_TEMPLATE
  for video in videos:
    yield video.title
    yield from (cue.text for cue in transcript.load_transcript(getattr(video, captions_as)))


def _load_captions(path: Path) -> Mapping[str, Any]:
  try:
    return json.loads(path.read_bytes())["tvsum"]
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None
  except (ValueError, KeyError, TypeError):
    raise InputError(f"{path}: must be a JSON object with the captions of 'tvsum'") from None


def _cues_of(path: Path, told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
  """The captions of a video in the form of Whisper's segments."""
  try:
    return [{"start": c["start_s"], "end": c["end_s"], "text": c["text"]} for c in told[name]]
  except (KeyError, TypeError) as error:
    raise InputError(
      f"{path}: tvsum.{name}: must be a list of captions with start_s, end_s and text: {error!r}"
    ) from None


def _video(path: Path, group: h5py.Group, edges: str) -> dict[str, Any]:
  name = group.name.strip("/")
  for key in ("user_anno", "title", "category", "fps_est", *filter(None, [edges])):
    if key not in group:
      raise InputError(f"{path}: video {name} lacks the key {key!r}")
  levels_AF, fps = group["user_anno"][()], float(group["fps_est"][()])
  category = group["category"][()].decode()
  video: dict[str, Any] = {
    "id": name,
    "media": None,
    "title": f"{CATEGORIES.get(category, category)}: {group['title'][()].decode()}",
    "split": "all",
    "labels": Labels(_PICK_FRAMES / fps, levels_AF[:, ::_PICK_FRAMES].astype(np.int8)),
    "duration_s": levels_AF.shape[1] / fps,
  }
  if edges:
    first_K = group[edges][:, 0].astype(int)  # each segment reaches to the next one
    inner = np.unique(first_K[(first_K > 1) & (first_K < levels_AF.shape[1])])
    video["edges_s"] = (0.0, *(inner / fps).tolist(), video["duration_s"])
  return video
