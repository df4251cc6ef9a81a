"""Videos whose frames tell their number, modulo 100, and whose sound tells the second it is of."""

import dataclasses
import fractions

import av
import numpy as np

SAMPLE_RATE = 48_000  # of which AAC needs 21 ms before the first sample
_CHUNK = 1024


def write_numbered(path, num_frames, rate=25, *, first=0, size=(48, 64), sound=True, **how):
  """Writes frames `first`, `first` + 1, ... of a film; it is loud in its odd seconds.

  how: offset_s, of the container's times; delay_s, by which the picture starts after the sound;
    skip, frames that are left out; codec.
  """
  rate = fractions.Fraction(rate)
  options = {"output_ts_offset": str(how["offset_s"])} if "offset_s" in how else {}
  with av.open(str(path), "w", options=options) as container:
    codec = how.get("codec", "libx264")
    picture = container.add_stream(codec, rate=rate)
    picture.height, picture.width = size
    picture.pix_fmt = "yuv420p"
    picture.options = {"crf": "6", "preset": "veryfast"} if codec == "libx264" else {}
    picture.codec_context.gop_size = 12
    clock = fractions.Fraction(1, 90_000)
    picture.codec_context.time_base = clock if codec == "libx264" else 1 / rate
    track = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
    heard = _heard(num_frames / rate, first / rate)
    for index in range(num_frames):
      if index in how.get("skip", ()):
        continue
      frame = _numbered(first + index, size)
      frame.time_base = clock
      frame.pts = round((index / rate + fractions.Fraction(how.get("delay_s", 0))) / clock)
      container.mux(picture.encode(frame))
      # In order of time, as a recorder writes, so that the file can be joined to another.
      while track is not None and heard and heard[0].time <= index / rate:
        container.mux(track.encode(heard.pop(0)))
    container.mux(picture.encode(None))
    for frame in (*heard, None) if track is not None else ():
      container.mux(track.encode(frame))
  return path


def _numbered(number, size):
  height, width = size
  planes = np.full((height * 3 // 2, width), 128, np.uint8)
  planes[:height] = 16 + 2 * (number % 100)
  return av.VideoFrame.from_ndarray(planes, "yuv420p")


def _heard(duration_s, first_s):
  time_s = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
  film_s = time_s + float(first_s)
  samples = 0.5 * np.sin(2 * np.pi * 440 * film_s) * (np.floor(film_s) % 2)
  frames = []
  for begin in range(0, len(samples), _CHUNK):
    chunk = samples[None, begin : begin + _CHUNK].astype(np.float32)
    frame = av.AudioFrame.from_ndarray(chunk, "fltp", "mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, begin
    frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
    frames.append(frame)
  return frames


@dataclasses.dataclass
class Film:
  """What is decoded of a file.

  rate: frames a second, as the container states.
  step: of the time stamps of the frames, the set of all.
  numbers: of the frames, by what is in the middle of their picture.
  """

  rate: fractions.Fraction
  step: set
  numbers: list
  size: tuple
  sound: np.ndarray | None

  def is_loud(self, index):
    """In the first half of the time that frame `index` is on screen."""
    begin = round(index / self.rate * SAMPLE_RATE)
    piece = self.sound[begin : begin + max(round(SAMPLE_RATE / self.rate / 2), 32)]
    return bool(np.abs(piece).max(initial=0) > 0.2)


def play(path):
  """Decodes a file; an error of the decoder is one of the test."""
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    rate = stream.average_rate
    frames = list(container.decode(stream))
  places = np.array([frame.pts * frame.time_base for frame in frames])
  luma = [frame.to_ndarray(format="yuv420p")[: frame.height] for frame in frames]
  middle = [plane[plane.shape[0] // 2, plane.shape[1] // 2] for plane in luma]
  sizes = {(frame.height, frame.width) for frame in frames}
  assert len(sizes) == 1
  sound = None
  with av.open(str(path)) as container:
    if container.streams.audio:
      resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
      pieces = [run for frame in container.decode(audio=0) for run in resampler.resample(frame)]
      sound = np.concatenate([piece.to_ndarray()[0] for piece in pieces])
  numbers = [round((float(level) - 16) / 2) for level in middle]
  return Film(rate, set(np.diff(places)), numbers, sizes.pop(), sound)
