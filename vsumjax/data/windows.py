"""Examples: windows of consecutive segments of videos, with frames, words, labels and teachers."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vsumjax.data import audio, prompt, segments, teacher_cache, transcript, video
from vsumjax.data.manifest import Video
from vsumjax.data.tokenizer import Tokenizer
from vsumjax.types import InputError

INPUTS = ("frames", "sound", "text")
TARGETS = ("histogram", "hard", "none")
PADDING_EXAMPLE = -1
GIB = 1 << 30
_PROBE_THREADS = 8
_TEXT_OVERHEAD_BYTES = 200  # of the objects that hold the texts of one segment


class WindowSource:
  """Random access to examples: windows of N consecutive segments, video after video.

  `source[i]` is a dict with the fields of `types.Batch` without their batch axis; its `teachers`
  are arrays of logits. The last window of a video may be partly empty.

  `targets` says what `weight` means. With `histogram` or `hard` every video must have labels, and a
  segment weighs 1 where it exists and labels cover it. With `none`, for scoring and for teacher
  caches, labels are not looked at: targets are zeros and every segment that exists weighs 1.

  A video is decoded when first needed; its sampled frames and texts stay in a cache of bounded
  bytes. A long video is kept in blocks of windows, so its length is bounded by nothing. Safe in
  threads, and picklable (the cache stays behind).

  Attributes:
    videos: as given.
    windows: i32[W, 2], video index and first segment of each example.
    examples_digest: blake2b-16 hex over what a teacher would see: ids, titles, transcripts, media
      sizes, spans, windows and inputs left out; not over labels and not over where files lie.
  """

  def __init__(
    self,
    videos: Sequence[Video],
    prompt_config: prompt.PromptConfig,
    tokenizer: Tokenizer,
    *,
    targets: str = "none",
    teachers: tuple[teacher_cache.CacheReader, ...] = (),
    without: frozenset[str] = frozenset(),
    cache_bytes: int = GIB,
  ):
    """Looks into every file for its duration, and decodes none.

    Args:
      videos: in the order examples are numbered.
      prompt_config: the shape of an example.
      tokenizer: of the prompt.
      targets: one of `TARGETS`.
      teachers: sealed caches of these very examples.
      without: `INPUTS` the model is not given. Frames are then black, nothing is heard
        (`audio.NO_SOUND`), or title and words are empty: as if the file lacked them.
      cache_bytes: bound of the cache.

    Raises:
      InputError: a file that cannot be read, a video without labels, a cache of other examples.
    """
    _require_known("targets", [targets], TARGETS)
    _require_known("without", without, INPUTS)
    self.videos = tuple(videos)
    self._config = prompt_config
    self._tokenizer = tokenizer
    self._without = frozenset(without)
    self._cache = _ByteCache(cache_bytes)
    if targets != "none":
      _require_labels(self.videos, targets)
    self._spans = _cut_videos(self.videos, prompt_config.segment_s)
    self._targets = self._make_targets(targets)
    self.windows = _cut_windows(self._spans, prompt_config.window)
    self.examples_digest = self._digest_examples()
    self._teachers = tuple(teachers)
    for teacher in self._teachers:
      teacher.require(self._expected_of_teachers())

  def __len__(self) -> int:
    return len(self.windows)

  def __getitem__(self, example: int) -> dict[str, Any]:
    index, first = (int(x) for x in self.windows[example])
    texts = self.texts(index)[first : first + self._config.window]
    title = "" if "text" in self._without else self.videos[index].title
    targets_NC, weight_N = self._targets_of(index, first)
    return {
      "frames": self._frames(index, first),
      **_layout_fields(prompt.layout(self._config, self._tokenizer, title, texts)),
      "targets": targets_NC,
      "weight": weight_N,
      "teachers": tuple(teacher[example] for teacher in self._teachers),
      "example": np.asarray(example, np.int32),
    }

  def padding(self) -> dict[str, Any]:
    """An example that weighs nothing and needs no file: a black frame, no words."""
    window, num_classes = self._config.window, len(self._config.score_tokens)
    nothing = [prompt.SegmentText(said="", heard=audio.NO_SOUND)]
    return {
      "frames": np.zeros((window, *self._frames_shape), np.uint8),
      **_layout_fields(prompt.layout(self._config, self._tokenizer, "", nothing)),
      "targets": np.zeros((window, num_classes), np.float32),
      "weight": np.zeros(window, np.float32),
      "teachers": tuple(np.zeros((window, num_classes), np.float32) for _ in self._teachers),
      "example": np.asarray(PADDING_EXAMPLE, np.int32),
    }

  def spans(self, index: int) -> np.ndarray:
    """f64[n, 2], seconds: the segments of video `index`."""
    return self._spans[index]

  def example_key(self, example: int) -> bytes:
    """8 bytes that a teacher cache keeps with its answer to this example."""
    return teacher_cache.example_key(self.examples_digest, example)

  @property
  def _frames_shape(self) -> tuple[int, int, int, int]:
    """F, h, w, 3: the frames of one segment."""
    size = self._config.image_size
    return (self._config.frames_per_segment, size, size, 3)

  def _frames(self, index: int, first: int) -> np.ndarray:
    """u8[N, F, h, w, 3] of the window that starts at segment `first`."""
    window = self._config.window
    if "frames" in self._without:
      return np.zeros((window, *self._frames_shape), np.uint8)
    window_bytes = window * int(np.prod(self._frames_shape))
    # A quarter of the cache, so that threads at work on different blocks do not evict each other.
    block = window * max(1, self._cache.capacity_bytes // 4 // window_bytes)
    start = first // block * block
    frames = self._cache.get(
      ("frames", index, start),
      functools.partial(self._decode, index, start, start + block),
      lambda array: array.nbytes,
    )
    return _pad_to(frames[first - start : first - start + window], window)

  def _decode(self, index: int, start: int, stop: int) -> np.ndarray:
    times_NF = segments.frame_times(self._spans[index][start:stop], self._frames_shape[0])
    frames = np.empty((times_NF.size, *self._frames_shape[1:]), np.uint8)
    decoded = video.iter_frames(self.videos[index].media, times_NF.ravel(), self._frames_shape[1:3])
    for slot, frame in zip(frames, decoded, strict=True):
      slot[:] = frame
    frames.flags.writeable = False  # examples are views of it
    return frames.reshape(len(times_NF), *self._frames_shape)

  def texts(self, index: int) -> tuple[prompt.SegmentText, ...]:
    """What is said and heard in each segment of video `index`."""
    return self._cache.get(
      ("text", index),
      functools.partial(self._read_texts, index),
      lambda texts: sum(_TEXT_OVERHEAD_BYTES + len(t.said) + len(t.heard) for t in texts),
    )

  def _read_texts(self, index: int) -> tuple[prompt.SegmentText, ...]:
    item, span_s_N2 = self.videos[index], self._spans[index]
    heard = (audio.NO_SOUND,) * len(span_s_N2)
    if "sound" not in self._without:
      heard = audio.describe_spans(item.media, span_s_N2)
    said = transcript.align((), span_s_N2)
    if "text" not in self._without and item.transcript is not None:
      said = transcript.align(transcript.load_transcript(item.transcript), span_s_N2)
    return tuple(
      prompt.SegmentText(said=s.words, heard=h) for s, h in zip(said, heard, strict=True)
    )

  def _make_targets(self, kind: str) -> tuple[np.ndarray, ...]:
    """f32[n, C] for each video; none at all where labels are not asked for."""
    if kind == "none":
      return ()
    make = _harden if kind == "hard" else np.asarray
    num_levels = len(self._config.score_tokens)
    return tuple(
      make(segments.level_histogram(item.labels, span_s_N2, num_levels))
      for item, span_s_N2 in zip(self.videos, self._spans, strict=True)
    )

  def _targets_of(self, index: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """f32[N, C] and f32[N] of the window that starts at segment `first`."""
    window, num_classes = self._config.window, len(self._config.score_tokens)
    if self._targets:
      targets_NC = self._targets[index][first : first + window]
      weight_N = targets_NC.any(axis=1).astype(np.float32)
    else:
      num_segments = len(self._spans[index][first : first + window])
      targets_NC = np.zeros((num_segments, num_classes), np.float32)
      weight_N = np.ones(num_segments, np.float32)
    return _pad_to(targets_NC, window), _pad_to(weight_N, window)

  def _expected_of_teachers(self) -> dict[str, str | int]:
    return {
      "tokenizer_digest": self._tokenizer.digest,
      "prompt_digest": prompt.prompt_digest(self._config, self._tokenizer),
      "examples_digest": self.examples_digest,
      "num_examples": len(self),
      "window": self._config.window,
      "num_classes": len(self._config.score_tokens),
    }

  def _digest_examples(self) -> str:
    digest = hashlib.blake2b(json.dumps(sorted(self._without)).encode(), digest_size=16)
    for item, span_s_N2 in zip(self.videos, self._spans, strict=True):
      words = b"" if item.transcript is None else item.transcript.read_bytes()
      content = [item.id, item.title, item.media.stat().st_size, len(words), len(span_s_N2)]
      digest.update(json.dumps(content).encode() + words + span_s_N2.tobytes())
    digest.update(self.windows.tobytes())
    return digest.hexdigest()


class _ByteCache:
  """Least recently used values up to a number of bytes; each is made once, in one thread."""

  def __init__(self, capacity_bytes: int):
    self.capacity_bytes = capacity_bytes
    self.used_bytes = 0
    self._values: collections.OrderedDict = collections.OrderedDict()
    self._lock = threading.Lock()
    self._making: dict[Any, threading.Lock] = {}

  def get(self, key: Any, make: Callable[[], Any], num_bytes: Callable[[Any], int]) -> Any:
    """The value of `key`, made by `make` if it is not kept. A value above the bound is not kept."""
    with self._lock:
      making = self._making.setdefault(key, threading.Lock())
    with making:
      with self._lock:
        if key in self._values:
          self._values.move_to_end(key)
          return self._values[key][0]
      value = make()
      with self._lock:
        self._values[key] = (value, num_bytes(value))
        self.used_bytes += self._values[key][1]
        while self.used_bytes > self.capacity_bytes:
          self.used_bytes -= self._values.popitem(last=False)[1][1]
      return value

  def __reduce__(self):
    return _ByteCache, (self.capacity_bytes,)


def _require_known(name: str, values: Iterable[str], known: Sequence[str]) -> None:
  for value in values:
    if value not in known:
      raise InputError(f"{name}: must be one of {', '.join(known)}, is {value!r}")


def _require_labels(videos: Sequence[Video], targets: str) -> None:
  for item in videos:
    if item.labels is None:
      raise InputError(
        f"video {item.id!r} ({item.media}) has no labels, and {targets!r} targets are made of them;"
        " add labels to its line in the manifest or move it to another split"
      )


def _cut_videos(videos: Sequence[Video], segment_s: float) -> tuple[np.ndarray, ...]:
  with concurrent.futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
    infos = list(pool.map(lambda item: video.probe(item.media), videos))
  return tuple(segments.cut(info.duration_s, segment_s) for info in infos)


def _cut_windows(spans: Sequence[np.ndarray], window: int) -> np.ndarray:
  starts = [(index, s) for index, span in enumerate(spans) for s in range(0, len(span), window)]
  return np.array(starts, np.int32).reshape(-1, 2)


def _layout_fields(laid_out: prompt.Layout) -> dict[str, np.ndarray]:
  return {
    "tokens": laid_out.tokens_T,
    "mask_ar": laid_out.mask_ar_T,
    "input_mask": laid_out.input_mask_T,
    "score_pos": laid_out.score_pos_N,
  }


def _harden(histogram_NC: np.ndarray) -> np.ndarray:
  """One-hot of the rounded mean level (halves go up); rows of zeros stay."""
  num_classes = histogram_NC.shape[1]
  mean_N = histogram_NC @ np.arange(num_classes, dtype=np.float32)
  one_hot_NC = np.eye(num_classes, dtype=np.float32)[np.floor(mean_N + 0.5).astype(int)]
  return one_hot_NC * histogram_NC.any(axis=1, keepdims=True)


def _pad_to(array: np.ndarray, length: int) -> np.ndarray:
  """`array` with zeros after it along the first axis, up to `length`."""
  missing = length - len(array)
  if not missing:
    return array
  return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
