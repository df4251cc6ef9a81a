"""A benchmark without its videos: a corpus for models that read titles and captions alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsumjax.data import prompt, tokenizer
from vsumjax.data.manifest import save_manifest
from vsumjax.data.videos import Labels, Video
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.host.files import write_atomically
from vsumjax.media import subtitles
from vsumjax.types import InputError

_VOCAB_SIZE, _NUM_MARKERS = 1024, 64

# TVSum's, as its paper spells them (Song et al., CVPR 2015).
_CATEGORIES = {
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


def make_corpus(videos: Sequence[AnnotatedVideo], captions: Path, out: Path) -> Path:
  """Writes a manifest of the videos, their captions and a tokenizer of their words to `out`.

  A caption is given whole to every segment it overlaps (the manifest's `sounds`). Segments
  (`edges_s`) are those of the videos, where they have some; each reaches to the next. The levels
  are those at the picks. The tokenizer is trained on titles, captions and the prompt's own words,
  of all videos and without a label. All videos are of the split "all": folds are the evaluation's.

  Args:
    videos: of the benchmark, with levels, picks that are evenly spaced, and frames a second.
    captions: JSON, {dataset: {video id: [{"start_s": 0.0, "end_s": 32.0, "text": "A man ..."}]}}.
    out: a folder.

  Returns:
    The path of the manifest.

  Raises:
    InputError: captions that cannot be read or lack a video, a video without levels.
  """
  told = _load_captions(captions)
  entries = []
  for video in videos:
    if video.id not in told:
      raise InputError(f"{captions}: has no captions of {video.id}")
    path = out / "captions" / f"{video.id}.json"
    write_atomically(path, json.dumps(_cues(f"{captions}: {video.id}", told[video.id]), indent=1))
    entries.append(_entry(video, path))
  tokenizer.train_tokenizer(_texts(entries), out / "tokenizer.model", _VOCAB_SIZE, _NUM_MARKERS)
  save_manifest(out / "manifest.jsonl", entries)
  return out / "manifest.jsonl"


def _texts(entries: Iterable[Video]) -> Iterable[str]:
  yield prompt.TEMPLATE
  yield prompt.PLACE_TEMPLATE
  for entry in entries:
    yield entry.title
    yield from (cue.text for cue in subtitles.load_transcript(entry.sounds))


def _load_captions(path: Path) -> Mapping[str, Any]:
  """The captions by video id: of TVSum, where the file has several data sets."""
  try:
    content = json.loads(path.read_bytes())
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None
  except ValueError as error:
    raise InputError(f"{path}: is not JSON: {error}") from None
  found = content.get("tvsum") if isinstance(content, dict) else None
  if not isinstance(found, dict):
    raise InputError(f"{path}: must be an object with the captions of 'tvsum', an object, in it")
  return found


def _cues(where: str, captions: Any) -> list[dict[str, Any]]:
  """The captions of a video in the form of Whisper's segments."""
  try:
    return [{"start": each["start_s"], "end": each["end_s"], "text": each["text"]}
      for each in captions]  # fmt: skip
  except (KeyError, TypeError):
    raise InputError(f"{where}: must be a list of captions with start_s, end_s and text") from None


def _entry(video: AnnotatedVideo, captions: Path) -> Video:
  if video.levels_AF is None or not video.fps:
    lacking = "levels of annotators" if video.fps else "frames a second"
    raise InputError(f"{video.id}: has no {lacking}, which training needs")
  steps = np.unique(np.diff(video.picks_P))
  if len(steps) != 1:
    raise InputError(f"{video.id}: its picks are not evenly spaced, so they make no units of time")
  duration_s, edges_s = video.num_frames / video.fps, None
  if video.segments_K2 is not None:
    edges_s = (0.0, *(video.segments_K2[1:, 0] / video.fps).tolist(), duration_s)
  category = _CATEGORIES.get(video.category, video.category)
  return Video(
    id=video.id,
    media=None,
    title=f"{category}: {video.title}" if category else video.title,
    split="all",
    sounds=captions,
    labels=Labels(float(steps[0] / video.fps), video.levels_AF[:, video.picks_P].astype(np.int8)),
    duration_s=duration_s,
    edges_s=edges_s,
  )
