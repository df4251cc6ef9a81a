"""What cached teachers say, as arrays of a batch; their texts after the prompts.

With teacher forcing a model reads a text and predicts it at once. The prompt keeps its T places,
padding included, and Y - 1 slots follow, for the tokens of a text of at most Y without its last
one. T = 5 and Y = 4, a text of two tokens after a prompt of four:

  tokens      p p p p _ a b _    predicted at the last p: a
  input_mask  1 1 1 1 0 1 1 0    predicted at a: b
  mask_ar     0 0 0 0 0 1 1 1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText
from vsumjax.types import Batch, InputError, TeacherTargets, TextTargets, TokenTargets


def require_same_texts(teachers: Sequence[CacheReader]) -> int:
  """Y of the texts that these caches hold; 0 if none does.

  Raises:
    InputError: naming the field in which a cache's texts differ from another's.
  """
  with_texts = [teacher for teacher in teachers if teacher.identity.text_kind]
  for teacher in with_texts[1:]:
    first = with_texts[0].identity
    teacher.require({"text_source": first.text_source, "text_tokens": first.text_tokens})
  return with_texts[0].identity.text_tokens if with_texts else 0


def no_answer(identity: ScoreIdentity) -> CachedAnswer:
  """What a padding row is given for an answer: an empty text where the cache holds texts."""
  score_logits_NC = np.zeros((identity.window, identity.num_classes), np.float32)
  if not identity.text_kind:
    return CachedAnswer(score_logits_NC)
  entries, places = np.zeros((0, identity.text_entries)), np.zeros(0, np.float32)
  tokens, ids = np.zeros(0, np.int32), entries.astype(np.int32)
  text = CachedText(tokens, ids, entries.astype(np.float32), places, places)
  return CachedAnswer(score_logits_NC, text)


def fields_of(answers: Sequence[CachedAnswer], num_tokens: int, pad_id: int) -> dict[str, Any]:
  """Teachers' answers to one example, as nested dicts and tuples of arrays.

  `teachers` has `score_logits` f32[N, C] of each and, where it knows the text, `tokens`: the fields
  of `types.TokenTargets` without their batch axis. `text` has `ids` i32[Y] and `length` i32[].

  Args:
    answers: one a teacher.
    num_tokens: Y; 0 leaves all texts out.
    pad_id: for the places behind a text.

  Raises:
    InputError: the teachers' texts differ.
  """
  if not num_tokens:
    return {"teachers": tuple({"score_logits": answer.score_logits} for answer in answers)}
  first, *others = (answer.text.tokens for answer in answers if answer.text is not None)
  if not all(np.array_equal(first, other) for other in others):
    raise InputError(
      "the teachers' caches hold different texts of an example; write all but the first of them"
      " again, with --texts-of the first"
    )
  return {
    "teachers": tuple(_teacher_fields(answer, num_tokens) for answer in answers),
    "text": {
      "ids": _padded(first, num_tokens, pad_id),
      "length": np.asarray(len(first), np.int32),
    },
  }


def _teacher_fields(answer: CachedAnswer, num_tokens: int) -> dict[str, Any]:
  fields = {"score_logits": answer.score_logits}
  if answer.text is not None:
    said = answer.text._asdict()
    del said["tokens"]
    fields["tokens"] = {name: _padded(array, num_tokens, 0) for name, array in said.items()}
  return fields


def _padded(array: np.ndarray, length: int, value: int) -> np.ndarray:
  padding = [(0, length - len(array)), *[(0, 0)] * (array.ndim - 1)]
  return np.pad(array, padding, constant_values=value)


def batch_of(fields: dict[str, Any]) -> Batch:
  """The batch of examples with the fields of `fields_of`, stacked."""
  fields = dict(fields)
  text = fields.pop("text", None)
  teachers = tuple(
    TeacherTargets(
      said["score_logits"], TokenTargets(**said["tokens"]) if "tokens" in said else None
    )
    for said in fields.pop("teachers")
  )
  batch = Batch(**fields, teachers=teachers)
  return batch if text is None else with_text(batch, text["ids"], text["length"])


def with_text(batch: Batch, ids_BY: np.ndarray, length_B: np.ndarray) -> Batch:
  """A host batch with a text after each prompt, and its `text`.

  No token of the prompt sees the text, so nothing that is read there changes.

  Args:
    batch: of prompts alone.
    ids_BY: i32, the tokens of the texts, and padding behind their ends.
    length_B: i32, how many tokens each text has; one of none weighs nothing.
  """
  B, T = batch.tokens.shape
  Y = ids_BY.shape[1]
  is_text_BY = np.arange(Y) < length_B[:, None]
  last_B = T - 1 - np.argmax(batch.input_mask[:, ::-1], axis=1)
  slots_BZ = np.broadcast_to(np.arange(T, T + Y - 1), (B, Y - 1))
  position_BY = np.concatenate([last_B[:, None], slots_BZ], axis=1).astype(np.int32)
  after = {
    "tokens": ids_BY[:, :-1].astype(np.int32),
    "mask_ar": np.ones((B, Y - 1), np.int32),
    "input_mask": is_text_BY[:, :-1],
  }
  longer = {
    name: np.concatenate([getattr(batch, name), array], axis=1) for name, array in after.items()
  }
  text = TextTargets(ids_BY.astype(np.int32), position_BY, is_text_BY.astype(np.float32))
  return dataclasses.replace(batch, **longer, text=text)
