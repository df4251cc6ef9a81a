"""Media files made on the spot."""

import fractions

import av
import numpy as np


def write_media(path, grey_at=None, samples=None, sample_rate=16_000, rate=1000):
  """Writes a media file.

  Args:
    path: its suffix says the container.
    grey_at: {start in milliseconds: grey level}, the frames (64x48); None for no picture.
    samples: f32[n], the sound; None for no sound.
    sample_rate: of the sound.
    rate: stated frame rate; a container without display times (AVI) has no other.
  """
  with av.open(str(path), "w") as container:
    if grey_at is not None:
      picture = container.add_stream("libx264", rate=rate, options={"crf": "4"})
      picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
    if samples is not None:
      sound = container.add_stream("aac", rate=sample_rate, layout="mono")
    if grey_at is not None:
      for start_ms, grey in sorted(grey_at.items()):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
        frame.pts, frame.time_base = start_ms, fractions.Fraction(1, 1000)
        container.mux(picture.encode(frame))
      container.mux(picture.encode(None))
    if samples is not None:
      frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
      frame.sample_rate, frame.pts = sample_rate, 0
      container.mux(sound.encode(frame))
      container.mux(sound.encode(None))
  return path
