"""Texts after prompts, with teacher forcing: the sequence that a model reads and what it predicts.

The prompt keeps its T places, padding included, and Y - 1 slots follow it, for the tokens of a text
of at most Y without its last one. T = 5 and Y = 4, a text of two tokens after a prompt of four:

  tokens      p p p p _ a b _    predicted at the last p: a
  input_mask  1 1 1 1 0 1 1 0    predicted at a: b
  mask_ar     0 0 0 0 0 1 1 1
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vsumjax.types import Batch, TextTargets


def with_text(batch: Batch, text_BY: np.ndarray, length_B: np.ndarray, pad_id: int) -> Batch:
  """A host batch with a text after each prompt, and its `text`.

  No token of the prompt sees the text, so nothing that is read there changes.

  Args:
    batch: of prompts alone.
    text_BY: i32, the tokens of the texts, whatever behind their ends.
    length_B: i32, how many tokens each text has; one of none weighs nothing.
    pad_id: of `Tokenizer`, for the places behind a text.
  """
  B, T = batch.tokens.shape
  Y = text_BY.shape[1]
  is_text_BY = np.arange(Y) < length_B[:, None]
  ids_BY = np.where(is_text_BY, text_BY, pad_id).astype(np.int32)
  last_B = T - 1 - np.argmax(batch.input_mask[:, ::-1], axis=1)
  slots_BZ = np.broadcast_to(np.arange(T, T + Y - 1), (B, Y - 1))
  position_BY = np.concatenate([last_B[:, None], slots_BZ], axis=1).astype(np.int32)
  after = {
    "tokens": ids_BY[:, :-1],
    "mask_ar": np.ones((B, Y - 1), np.int32),
    "input_mask": is_text_BY[:, :-1],
  }
  longer = {
    name: np.concatenate([getattr(batch, name), array], axis=1) for name, array in after.items()
  }
  text = TextTargets(ids_BY, position_BY, is_text_BY.astype(np.float32))
  return dataclasses.replace(batch, **longer, text=text)
