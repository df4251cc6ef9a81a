"""A model's own answers as texts of batches, and its logits at each token of texts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from vsumjax import sharding
from vsumjax.data.answers import with_text
from vsumjax.inference.generate import Generator
from vsumjax.inference.score import Scorer
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.types import Batch, Prompt

# Of logits that lie on the host at once, and as many on the devices of a process.
LOGITS_BYTES = 64 << 20


def generated(batches: Iterator[Batch], generator: Generator, scorer: Scorer) -> Iterator[Batch]:
  """Host batches with what the model answers to their prompts as their texts.

  With several processes all must give as many batches.
  """
  with contextlib.closing(batches):
    for batch in batches:
      prompt = Prompt(batch.frames, batch.tokens, batch.mask_ar, batch.input_mask)
      answer = generator(sharding.to_global(prompt, scorer.mesh, scorer.rules))
      tokens_BY, length_B = (sharding.local_rows(x, 0) for x in (answer.tokens, answer.length))
      yield with_text(batch, tokens_BY, np.where(batch.example >= 0, length_B, 0))


def places_at_once(scorer: Scorer) -> int:
  """Places of texts whose logits take `LOGITS_BYTES` in a process, but one a device at least."""
  num_devices = len(scorer.mesh.local_devices)
  place_bytes = 4 * scorer.model.config.llm.vocab_size
  return max(LOGITS_BYTES // (place_bytes * num_devices), 1) * num_devices


def logits_at(scorer: Scorer, hidden_MD: np.ndarray, num_calls: int) -> Iterator[np.ndarray]:
  """f32[V] of each of M places, in order.

  Args:
    scorer: of the model.
    hidden_MD: rows of its `text_hidden`, M <= num_calls * places_at_once.
    num_calls: of the LM head; with several processes all must make as many.
  """
  size = places_at_once(scorer)
  for first in range(0, num_calls * size, size):
    here = hidden_MD[first : first + size]
    padded = np.pad(here, ((0, size - len(here)), (0, 0)))
    on_device = sharding.to_global(padded, scorer.mesh, scorer.rules)
    logits = _head(scorer.model, scorer.mesh, scorer.rules, scorer.params, on_device)
    yield from sharding.local_rows(logits, 0)[: len(here)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _head(
  model: VideoSummaryStudent,
  mesh: jax.sharding.Mesh,
  rules: sharding.LogicalRules,
  params: Any,
  hidden_MD: jax.Array,
) -> jax.Array:
  with sharding.use_mesh(mesh, rules):
    logits_MV = model.apply({"params": params}, hidden_MD, method="text_logits")
    return sharding.constrain(logits_MV, "batch")
