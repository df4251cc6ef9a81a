"""Examples: windows of consecutive segments of videos, with frames, words, labels and teachers."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsumjax.contract import Draw, Part
from vsumjax.data import answers, prompt, reading
from vsumjax.data.augment import Augmentation, AugmentConfig
from vsumjax.data.levels import level_histogram
from vsumjax.data.order import PADDING_EXAMPLE
from vsumjax.data.prepared import records
from vsumjax.data.prepared.store import DecodedStore
from vsumjax.data.sets import GIB
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import example_key
from vsumjax.data.teacher_cache.token_records import CachedAnswer
from vsumjax.data.tokenizer import Tokenizer
from vsumjax.data.videos import Video
from vsumjax.media import audio, demux
from vsumjax.types import Batch, InputError

TARGETS = ("histogram", "hard", "none")
_UNCHANGED = AugmentConfig()
_PROBE_THREADS = 8
_OPEN_SHARDS = 256  # each is an open file, of which systems allow 1,024 as a rule


class WindowSource:
  """Random access to examples: windows of N consecutive segments, video after video.

  `source[i]` is a dict with the fields of `types.Batch` without their batch axis; `teachers` and
  `text` are those of `answers.fields_of`. The last window of a video may be partly empty. Prepared
  videos are read from their shards. Others are decoded when first needed, in blocks that a store of
  bounded bytes keeps for all processes that the source is pickled to; their length is bounded by
  nothing.

  Every segment that exists weighs 1. Its targets are zeros where no label covers it, and everywhere
  with `targets` "none", for scoring and for teacher caches.

  Safe in threads, and picklable.

  Attributes:
    videos: as given, each with its duration or its edges.
    examples_digest: blake2b-16 hex over what a teacher would see: ids, titles, transcripts, sizes
      of media or digests of prepared shards, spans, windows and inputs left out; not over labels
      and not over where files lie.
  """

  def __init__(
    self,
    videos: Sequence[Video],
    prompt_config: prompt.PromptConfig,
    tokenizer: Tokenizer,
    *,
    targets: str = "none",
    teachers: tuple[CacheReader, ...] = (),
    with_text: bool = False,
    without: frozenset[str] = frozenset(),
    augment: AugmentConfig = _UNCHANGED,
    mixed: Sequence[tuple[int, int]] = (),
    need_labels: str = "",
    cache_bytes: int = GIB,
  ):
    """Looks up how long the videos are, and decodes none.

    Args:
      videos: in the order examples are numbered.
      prompt_config: the shape of an example.
      tokenizer: of the prompt.
      targets: one of `TARGETS`.
      teachers: sealed caches of these very examples.
      with_text: give the texts that they hold, too, and what they say about each token.
      without: `reading.INPUTS` the model is not given, as if the files lacked them.
      augment: how frames are changed where `example` is given a draw.
      mixed: (number of videos, weight) of the sets they come from; by default they are one set.
      need_labels: why every video of a set with a weight must have labels; "" if it need not. With
        `targets` "none" none need.
      cache_bytes: bound of the store of decoded frames and texts.

    Raises:
      InputError: a file that cannot be read, a video without frames or without labels that needs
        them, shards prepared for another prompt, a cache of other examples, caches of different
        texts.
    """
    _require_known("targets", [targets], TARGETS)
    _require_known("without", without, reading.INPUTS)
    if not prompt_config.frames_per_segment:
      without |= {"frames"}
    self._augment = augment
    self._view = reading.View(prompt_config, augment.time_shifts, frozenset(without))
    self._tokenizer = tokenizer
    _require_frames(videos, self._view)
    self._mixed = tuple(mixed) or ((len(videos), 1),)
    if targets != "none" and need_labels:
      _require_labels(videos, self._mixed, need_labels)
    self.videos = _with_lengths(videos, prompt_config)
    self._prepared = _load_prepared(self.videos, self._view)
    self._store = DecodedStore(cache_bytes)
    self._targets = self._make_targets(targets)
    num_segments = np.array([len(self.spans(index)) for index in range(len(self.videos))])
    num_windows = -(-num_segments // prompt_config.window)
    self._first_example = np.cumsum([0, *num_windows])
    self.examples_digest = self._digest_examples()
    self._teachers = tuple(teachers)
    for teacher in self._teachers:
      teacher.require(self._expected_of_teachers())
    self._text_tokens = answers.require_same_texts(self._teachers) if with_text else 0

  def __len__(self) -> int:
    return int(self._first_example[-1])

  def __getitem__(self, example: int) -> dict[str, Any]:
    return self.example(example)

  @property
  def parts(self) -> tuple[Part, ...]:
    """The data sets, one after the other."""
    counts, weights = zip(*self._mixed, strict=True)
    edges = self._first_example[np.cumsum([0, *counts])]
    return tuple(map(Part, np.diff(edges).tolist(), weights))

  def example(self, example: int, draw: Draw | None = None, *, wait: bool = True) -> dict[str, Any]:
    """One example, its frames changed at random as `draw` says, if it is given.

    Raises:
      BusyError: somebody else is decoding its video, if that is not to be waited for.
    """
    index, first = self.window(example)
    changes = draw is not None and self._augment != _UNCHANGED
    augmentation = Augmentation(self._augment, *draw) if changes else None
    frames, texts = self._read(index, first, augmentation, wait)
    title = "" if "text" in self._view.without else self.videos[index].title
    targets_NC, weight_N = self._targets_of(index, first)
    places = self._places(index, first)
    return {
      "frames": frames,
      **_layout_fields(prompt.layout(self._config, self._tokenizer, title, texts, places)),
      "targets": targets_NC,
      "weight": weight_N,
      "example": np.asarray(example, np.int32),
      **self._answer_fields([teacher[example] for teacher in self._teachers]),
    }

  def padding(self) -> dict[str, Any]:
    """An example that weighs nothing and needs no file: a black frame, no words."""
    window, num_classes = self._config.window, len(self._config.score_tokens)
    nothing = [prompt.SegmentText(said="", heard=audio.NO_SOUND)]
    return {
      "frames": np.zeros((window, *self._view.frames_shape), np.uint8),
      **_layout_fields(prompt.layout(self._config, self._tokenizer, "", nothing)),
      "targets": np.zeros((window, num_classes), np.float32),
      "weight": np.zeros(window, np.float32),
      "example": np.asarray(PADDING_EXAMPLE, np.int32),
      **self._answer_fields([answers.no_answer(teacher.identity) for teacher in self._teachers]),
    }

  def collate(self, fields: dict[str, Any]) -> Batch:
    """The batch of stacked examples, with the text that is to be generated behind each prompt."""
    return answers.batch_of(fields)

  def describe(self, examples: Sequence[int]) -> str:
    """Numbers and videos of examples; those of padding rows are left out."""
    present = [example for example in examples if example != PADDING_EXAMPLE]
    if len(present) == 1:
      index, first = self.window(*present)
      return f"example {present[0]} (video {self.videos[index].id!r}, segment {first})"
    ids = dict.fromkeys(self.videos[self.window(example)[0]].id for example in present)
    return f"examples {present} of videos {', '.join(ids)}"

  def window(self, example: int) -> tuple[int, int]:
    """Index of the video and first segment of an example."""
    if not 0 <= example < len(self):
      raise IndexError(f"example {example} of {len(self)}")
    index = int(np.searchsorted(self._first_example, example, side="right")) - 1
    return index, int(example - self._first_example[index]) * self._config.window

  def examples_of(self, index: int) -> range:
    """The examples of video `index`."""
    return range(*self._first_example[index : index + 2].tolist())

  def spans(self, index: int) -> np.ndarray:
    """f64[n, 2], seconds: the segments of video `index`."""
    return reading.spans_of(self.videos[index], self._config)

  def texts(self, index: int) -> list[prompt.SegmentText]:
    """What is said and heard in each segment of video `index`."""
    return self._segments(index).texts(0, len(self.spans(index)))

  def example_key(self, example: int) -> bytes:
    """8 bytes that a teacher cache keeps with its answer to this example."""
    return example_key(self.examples_digest, example)

  @property
  def _config(self) -> prompt.PromptConfig:
    return self._view.prompt

  def _segments(
    self, index: int, wait: bool = True
  ) -> reading.MediaSegments | reading.PreparedSegments:
    item = self.videos[index]
    if item.prepared is None:
      return reading.MediaSegments(item, self._view, self._store, str(index), wait)
    prepared = self._prepared[item.prepared.shard.parent]
    reader = _open_shard(item.prepared.shard, prepared.digests[item.prepared.shard.name])
    return reading.PreparedSegments(item, self._view, prepared.info.time_shifts, reader)

  def _read(
    self, index: int, first: int, augmentation: Augmentation | None, wait: bool
  ) -> tuple[np.ndarray, Sequence[prompt.SegmentText]]:
    """u8[N, F, h, w, 3] and the texts of the window that starts at segment `first`."""
    window, found = self._config.window, self._segments(index, wait)
    stop = min(first + window, len(self.spans(index)))
    if "frames" in self._view.without:
      return np.zeros((window, *self._view.frames_shape), np.uint8), found.texts(first, stop)
    if augmentation is None:
      middle_N = np.full(stop - first, self._view.time_shifts // 2)
      frames, texts = found.read(first, stop, middle_N)
    else:
      frames, texts = found.read(first, stop, augmentation.shifts(stop - first))
      frames = augmentation.frames(frames)
    return _pad_to(frames, window), texts

  def _places(self, index: int, first: int) -> list[prompt.Place]:
    """Where the segments of the window that starts at segment `first` lie."""
    span_s_N2 = self.spans(index)
    window_s_N2 = span_s_N2[first : first + self._config.window].tolist()
    return [prompt.Place(*span_s, video_s=float(span_s_N2[-1, 1])) for span_s in window_s_N2]

  def _answer_fields(self, said: Sequence[CachedAnswer]) -> dict[str, Any]:
    return answers.fields_of(said, self._text_tokens, self._tokenizer.pad_id)

  def _make_targets(self, kind: str) -> tuple[np.ndarray, ...]:
    """f32[n, C] for each video; none at all where labels are not asked for."""
    if kind == "none":
      return ()
    make = _harden if kind == "hard" else np.asarray
    num_levels = len(self._config.score_tokens)
    nothing = np.zeros((0, num_levels), np.float32)
    return tuple(
      make(level_histogram(item.labels, self.spans(index), num_levels)) if item.labels else nothing
      for index, item in enumerate(self.videos)
    )

  def _targets_of(self, index: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """f32[N, C] and f32[N] of the window that starts at segment `first`."""
    window, num_classes = self._config.window, len(self._config.score_tokens)
    targets_NC = np.zeros((0, num_classes), np.float32)
    if self._targets:
      targets_NC = self._targets[index][first : first + window]
    weight_N = np.ones(min(window, len(self.spans(index)) - first), np.float32)
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
    about = [sorted(self._view.without), self._config.window]
    digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
    for index, item in enumerate(self.videos):
      content = [item.id, item.title, *self._content_of(item)]
      digest.update(json.dumps(content).encode() + self.spans(index).tobytes())
    return digest.hexdigest()

  def _content_of(self, item: Video) -> list[str | int]:
    if item.prepared is not None:
      prepared = self._prepared[item.prepared.shard.parent]
      return [prepared.digests[item.prepared.shard.name], item.prepared.first]
    words = [
      b"" if file is None else demux.read_bytes(file) for file in (item.transcript, item.sounds)
    ]
    size = 0 if item.media is None else demux.size_bytes(item.media)
    return [size, *(hashlib.blake2b(each, digest_size=16).hexdigest() for each in words)]


class _PreparedFolder:
  """What a folder of shards says of itself."""

  def __init__(self, folder: Path, view: reading.View):
    self.info = records.load_prepared(folder)
    self.info.require(view.prompt, view.time_shifts)
    self.digests = {shard.file: shard.digest for shard in self.info.shards}


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _open_shard(shard: Path, digest: str) -> records.ShardReader:
  """The reader of a shard; `digest` tells it from an earlier one of the same name."""
  return records.ShardReader(shard)


def _load_prepared(videos: Sequence[Video], view: reading.View) -> dict[Path, _PreparedFolder]:
  folders = {item.prepared.shard.parent for item in videos if item.prepared is not None}
  return {folder: _PreparedFolder(folder, view) for folder in sorted(folders)}


def _require_known(name: str, values: Iterable[str], known: Sequence[str]) -> None:
  for value in values:
    if value not in known:
      raise InputError(f"{name}: must be one of {', '.join(known)}, is {value!r}")


def _require_frames(videos: Sequence[Video], view: reading.View) -> None:
  for item in videos:
    if item.media is None and item.prepared is None and "frames" not in view.without:
      raise InputError(
        f"video {item.id!r} has no media to take frames from; name its file in the manifest, or "
        'leave frames out (data.without: ["frames"])'
      )


def _require_labels(videos: Sequence[Video], mixed: Sequence[tuple[int, int]], reason: str) -> None:
  weights = itertools.chain(*([weight] * count for count, weight in mixed))
  for item, weight in zip(videos, weights, strict=True):
    if weight and item.labels is None:
      raise InputError(
        f"video {item.id!r} ({item.media}) has no labels, and {reason}; add labels to its line in "
        "the manifest, move it to another split, or give its set the weight 0 in data.sets"
      )


def _with_lengths(videos: Sequence[Video], config: prompt.PromptConfig) -> tuple[Video, ...]:
  with concurrent.futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
    return tuple(pool.map(reading.with_length, videos, itertools.repeat(config)))


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
