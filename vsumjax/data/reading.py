"""What the segments of one video hold: frames and words, from its media or from prepared shards."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import msgpack
import numpy as np

from vsumjax.data import prompt
from vsumjax.data.prepared import records
from vsumjax.data.prepared.store import DecodedStore
from vsumjax.data.videos import Video
from vsumjax.media import audio, cutting, segments, subtitle_tracks, subtitles, video
from vsumjax.types import InputError

INPUTS = ("frames", "sound", "text")
# Decoded at a time: more than between key frames, less than a long video or a store.
_BLOCK_SEGMENTS = 128
_BLOCK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class View:
  """What is looked at in every video.

  prompt: the shape of an example.
  time_shifts: places a frame may be taken from; odd, 1 for its own place only.
  without: `INPUTS` the model is not given, as if the file lacked them: frames are black, nothing
    is heard (`audio.NO_SOUND`), or title and words are empty.
  """

  prompt: prompt.PromptConfig
  time_shifts: int = 1
  without: frozenset[str] = frozenset()

  @property
  def frames_shape(self) -> tuple[int, int, int, int]:
    """F, h, w, 3: the frames of one segment."""
    size = self.prompt.image_size
    return (self.prompt.frames_per_segment, size, size, 3)


def with_length(item: Video, config: prompt.PromptConfig) -> Video:
  """The video with its segments known: by its duration where they are regular, else by `edges_s`.

  Raises:
    InputError: media that cannot be read, or a video that lacks what its segmentation asks for.
  """
  if item.prepared is not None:
    return item
  if item.duration_s is None:
    info = video.probe(item.media, allow_cut=item.allow_cut)
    item = dataclasses.replace(item, duration_s=info.duration_s)
  if config.segmentation == "fixed":
    return dataclasses.replace(item, edges_s=None)
  lacking = "edges_s" if config.segmentation == "given" else "media"
  if getattr(item, lacking) is None:
    raise InputError(
      f"video {item.id!r} has no {lacking} in its manifest, and prompt.segmentation "
      f"{config.segmentation!r} cuts by it"
    )
  try:
    if config.segmentation == "given":
      span_s_N2 = segments.from_edges(item.edges_s, item.duration_s)
    else:
      span_s_N2 = cutting.cut_video(
        config.segmentation,
        item.media,
        item.duration_s,
        config.segment_s,
        allow_cut=item.allow_cut,
      )
  except InputError as error:
    raise InputError(f"video {item.id!r}: {error}") from None
  return dataclasses.replace(item, edges_s=segments.edges_of(span_s_N2))


def spans_of(item: Video, config: prompt.PromptConfig) -> np.ndarray:
  """f64[N, 2], seconds: the segments of a video that went through `with_length`."""
  if item.edges_s is not None:
    return segments.between(item.edges_s)
  return segments.cut(item.duration_s, config.segment_s)


def read_texts(
  item: Video,
  span_s_N2: np.ndarray,
  config: prompt.PromptConfig,
  without: frozenset[str] = frozenset(),
) -> tuple[prompt.SegmentText, ...]:
  """What is said and heard in each segment.

  Without a transcript, what is said is taken from the subtitles in the media file, if it has any.
  `without` takes inputs away: nothing is heard (`audio.NO_SOUND`), or nothing is said.

  Raises:
    InputError: media or a transcript that cannot be read.
  """
  heard = (audio.NO_SOUND,) * len(span_s_N2)
  if "sound" not in without and item.sounds is not None:
    heard = subtitles.texts_within(subtitles.load_transcript(item.sounds), span_s_N2)
  elif "sound" not in without and item.media is not None:
    heard = audio.describe_spans(item.media, span_s_N2, allow_cut=item.allow_cut)
  cues = ()
  if "text" not in without and item.transcript is not None:
    cues = subtitles.load_transcript(item.transcript)
  elif "text" not in without and item.media is not None:
    cues = subtitle_tracks.load_track(item.media)
  said = subtitles.align(cues, span_s_N2, config.context_s)
  return tuple(
    prompt.SegmentText(said=each.words, heard=sound, before=each.before, after=each.after)
    for each, sound in zip(said, heard, strict=True)
  )


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
    raise InputError(
      f"video {item.id!r} has no media to take frames from; add it to the manifest, or leave "
      'frames out (data.without: ["frames"])'
    )
  num_frames = config.frames_per_segment * time_shifts
  times_NF = segments.frame_times(span_s_N2, num_frames)
  size = (config.image_size, config.image_size)
  decoded = video.iter_frames(item.media, times_NF.ravel(), size, item.allow_cut)
  for _ in times_NF:
    yield np.stack([next(decoded) for _ in range(num_frames)])


class MediaSegments:
  """The segments of a video that is decoded when first needed, in blocks that a store keeps."""

  def __init__(self, item: Video, view: View, store: DecodedStore, name: str, wait: bool = True):
    """`name` tells the video from others in the store; `wait` is that of `DecodedStore.get`."""
    self._item, self._view = item, view
    self._store, self._name, self._wait = store, name, wait
    self._span_s_N2 = spans_of(item, view.prompt)

  def frames(self, first: int, stop: int, shift_N: np.ndarray) -> np.ndarray:
    """u8[N, F, h, w, 3] of segments first .. stop - 1, each from a place among `time_shifts`.

    `first` must be a multiple of the window and `stop` at most a window further.
    """
    start = first // self._block_segments * self._block_segments
    block = np.frombuffer(self._block(start), np.uint8)
    num_frames, *picture = self._view.frames_shape
    frames_NFS = block.reshape(-1, num_frames, self._view.time_shifts, *picture)
    frames_NFS = frames_NFS[first - start : stop - start]
    # A copy: a view of the store would keep a file open.
    return frames_NFS[np.arange(stop - first), :, shift_N]

  def texts(self, first: int, stop: int) -> list[prompt.SegmentText]:
    packed = self._store.get(f"{self._name}-texts", self._pack_texts, wait=self._wait)
    bounds = np.frombuffer(packed, np.int64, count=len(self._span_s_N2) + 1)[first : stop + 1]
    return [
      prompt.SegmentText(*msgpack.unpackb(packed[start:end]))
      for start, end in itertools.pairwise(bounds)
    ]

  def read(
    self, first: int, stop: int, shift_N: np.ndarray
  ) -> tuple[np.ndarray, list[prompt.SegmentText]]:
    """Frames and texts."""
    return self.frames(first, stop, shift_N), self.texts(first, stop)

  @property
  def _block_segments(self) -> int:
    """Segments decoded at a time, whole windows.

    It depends on the view alone: what a decoder makes of damage depends on where it began.
    """
    segment_bytes = self._view.time_shifts * math.prod(self._view.frames_shape)
    most = min(_BLOCK_SEGMENTS, _BLOCK_BYTES // segment_bytes)
    window = self._view.prompt.window
    return max(window, most // window * window)

  def _block(self, start: int) -> memoryview:
    def decode() -> np.ndarray:
      span_s_N2 = self._span_s_N2[start : start + self._block_segments]
      view = self._view
      return np.stack(list(iter_frames(self._item, span_s_N2, view.prompt, view.time_shifts)))

    return self._store.get(f"{self._name}-frames-{start}", decode, wait=self._wait)

  def _pack_texts(self) -> bytes:
    """Where each segment's text starts and ends, i64[N + 1], and the texts one after the other."""
    texts = read_texts(self._item, self._span_s_N2, self._view.prompt, self._view.without)
    packed = [msgpack.packb(dataclasses.astuple(text)) for text in texts]
    bounds = np.cumsum([8 * (len(packed) + 1), *map(len, packed)], dtype=np.int64)
    return bounds.tobytes() + b"".join(packed)


class PreparedSegments:
  """The segments of a video in a shard that `launch/prepare.py` wrote."""

  def __init__(self, item: Video, view: View, prepared_shifts: int, reader: records.ShardReader):
    """prepared_shifts: `time_shifts` of what was prepared."""
    self._item, self._view = item, view
    self._prepared_shifts, self._reader = prepared_shifts, reader
    self._span_s_N2 = spans_of(item, view.prompt)

  def texts(self, first: int, stop: int) -> list[prompt.SegmentText]:
    return [self._without(record.text) for record in self._records(first, stop)]

  def read(
    self, first: int, stop: int, shift_N: np.ndarray
  ) -> tuple[np.ndarray, list[prompt.SegmentText]]:
    """As `MediaSegments.read`."""
    if self._view.time_shifts == 1:
      shift_N = np.full(stop - first, self._prepared_shifts // 2)
    found = self._records(first, stop)
    jpegs = [
      jpeg
      for record, shift in zip(found, shift_N, strict=True)
      for jpeg in record.frames[shift :: self._prepared_shifts]
    ]
    frames = np.stack([records.decode_jpeg(jpeg) for jpeg in jpegs])
    texts = [self._without(record.text) for record in found]
    return frames.reshape(-1, *self._view.frames_shape), texts

  def _records(self, first: int, stop: int) -> list[records.SegmentRecord]:
    prepared = self._item.prepared
    try:
      found = self._reader.read(prepared.first + first, prepared.first + stop)
    except IndexError as error:
      raise InputError(f"{error}; the manifest is not that of the shards, prepare again") from None
    span_s_N2 = self._span_s_N2[first:stop].tolist()
    for segment, (record, span_s) in enumerate(zip(found, span_s_N2, strict=True), start=first):
      stored = (record.video_id, record.segment, list(record.span_s))
      if stored != (self._item.id, segment, span_s):
        raise InputError(
          f"{prepared.shard}: record {prepared.first + segment} is segment {record.segment} of "
          f"video {record.video_id!r} at {record.span_s}, not segment {segment} of "
          f"{self._item.id!r} at {tuple(span_s)}; prepare again"
        )
    return found

  def _without(self, text: prompt.SegmentText) -> prompt.SegmentText:
    if "sound" in self._view.without:
      text = dataclasses.replace(text, heard=audio.NO_SOUND)
    if "text" in self._view.without:
      text = prompt.SegmentText(said="", heard=text.heard)
    return text
