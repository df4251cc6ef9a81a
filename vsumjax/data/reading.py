"""What the segments of one video hold: frames and words, from its media or from prepared shards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vsumjax.data import audio, prompt, segments, transcript, video
from vsumjax.data.manifest import Video
from vsumjax.types import InputError

INPUTS = ("frames", "sound", "text")


def cut_video(item: Video, config: prompt.PromptConfig) -> np.ndarray:
  """f64[N, 2], start and end of each segment in seconds.

  Raises:
    InputError: media that cannot be read.
  """
  duration_s = item.duration_s
  if duration_s is None:
    duration_s = video.probe(item.media).duration_s
  return segments.cut(duration_s, config.segment_s)


def read_texts(
  item: Video,
  span_s_N2: np.ndarray,
  config: prompt.PromptConfig,
  without: frozenset[str] = frozenset(),
) -> tuple[prompt.SegmentText, ...]:
  """What is said and heard in each segment.

  `without` takes inputs away: nothing is heard (`audio.NO_SOUND`), or nothing is said.

  Raises:
    InputError: media or a transcript that cannot be read.
  """
  heard = (audio.NO_SOUND,) * len(span_s_N2)
  if "sound" not in without and item.media is not None:
    heard = audio.describe_spans(item.media, span_s_N2)
  said = ("",) * len(span_s_N2)
  if "text" not in without and item.transcript is not None:
    said = transcript.align(transcript.load_srt(item.transcript), span_s_N2)
  return tuple(prompt.SegmentText(*both) for both in zip(said, heard, strict=True))


def iter_frames(
  item: Video, span_s_N2: np.ndarray, config: prompt.PromptConfig, time_shifts: int = 1
) -> Iterator[np.ndarray]:
  """Yields u8[F * time_shifts, h, w, 3] for each segment, decoding as it goes.

  The times are `segments.frame_times` of F * time_shifts frames; with an odd `time_shifts` the
  middle one of each `time_shifts` neighbours is where a single frame would be.

  Raises:
    InputError: a video without media, or media that cannot be read.
  """
  if item.media is None:
    raise InputError(f"video {item.id!r} has no media to take frames from; add it to the manifest")
  num_frames = config.frames_per_segment * time_shifts
  times_NF = segments.frame_times(span_s_N2, num_frames)
  size = (config.image_size, config.image_size)
  decoded = video.iter_frames(item.media, times_NF.ravel(), size)
  for _ in times_NF:
    yield np.stack([next(decoded) for _ in range(num_frames)])
