"""What one run decided about one video, and its machine-readable form, `scores.json`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

import numpy as np

from vsumjax.host.files import write_atomically
from vsumjax.types import SegmentScores

Array = np.ndarray

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Summary:
  """The segments of a video, their scores, what was said and heard in them, and the chosen ones."""

  media: str  # name of the video file
  title: str
  duration_s: float
  share: float  # of the duration that was asked for
  scores: SegmentScores
  selected_N: Array  # bool
  said: tuple[str, ...]  # one for each segment, "" where nothing was
  heard: tuple[str, ...]
  model: Mapping[str, str]  # what identifies the model, e.g. {"parameters_digest": "9f0c..."}

  def __post_init__(self):
    lengths = [len(self.scores.score), len(self.selected_N), len(self.said), len(self.heard)]
    if len(set(lengths)) != 1:
      raise ValueError(f"scores, selected_N, said and heard differ in length: {lengths}")

  @property
  def selected_span_s_K2(self) -> Array:
    """f64[K, 2]: the chosen segments, in order of time."""
    return np.asarray(self.scores.span_s)[np.asarray(self.selected_N)]

  @property
  def length_s(self) -> float:
    return float(np.diff(self.selected_span_s_K2, axis=1).sum())

  @property
  def share_reached(self) -> float:
    return self.length_s / self.duration_s

  @property
  def sounds(self) -> dict[str, list[tuple[float, float]]]:
    """Each phrase of what is heard, and from when to when, in seconds: repeats are merged.

    As DEEVISum's audio summary (arXiv 2504.21831). ("silence", "noise", "noise") in [0, 2), [2, 4),
    [4, 6) is {"silence": [(0, 2)], "noise": [(2, 6)]}; segments without a phrase are left out.
    """
    sounds: dict[str, list[tuple[float, float]]] = {}
    for phrase, (start_s, end_s) in zip(
      self.heard, np.asarray(self.scores.span_s).tolist(), strict=True
    ):
      spans = sounds.setdefault(phrase, [])
      if spans and spans[-1][1] == start_s:
        start_s = spans.pop()[0]
      spans.append((start_s, end_s))
    return {phrase: spans for phrase, spans in sounds.items() if phrase}

  @property
  def starts_in_summary_s_N(self) -> Array:
    """f64[N]: when each chosen segment begins in the summary; NaN for the others."""
    selected_N = np.asarray(self.selected_N)
    length_s_K = np.diff(self.selected_span_s_K2, axis=1)[:, 0]
    starts_s_N = np.full(len(selected_N), np.nan)
    starts_s_N[selected_N] = np.cumsum(length_s_K) - length_s_K
    return starts_s_N


def save_scores(path: str | os.PathLike[str], summary: Summary) -> None:
  """Writes `scores.json`, whole or not at all.

  Schema 1, times in seconds of the source video:

      {"schema": 1, "media": "talk.mp4", "title": "A talk", "duration_s": 61.3,
       "share_asked": 0.15, "share_reached": 0.13, "summary_s": 8.0,
       "model": {"parameters_digest": "9f0c..."},
       "sounds": {"quiet speech": [[0.0, 12.0], [40.0, 61.3]], ...},
       "segments": [{"start_s": 0.0, "end_s": 2.0, "score": 3.71, "exit": 1, "selected": true,
                     "said": "good morning", "heard": "quiet speech"}, ...]}

  `score` is the expected importance level, `exit` the index (from 0) of the exit that answered.

  Raises:
    ValueError: a score or a time is NaN or infinite, which JSON cannot hold.
  """
  segments = [
    {
      "start_s": float(start_s),
      "end_s": float(end_s),
      "score": _shortest(score),
      "exit": int(exit_index),
      "selected": bool(selected),
      "said": said,
      "heard": heard,
    }
    for (start_s, end_s), score, exit_index, selected, said, heard in zip(
      summary.scores.span_s,
      summary.scores.score,
      summary.scores.exit,
      summary.selected_N,
      summary.said,
      summary.heard,
      strict=True,
    )
  ]
  content = {
    "schema": SCHEMA,
    "media": summary.media,
    "title": summary.title,
    "duration_s": summary.duration_s,
    "share_asked": summary.share,
    "share_reached": summary.share_reached,
    "summary_s": summary.length_s,
    "model": dict(summary.model),
    "sounds": summary.sounds,
    "segments": segments,
  }
  text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
  write_atomically(path, text + "\n")


def _shortest(value: np.float32) -> float:
  """The float of the fewest digits that is still this 32-bit number: 4.31, not 4.3099999427."""
  return float(str(np.float32(value)))
