"""Words of the text subtitles that lie within a video file. Tracks of pictures are passed over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import av
from av.stream import Disposition

from vsumjax.media import demux, rolling, substation, subtitles

_TEXT_CODECS = ("ass", "mov_text", "srt", "ssa", "subrip", "text", "webvtt")
_FIELDS_BEFORE_TEXT = 8  # of a line of dialogue, as FFmpeg's decoders give it


def load_track(path: demux.Path) -> tuple[subtitles.Cue, ...]:
  """What the text subtitles in a media file say; empty if it has none.

  Of several tracks the one that is marked as the default is read, else the first. Those that are
  marked as forced say only what is foreign, and come last.

  Raises:
    InputError: the file cannot be opened or read.
  """
  with demux.open_media(path) as container:
    stream = _text_stream(container)
    if stream is None:
      return ()
    with demux.reading(path):
      packets = container.demux(stream)
      shown = [cue for packet in packets for cue in _shown(packet, demux.origin_s(container))]
  return subtitles.cues_of(shown)


def _text_stream(container: av.container.InputContainer):
  streams = [
    stream
    for stream in container.streams.subtitles
    if stream.codec_context is not None and stream.codec_context.name in _TEXT_CODECS
  ]

  def last(stream) -> tuple[bool, bool]:
    marks = stream.disposition
    return bool(marks & Disposition.forced), not marks & Disposition.default

  return min(streams, key=last, default=None)


def _shown(packet: av.Packet, origin_s: float) -> Iterator[rolling.Shown]:
  if packet.pts is None:  # the end of the file
    return
  start_s = float(packet.pts * packet.time_base) - origin_s
  end_s = max(demux.packet_end_s(packet) - origin_s, start_s)
  if end_s < 0:
    return
  with contextlib.suppress(av.FFmpegError):  # damage is passed over, as in pictures and sound
    for part in packet.decode():
      event = part.ass.decode(errors="replace")
      lines = substation.plain_lines(event.split(",", _FIELDS_BEFORE_TEXT)[-1])
      if lines:
        yield rolling.Shown(max(start_s, 0.0), end_s, lines)
