"""Writing small videos with sound, the same bytes on every machine."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

import av
import numpy as np

from vsumjax.host.files import replacing

Scene = tuple[np.ndarray, np.ndarray]


def write_clip(
  path: pathlib.Path, scenes: Iterable[Scene], size: tuple[int, int], fps: int, sample_rate: int
) -> None:
  """Writes scenes one after the other as H.264 with AAC.

  Args:
    path: of the mp4; it appears only when it is complete.
    scenes: of each its picture u8[frames, height, width, 3], RGB, and its sound f32[samples], mono.
    size: (height, width) in pixels, even.
    fps: frames a second.
    sample_rate: of the sound, in Hz.
  """
  # The container is closed before its file is renamed.
  with replacing(path) as temporary, av.open(os.fspath(temporary), "w") as container:
    picture, sound = _add_streams(container, size, fps, sample_rate)
    num_frames = num_samples = 0
    for frames, samples in scenes:
      for pixels in frames:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, num_frames = num_frames, num_frames + 1
        container.mux(picture.encode(frame))
      frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
      frame.sample_rate, frame.pts = sample_rate, num_samples
      num_samples += len(samples)
      container.mux(sound.encode(frame))
    container.mux(picture.encode(None))
    container.mux(sound.encode(None))


def _add_streams(container, size: tuple[int, int], fps: int, sample_rate: int):
  picture = container.add_stream("libx264", rate=fps, options={"preset": "superfast", "crf": "27"})
  picture.height, picture.width = size
  picture.pix_fmt = "yuv420p"
  picture.thread_count = 1  # so that the bytes do not depend on the machine's cores
  sound = container.add_stream("aac", rate=sample_rate, layout="mono")
  sound.bit_rate = 32_000
  sound.options = {"aac_coder": "fast"}
  return picture, sound
