"""The streams of a summary: H.264 that players everywhere show, and AAC."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import av

from vsumjax.media import colour
from vsumjax.media.colour import Filters

TICKS_PER_S = 90_000  # of the picture's clock: MPEG's, fine enough for any variable frame rate
SOUND_BIT_RATE = 80_000  # bits/s and channel

_TURNS = {
  90: (("transpose", {"dir": "cclock"}),),
  180: (("hflip", {}), ("vflip", {})),
  270: (("transpose", {"dir": "clock"}),),
}


@dataclasses.dataclass(frozen=True)
class Pace:
  """How frames come in the summary: at a constant rate, or each at its own time.

  rate: frames a second; None for times of their own.
  frame_ticks: length of a frame, where the rate is constant.
  ticks_per_s: of the picture's clock; a constant rate is a whole number of ticks.
  """

  rate: Fraction | None = None

  @property
  def ticks_per_s(self) -> int:
    return TICKS_PER_S if self.rate is None else self.rate.numerator * self._ticks_per_unit

  @property
  def frame_ticks(self) -> int:
    return 0 if self.rate is None else self.rate.denominator * self._ticks_per_unit

  @property
  def _ticks_per_unit(self) -> int:
    return -(-TICKS_PER_S // self.rate.numerator)


class Canvas:
  """Makes of decoded frames what the encoder takes: upright, of one size, in colours it can tell.

  The first frame says the size. Others are scaled to fit into it, with black bars. HDR is mapped to
  BT.709, RGB is coded by BT.709, and full range becomes the limited one; other frames are left as
  they are, with the colours that they state.
  """

  def __init__(self, first: av.VideoFrame):
    self._size = (first.width, first.height)
    self._to_standard = colour.StandardRange()
    self._to_canvas = colour.FrameFilter(self._filters)
    self._given = self._made = None
    self.first = self(first)

  def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
    if frame is not self._given:  # one that stays on screen is made once
      self._given, self._made = frame, self._to_canvas(self._to_standard(frame))
    return self._made

  def _filters(self, frame: av.VideoFrame) -> Filters:
    return (*self._fitting(frame), *_TURNS.get(round(frame.rotation) % 360, ()), *_coded(frame))

  def _fitting(self, frame: av.VideoFrame) -> Filters:
    if (frame.width, frame.height) == self._size:
      return ()
    width, height = map(str, self._size)
    fit = {"w": width, "h": height, "force_original_aspect_ratio": "decrease"}
    return (
      ("scale", fit | {"flags": "bicubic+accurate_rnd+bitexact"}),
      ("setsar", {"sar": "1"}),
      ("pad", {"w": width, "h": height, "x": "-1", "y": "-1"}),
    )


def _coded(frame: av.VideoFrame) -> Filters:
  """To 8 bits, 4:2:0, where the encoder would not do so without losing what the colours mean."""
  if not (colour.is_rgb(frame) or colour.is_full_range(frame)):
    return ()
  scale = {"out_range": "limited", "flags": colour.SCALE_FLAGS}
  unsaid = {}
  if colour.is_rgb(frame):
    scale["out_color_matrix"] = "bt709"
    stated = {"color_primaries": frame.color_primaries, "color_trc": frame.color_trc}
    unsaid = {name: "bt709" for name, code in stated.items() if int(code) == colour.UNSPECIFIED}
  return (("scale", scale), ("format", {"pix_fmts": "yuv420p"}), ("setparams", unsaid))


def add_video(output, canvas: Canvas, pace: Pace, source: av.VideoStream) -> av.VideoStream:
  """Adds the picture to an open output."""
  frame = canvas.first
  mean_rate = min(max(source.average_rate or Fraction(25), Fraction(1)), Fraction(120))
  # Only without frames coded out of order is the duration of the last one kept as it was asked.
  options = {"preset": "veryfast", "crf": "20", "bf": "0"}
  stream = output.add_stream("libx264", rate=pace.rate or mean_rate, options=options)
  # 4:2:0 halves both sides of the colour planes.
  stream.width, stream.height = (max(side - side % 2, 2) for side in (frame.width, frame.height))
  stream.pix_fmt = "yuv420p"
  encoder = stream.codec_context
  stream.time_base = encoder.time_base = Fraction(1, pace.ticks_per_s)
  encoder.flags |= av.codec.context.Flags.frame_duration
  if source.sample_aspect_ratio:
    turned = frame.width == source.height != source.width
    shape = source.sample_aspect_ratio
    encoder.sample_aspect_ratio = 1 / shape if turned else shape
  _tag(encoder, frame)
  return stream


def _tag(encoder: av.VideoCodecContext, frame: av.VideoFrame) -> None:
  """Says of the colours what the frame says of them."""
  matrix = int(frame.colorspace)
  # Some files call their pixels RGB that are not; and what was RGB must not stay called so.
  encoder.colorspace = colour.UNSPECIFIED if matrix == colour.RGB_MATRIX else matrix
  encoder.color_primaries, encoder.color_trc = frame.color_primaries, frame.color_trc
  encoder.color_range = frame.color_range


def add_audio(output, source: av.AudioStream) -> av.AudioStream:
  """Adds the sound to an open output: at the source's rate if AAC has it, mono or stereo."""
  rates = av.Codec("aac", "w").audio_rates
  rate = source.sample_rate if source.sample_rate in rates else 48_000
  layout = "mono" if source.layout.nb_channels == 1 else "stereo"
  stream = output.add_stream("aac", rate=rate, layout=layout)
  stream.bit_rate = SOUND_BIT_RATE * stream.layout.nb_channels
  return stream
