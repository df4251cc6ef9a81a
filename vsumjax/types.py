"""Axis legend and the structs that cross borders between packages.

Axis letters, the same in names, annotations and einsums of the whole library:

  B batch             N segments in a window     F frames per segment   P tokens per frame
  T sequence          U keys                     D width                H query heads
  K key heads         G query heads per key head C score classes        S head size
  M mlp width         L layers                   E exits                V vocabulary
  J cached entries    A annotators           I images (B · N · F)   R rank of LoRA
  Y tokens of a text to be generated

Arrays of rank two or more carry their axes as a suffix: `x_BTD`, `logits_EBNC`.
"""

from __future__ import annotations

from typing import Any

from flax import struct

Array = Any  # a jax.Array, an np.ndarray or a jax.ShapeDtypeStruct, as the docstring says
Pair = tuple[Array, Array]  # (sum, weight) of a loss or a metric, divided last


class InputError(ValueError):
  """Something the user gave is wrong. The message is one line: what, where and what to do."""


@struct.dataclass
class TokenTargets:
  """What one cached teacher says about each token of a text, at the temperature of its cache.

  ids:       i32[B, Y, J], tokens of the vocabulary.
  values:    f32[B, Y, J], of these. `topk`: log probabilities of the J likeliest, normalised over
    the whole vocabulary. `sampled`: shares of J draws, which sum to 1: an unbiased estimate of the
    distribution; entries that are not used have share 0.
  logsumexp: f32[B, Y], of the teacher's logits / temperature, over the whole vocabulary.
  entropy:   f32[B, Y], of the teacher's distribution, in nats.
  """

  ids: Array
  values: Array
  logsumexp: Array
  entropy: Array


@struct.dataclass
class TeacherTargets:
  """What one cached teacher says about a batch.

  score_logits: f32[B, N, C], the teacher's logits over the score classes.
  tokens:       of the text of the batch, if the cache holds any.
  """

  score_logits: Array
  tokens: TokenTargets | None = None


@struct.dataclass
class TextTargets:
  """A text to be generated after the prompt, with teacher forcing.

  ids:      i32[B, Y], the tokens to predict.
  position: i32[B, Y], where in the sequence each is predicted.
  weight:   f32[B, Y], 0 behind the end of the text and on padding rows.
  """

  ids: Array
  position: Array
  weight: Array


@struct.dataclass
class Prompt:
  """What the language model reads: the first four fields of a `Batch`, for captions and answers.

  frames:     u8[B, N, F, h, w, 3]; N or F is 0 where there is no image.
  tokens:     i32[B, T], image slots included, padding wherever `input_mask` is False.
  mask_ar:    i32[B, T]; all 0 for PaliGemma's bidirectional prompt.
  input_mask: bool[B, T].
  """

  frames: Array
  tokens: Array
  mask_ar: Array
  input_mask: Array


@struct.dataclass
class Batch:
  """One global (on device) or process-local (host) batch of windows of video segments.

  frames:     u8[B, N, F, h, w, 3], RGB; normalised on the device.
  tokens:     i32[B, T], image slots included (id `Tokenizer.image_id`), right padded; the slots of
    a text follow (see `data.answers`).
  mask_ar:    i32[B, T], 1 where a token may not be seen by earlier ones (see `ops.attention`).
  input_mask: bool[B, T], False on padding and on image slots of absent segments.
  score_pos:  i32[B, N], where in the sequence each segment is read.
  targets:    f32[B, N, C], a distribution over score levels; zeros where there is no label.
  weight:     f32[B, N], 1 on segments that exist, labelled or not; 0 on padding segments and rows.
    Only `weight` says so.
  teachers:   one `TeacherTargets` for each cached teacher, in the order of the config.
  example:    i32[B], index of the example in its source (-1 on padding rows).
  text:       the text to be generated, if the run trains that.
  """

  frames: Array
  tokens: Array
  mask_ar: Array
  input_mask: Array
  score_pos: Array
  targets: Array
  weight: Array
  teachers: tuple[TeacherTargets, ...]
  example: Array
  text: TextTargets | None = None

  @property
  def label_weight(self) -> Array:
    """f32[B, N]: `weight` of the segments that are labelled, 0 of all others.

    A target that is NaN is a label, so that it shows in the loss.
    """
    return self.weight * (self.targets != 0).any(axis=-1)


@struct.dataclass
class StudentOutput:
  """What the model answers, at every exit, the last exit last.

  logits:     f32[E, B, N, C], over the score classes.
  confidence: f32[E, B, N], how sure each exit is of the class it predicts.
  prototype_cosine: f32[E, B, N, C], of the readout with each class's prototype, if there are any.
  text_hidden: f[B, Y, D], what the LM head reads at `Batch.text.position`, if there is a text.
  """

  logits: Array
  confidence: Array
  prototype_cosine: Array | None = None
  text_hidden: Array | None = None


@struct.dataclass
class SegmentScores:
  """Scores of the segments of one video.

  score:  f32[N], expected level (1..C).
  exit:   i32[N], index of the exit that answered.
  span_s: f64[N, 2], start and end of each segment in seconds.
  """

  score: Array
  exit: Array
  span_s: Array
