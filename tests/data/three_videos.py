"""Three short videos whose seconds are told apart by their grey, with words and labels."""

import av
import numpy as np

from vsumjax.data import prompt
from vsumjax.data.manifest import Labels, Video
from vsumjax.data.prompt import PromptConfig
from vsumjax.data.tokenizer import train_tokenizer

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
  with av.open(path, "w") as container:
    picture = container.add_stream("mpeg4", rate=RATE, options={"qscale:v": "1"})
    picture.width = picture.height = 32
    picture.pix_fmt = "yuv420p"
    sound = container.add_stream("aac", rate=16_000, layout="mono") if has_sound else None
    for n in range(seconds * RATE):
      pixels = np.full((32, 32, 3), level_of(index, n // RATE), np.uint8)
      container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(picture.encode())
    if sound is not None:
      tone = np.sin(np.arange(seconds * 16_000, dtype=np.float32) * 0.2)[None]
      frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
      frame.sample_rate = 16_000
      container.mux(sound.encode(frame))
      container.mux(sound.encode())


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
