"""The shapes of a batch of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vsumjax.data.prompt import PromptConfig
from vsumjax.types import Batch, TeacherTargets, TextTargets, TokenTargets


def batch_spec(
  config: PromptConfig, rows: int, text_entries: Sequence[int], text_tokens: int = 0
) -> Batch:
  """ShapeDtypeStructs of a batch.

  Args:
    config: of the prompts.
    rows: B.
    text_entries: of each cached teacher, J of what it says about a text; 0 where it says nothing.
    text_tokens: Y; 0 for prompts without texts.
  """
  B, N, C, Y = rows, config.window, len(config.score_tokens), text_tokens
  T = config.sequence_length + max(Y - 1, 0)

  def spec(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((B, *shape), dtype)

  def said(num_entries: int) -> TeacherTargets:
    if not num_entries:
      return TeacherTargets(spec(np.float32, N, C))
    entries = spec(np.int32, Y, num_entries), spec(np.float32, Y, num_entries)
    tokens = TokenTargets(*entries, spec(np.float32, Y), spec(np.float32, Y))
    return TeacherTargets(spec(np.float32, N, C), tokens)

  return Batch(
    frames=spec(np.uint8, N, config.frames_per_segment, config.image_size, config.image_size, 3),
    tokens=spec(np.int32, T),
    mask_ar=spec(np.int32, T),
    input_mask=spec(np.bool_, T),
    score_pos=spec(np.int32, N),
    targets=spec(np.float32, N, C),
    weight=spec(np.float32, N),
    teachers=tuple(map(said, text_entries)),
    example=spec(np.int32),
    text=TextTargets(spec(np.int32, Y), spec(np.int32, Y), spec(np.float32, Y)) if Y else None,
  )
