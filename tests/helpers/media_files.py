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


def drawing(index, height=48, width=64):
  """u8[height, width, 3]: a picture of gradients that no other index has."""
  y, x = np.mgrid[:height, :width]
  ramps = (3 * x + 7 * index, 5 * y + 3 * index, 2 * (x + y) + 11 * index)
  return (np.stack(ramps, axis=-1) % 256).astype(np.uint8)


def write_picture(path, codec="libx264", pixel_format="yuv420p", *, frame_s, **how):
  """Writes a video without sound.

  Args:
    path: its suffix says the container.
    codec: an encoder's name.
    pixel_format: the encoder's.
    frame_s: when each frame starts, in seconds.
    how: size (height, width); rate; gop, frames between key frames; b_frames, how many in a row;
      options of the encoder; interlaced; rotation in degrees; draw, in place of `drawing`.
  """
  height, width = how.get("size", (48, 64))
  draw, clock = how.get("draw", drawing), fractions.Fraction(1, 1000)
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=how.get("rate", 10), options=how.get("options", {}))
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    stream.codec_context.gop_size = how.get("gop", 12)
    if "b_frames" in how:
      stream.codec_context.max_b_frames = how["b_frames"]
    if "rotation" in how:
      stream.set_display_rotation(how["rotation"])
    if how.get("interlaced"):
      flags = av.codec.context.Flags
      stream.codec_context.flags |= flags.interlaced_dct | flags.interlaced_me
    for index, start_s in enumerate(frame_s):
      frame = av.VideoFrame.from_ndarray(draw(index, height, width), format="rgb24")
      frame = frame.reformat(format=pixel_format)
      # The encoders that know no times but multiples of 1 / rate round it.
      frame.pts, frame.time_base = round(start_s / clock), clock
      container.mux(stream.encode(_as_interlaced(frame) if how.get("interlaced") else frame))
    container.mux(stream.encode(None))
  return path


def _as_interlaced(frame):
  graph = av.filter.Graph()
  graph.link_nodes(
    graph.add_buffer(
      width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    ),
    graph.add("setfield", "tff"),
    graph.add("buffersink"),
  ).configure()
  graph.vpush(frame)
  graph.vpush(None)
  return graph.vpull()


def write_subtitled(path, *tracks, start_ms=0):
  """Writes a video of 6 s at 1 fps with tracks of subtitles.

  Args:
    path: its suffix says the container.
    tracks: (codec, disposition, ((start_ms, end_ms, text), ...)) each.
    start_ms: where the time stamps of the picture begin.
  """
  clock = fractions.Fraction(1, 1000)
  with av.open(str(path), "w") as container:
    picture = container.add_stream("mpeg4", rate=1)
    picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
    streams = [container.add_mux_stream(codec) for codec, _, _ in tracks]
    for stream, (_, marks, _) in zip(streams, tracks, strict=True):
      stream.disposition = marks
    for second in range(6):
      frame = av.VideoFrame.from_ndarray(drawing(second), format="rgb24")
      frame.pts, frame.time_base = start_ms + 1000 * second, clock
      container.mux(picture.encode(frame))
    container.mux(picture.encode(None))
    for stream, (codec, _, said) in zip(streams, tracks, strict=True):
      for first_ms, end_ms, text in said:
        packet = av.Packet(_sample(codec, text))
        packet.pts = packet.dts = start_ms + first_ms
        packet.duration, packet.time_base, packet.stream = end_ms - first_ms, clock, stream
        container.mux(packet)
  return path


def _sample(codec, text):
  """The bytes of a packet; one of mov_text states its length, and marks italics elsewhere."""
  if codec != "mov_text":
    return text.encode()
  data = text.replace("<i>", "").replace("</i>", "").encode()
  return len(data).to_bytes(2, "big") + data


def packet_times(path):
  """Seconds from the file's start, ascending: what a demuxer says of the pictures of a file."""
  with av.open(str(path)) as container:
    zero_s = (container.start_time or 0) / av.time_base
    packets = container.demux(container.streams.video[0])
    times_s = [float(packet.pts * packet.time_base) - zero_s for packet in packets if packet.size]
  return np.sort(times_s)
