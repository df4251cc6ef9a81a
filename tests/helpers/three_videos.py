"""Three short videos whose seconds are told apart by their grey, with words and labels."""

import numpy as np
from media_files import write_media

from vsumjax.data import prompt
from vsumjax.data.prompt import PromptConfig
from vsumjax.data.tokenizer import train_tokenizer
from vsumjax.data.videos import Labels, Video

CONFIG = PromptConfig(
  window=2,
  segment_s=1.0,
  frames_per_segment=2,
  tokens_per_frame=1,
  image_size=16,
  text_tokens=60,
  title_tokens=8,
  score_tokens=("1", "2", "3", "4", "5"),
)
DURATIONS_S = (5, 3, 4)
NUM_EXAMPLES = 3 + 2 + 2
WINDOW_BYTES = 2 * 2 * 16 * 16 * 3
RATE = 8


def level_of(index, segment):
  """The grey level of a video's frames in one second."""
  return 20 + 30 * segment + 10 * index


def write_video(path, index, seconds, has_sound):
  grey_at = {n * 1000 // RATE: level_of(index, n // RATE) for n in range(seconds * RATE)}
  tone = np.sin(np.arange(seconds * 16_000, dtype=np.float32) * 0.2)
  write_media(path, grey_at, tone if has_sound else None, rate=RATE)


def write_words(path, seconds):
  cues = [f"{n + 1}\n00:00:0{n},000 --> 00:00:0{n + 1},000\nword{n}\n" for n in range(seconds)]
  path.write_text("\n".join(cues))


def write_videos(folder):
  """Writes media, transcripts, a tokenizer t.model and mute0.mp4, video 0 without its sound."""
  for index, seconds in enumerate(DURATIONS_S):
    write_video(folder / f"{index}.mp4", index, seconds, has_sound=index != 1)
    write_words(folder / f"{index}.srt", seconds)
  write_video(folder / "mute0.mp4", 0, DURATIONS_S[0], has_sound=False)
  train_tokenizer([prompt.TEMPLATE, "word talk"] * 3, folder / "t.model", 360, num_markers=4)


def labelled_videos(folder):
  rng = np.random.default_rng(0)
  return tuple(
    Video(
      id=f"v{index}",
      media=folder / f"{index}.mp4",
      title=f"talk {index}",
      split="train",
      transcript=folder / f"{index}.srt",
      labels=Labels(1.0, rng.integers(1, 6, (3, seconds)).astype(np.int8)),
    )
    for index, seconds in enumerate(DURATIONS_S)
  )
