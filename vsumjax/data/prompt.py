"""The prompt: where frames, text and readouts lie in the model's input sequence.

The prompt is part of the model. Training, caching and use all call `layout`, and `prompt_digest` is
saved with every checkpoint and cache, so that a model never reads a prompt it was not trained on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from vsumjax.data.tokenizer import NEWLINE, Tokenizer, marker_piece
from vsumjax.types import InputError

_LAYOUT_VERSION = 2  # raise it when `layout` puts the same text at other places

_INSTRUCTION = "score importance."
_TITLE, _HEARD, _SAID, _STOP = " title:", " heard:", " said:", "."
_AT, _LASTS = " at:", " lasts:"
_PLACE_LABELS = {"position": _AT, "length": _LASTS}  # by the field that asks for it
_FULL, _EMPTY = "1", "0"  # cells of bars; a digit is a piece of its own in any of our tokenizers
_CELLS_PER_DOUBLING = 2
TEMPLATE = _INSTRUCTION + _TITLE + _STOP + _HEARD + _STOP + _SAID
"""The words of every prompt, for the corpus of a tokenizer that shall spell them in few pieces."""
PLACE_TEMPLATE = f"{_AT} {_FULL}{_EMPTY}{_STOP}{_LASTS} {_FULL}{_EMPTY}{_STOP}"
"""The words that `position` and `length` add."""


SEGMENTATIONS = ("fixed", "given", "shots", "kts")


@dataclasses.dataclass(frozen=True)
class PromptConfig:
  """The shape of one example and what its tokens mean.

  Attributes:
    window: N, segments in one sequence.
    segment_s: seconds a segment lasts, at most where segments are cut by what is seen.
    frames_per_segment: F, frames looked at in each segment; 0 for a model that reads text alone,
      which then has no vision tower.
    tokens_per_frame: P, image slots of one frame.
    image_size: height and width of a frame in pixels.
    text_tokens: budget of the text between bos and the last line break, markers included.
    title_tokens: how many of them the words of the title may take at most.
    score_tokens: the pieces that stand for the score levels, lowest first.
    context_s: seconds of transcript before and after a segment that may fill what the segment's own
      words leave of its share of the budget.
    segmentation: one of `SEGMENTATIONS`: every segment lasts `segment_s` ("fixed"), or they are
      those of the manifest ("given", its `edges_s`), or they end at the borders of shots ("shots")
      or at the change points of kernel temporal segmentation ("kts") and last `segment_s` at most.
    position: cells of a bar that shows where in the video each segment lies; 0 does not tell it.
    length: cells of a bar that shows how long each segment lasts; 0 does not tell it.
  """

  window: int
  segment_s: float
  frames_per_segment: int
  tokens_per_frame: int
  image_size: int
  text_tokens: int
  title_tokens: int
  score_tokens: tuple[str, ...]
  context_s: float = 0.0
  segmentation: str = "fixed"
  position: int = 0
  length: int = 0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name == "score_tokens":
        if len(value) < 2 or len(set(value)) != len(value):
          raise InputError(f"prompt.score_tokens: needs two or more different tokens, is {value}")
      elif field.name == "segmentation":
        if value not in SEGMENTATIONS:
          known = ", ".join(SEGMENTATIONS)
          raise InputError(f"prompt.segmentation: must be one of {known}, is {value!r}")
      elif field.name in ("context_s", "frames_per_segment", "position", "length"):
        if not 0 <= value < math.inf:
          raise InputError(f"prompt.{field.name}: must be 0 or more, is {value}")
      elif not value > 0:
        raise InputError(f"prompt.{field.name}: must be above 0, is {value}")

  @property
  def visual_length(self) -> int:
    """Tokens before bos: the image slots and, in a window of more than one segment, the markers."""
    slots = self.frames_per_segment * self.tokens_per_frame
    return self.window * (slots + (self.window > 1))

  @property
  def sequence_length(self) -> int:
    """T: image slots and markers, bos, the text budget, the last line break."""
    return self.visual_length + 1 + self.text_tokens + 1


@dataclasses.dataclass(frozen=True)
class SegmentText:
  """What is said in a segment (its words, maybe none) and what is heard (a short description).

  before, after: what is said shortly before and after the segment.
  """

  said: str
  heard: str
  before: str = ""
  after: str = ""


@dataclasses.dataclass(frozen=True)
class Layout:
  """One sequence, without its frames.

  tokens_T:     i32[T], image slots hold `Tokenizer.image_id`, padding `pad_id`.
  mask_ar_T:    i32[T], all 0: the whole prompt sees itself.
  input_mask_T: bool[T], False on padding and on slots and markers of absent segments.
  score_pos_N:  i32[N], where each segment is read.
  """

  tokens_T: np.ndarray
  mask_ar_T: np.ndarray
  input_mask_T: np.ndarray
  score_pos_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class Place:
  """Where in its video a segment lies.

  start_s, end_s: of the segment.
  video_s: when the last segment of the video ends.
  """

  start_s: float
  end_s: float
  video_s: float


def layout(
  config: PromptConfig,
  tokenizer: Tokenizer,
  title: str,
  segments: Sequence[SegmentText],
  places: Sequence[Place] = (),
) -> Layout:
  r"""Lays out one window of 1 to N consecutive segments.

  A window of one is PaliGemma's prompt, read at the line break. With F * P = 3 image slots `I`,
  `_` for padding and `^` below what is read:

    I I I <bos>score importance. title: Dogs. heard: loud tone. said: it barks\n _ _
                                                                              ^
  In a longer window a marker follows the slots of each segment and is read; the text comes once,
  and there each segment's words follow its marker. N = 2:

    I I I <loc0000> I I I <loc0001> <bos>score importance. title: Dogs.<loc0000> heard: ...\n _ _
          ^               ^

  With `position` and `length` the words of a segment start with its place, in bars: unlike those of
  numbers, the tokens of near places are nearly the same, so that a small model learns from few
  videos what changes slowly over time. As many cells of `position` are full as lie before the
  middle of the segment, and two of `length` for every doubling of its length from 1 s on. With
  bars of 4, a segment of 2 s in the middle starts " at: 1100. lasts: 1100.".

  What is missing (no title, no places, nothing said) is left out of the text. Text longer than the
  budget is cut: the title to `title_tokens`, then each segment to an equal share of what is left,
  where words of `said` are dropped before `heard` loses any. Of `said` the words nearest its middle
  stay; where all of it fits, the nearest words of `before` and `after` are put around it as far as
  there is room. With room for three more words than `said`, said "c d" between "a b" and "e f"
  reads "a b c d e". Nothing in the texts acts as a marker or line break. Absent segments at the end
  of the window keep their places, masked out.

  Raises:
    ValueError: no segment, or more than the window holds.
    InputError: the budget cannot hold the prompt's own words, or the tokenizer lacks a marker.
  """
  if not 1 <= len(segments) <= config.window:
    raise ValueError(f"a window holds 1 to {config.window} segments, not {len(segments)}")
  fixed = _fixed_parts(config, tokenizer)
  words = [_place_words(config, place) for place in places] or [()] * len(segments)
  text = _text_ids(config, tokenizer, fixed, title, segments, words)
  after = [tokenizer.bos_id, *text, fixed.newline]
  end = config.visual_length + len(after)
  tokens_T = np.full(config.sequence_length, tokenizer.pad_id, np.int32)
  tokens_T[: config.visual_length] = fixed.visual
  tokens_T[config.visual_length : end] = after
  input_mask_T = np.zeros(config.sequence_length, np.bool_)
  input_mask_T[: config.visual_length // config.window * len(segments)] = True
  input_mask_T[config.visual_length : end] = True
  return Layout(
    tokens_T=tokens_T,
    mask_ar_T=np.zeros(config.sequence_length, np.int32),
    input_mask_T=input_mask_T,
    score_pos_N=_score_positions(config, end),
  )


def prompt_digest(config: PromptConfig, tokenizer: Tokenizer) -> str:
  """Blake2b-16 hex over all that decides a prompt: every field, the template and the tokenizer."""
  content = dataclasses.asdict(config) | {
    "layout_version": _LAYOUT_VERSION,
    "template": [_INSTRUCTION, _TITLE, _HEARD, _SAID, _STOP],
    "tokenizer_digest": tokenizer.digest,
  }
  for name, label in _PLACE_LABELS.items():
    # What is not told changes nothing, so that such prompts keep the digest they always had.
    if content[name]:
      content["template"] += [label, _FULL, _EMPTY, _CELLS_PER_DOUBLING]
    else:
      del content[name]
  encoded = json.dumps(content, sort_keys=True).encode()
  return hashlib.blake2b(encoded, digest_size=16).hexdigest()


@dataclasses.dataclass(frozen=True)
class _FixedParts:
  """Ids that are the same in every prompt; `visual` is all before bos, `markers` empty if N = 1."""

  visual: np.ndarray
  markers: list[list[int]]
  instruction: list[int]
  title: list[int]
  heard: list[int]
  said: list[int]
  stop: list[int]
  newline: int


@functools.lru_cache(maxsize=8)
def _fixed_parts(config: PromptConfig, tokenizer: Tokenizer) -> _FixedParts:
  markers = [[]] * config.window
  if config.window > 1:
    markers = [[tokenizer.piece_id(marker_piece(n))] for n in range(config.window)]
  slots = [tokenizer.image_id] * (config.frames_per_segment * config.tokens_per_frame)
  words = map(tokenizer.encode, (_INSTRUCTION, _TITLE, _HEARD, _SAID, _STOP))
  visual = np.array([i for marker in markers for i in slots + marker], np.int32)
  fixed = _FixedParts(visual, markers, *words, newline=tokenizer.piece_id(NEWLINE))
  own = len(fixed.instruction) + len(fixed.title) + len(fixed.stop) + sum(map(len, markers))
  if own + config.title_tokens > config.text_tokens:
    raise InputError(
      f"prompt.text_tokens: {config.text_tokens} cannot hold the prompt's own {own} tokens and"
      f" {config.title_tokens} of the title; raise it or lower title_tokens"
    )
  return fixed


def _text_ids(
  config: PromptConfig,
  tokenizer: Tokenizer,
  fixed: _FixedParts,
  title: str,
  segments: Sequence[SegmentText],
  places: Sequence[Sequence[tuple[str, str]]],
) -> list[int]:
  """The ids between bos and the last line break, at most `text_tokens`.

  places: of each segment, the labels and words of where it lies.
  """
  title_room = len(fixed.title) + config.title_tokens + len(fixed.stop)
  text = fixed.instruction + _clause(fixed.title, tokenizer, title, fixed.stop, title_room)
  num_markers = sum(map(len, fixed.markers[: len(segments)]))
  share = (config.text_tokens - len(text) - num_markers) // len(segments)
  markers = fixed.markers[: len(segments)]
  for marker, segment, place in zip(markers, segments, places, strict=True):
    own = []
    for label, words in place:
      own = own + _clause(tokenizer.encode(label), tokenizer, words, fixed.stop, share - len(own))
    own = own + _clause(fixed.heard, tokenizer, segment.heard, fixed.stop, share - len(own))
    text = text + marker + own + _said(fixed.said, tokenizer, segment, share - len(own))
  return text


def _place_words(config: PromptConfig, place: Place) -> list[tuple[str, str]]:
  """Labels and bars that tell a place: [(" at:", "1100"), (" lasts:", "1000")]."""
  doublings = math.log2(max(place.end_s - place.start_s, 1.0))
  full = {
    "position": config.position * (place.start_s + place.end_s) / 2 / place.video_s,
    "length": _CELLS_PER_DOUBLING * doublings,
  }
  told = []
  for name, label in _PLACE_LABELS.items():
    num_cells = getattr(config, name)
    num_full = min(math.floor(full[name] + 0.5), num_cells)
    if num_cells:
      told.append((label, _FULL * num_full + _EMPTY * (num_cells - num_full)))
  return told


def _clause(
  label: list[int], tokenizer: Tokenizer, text: str, stop: list[int], room: int
) -> list[int]:
  """`label words stop` in at most `room` ids, the words cut; nothing if no word is left."""
  words = " ".join(text.split())
  num_words = room - len(label) - len(stop)
  if not words or num_words <= 0:
    return []
  return label + tokenizer.encode_plain(f" {words}")[:num_words] + stop


def _said(label: list[int], tokenizer: Tokenizer, segment: SegmentText, room: int) -> list[int]:
  """`label words` in at most `room` ids: the segment's words and those nearest to them."""
  words, before, after = segment.said.split(), segment.before.split(), segment.after.split()
  free = room - len(label) - _num_ids(tokenizer, words)
  if free < 0:
    middle = len(words) // 2
    before, words, after = words[:middle], words[middle : middle + 1], words[middle + 1 :]
    free = room - len(label) - _num_ids(tokenizer, words)
  num_before, num_after = _nearest(tokenizer, before, after, free)
  words = before[len(before) - num_before :] + words + after[:num_after]
  return _clause(label, tokenizer, " ".join(words), [], room)


def _nearest(
  tokenizer: Tokenizer, before: list[str], after: list[str], free: int
) -> tuple[int, int]:
  """How many of the last words of `before` and the first of `after` fit, taken by turns."""
  waiting = (iter(reversed(before)), iter(after))
  taken, sides = [0, 0], [0, 1]
  while sides:
    side = sides.pop(0)
    word = next(waiting[side], None)
    num_ids = math.inf if word is None else _num_ids(tokenizer, [word])
    if num_ids <= free:
      free -= num_ids
      taken[side] += 1
      sides.append(side)
  return taken[0], taken[1]


def _num_ids(tokenizer: Tokenizer, words: list[str]) -> int:
  """How many ids words take. No piece reaches over a space, so that they can be counted apart."""
  return len(tokenizer.encode_plain(" ".join(["", *words])))


def _score_positions(config: PromptConfig, end: int) -> np.ndarray:
  """The markers, or the last line break (just before `end`) in a window of one. i32[N]."""
  if config.window == 1:
    return np.array([end - 1], np.int32)
  stride = config.visual_length // config.window
  return np.arange(1, config.window + 1, dtype=np.int32) * stride - 1
