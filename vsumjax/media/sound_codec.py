"""Samples of sound as FLAC, and back."""

from __future__ import annotations

import io

import av
import numpy as np

from vsumjax.media import audio

_FULL_SCALE = 32_767


def encode_sound(samples: np.ndarray) -> bytes:
  """Codes f32[n], mono at `audio.SAMPLE_RATE`, as FLAC of 16 bits; nothing as no bytes."""
  if not len(samples):
    return b""
  whole = np.round(np.clip(samples, -1, 1) * _FULL_SCALE).astype(np.int16)
  coded = io.BytesIO()
  # FFmpeg pads the header by 8 kB otherwise, and writes its version into it.
  options = {"metadata_header_padding": "0", "fflags": "+bitexact"}
  with av.open(coded, "w", format="flac", options=options) as container:
    stream = container.add_stream("flac", rate=audio.SAMPLE_RATE, layout="mono", format="s16")
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = audio.SAMPLE_RATE, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return coded.getvalue()


def decode_sound(data: bytes) -> np.ndarray:
  """f32[n], mono at `audio.SAMPLE_RATE`, -1..1; empty where the file has no sound stream."""
  if not data:
    return np.zeros(0, np.float32)
  with av.open(io.BytesIO(data)) as container:
    pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
  return np.concatenate(pieces).astype(np.float32) / _FULL_SCALE
