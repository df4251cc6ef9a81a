"""Tiny configs, random batches and checks, for tests of this library and of code that uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vsumjax.models import exits, gemma, siglip, student
from vsumjax.types import Batch, TeacherTargets

IMAGE_ID = 60
SCORE_IDS = (5, 6, 7, 8, 9)
TOKENS_PER_FRAME = 4


def tiny_config(**changes: Any) -> student.StudentConfig:
  """Every mechanism of Gemma 2 and SigLIP in a few thousand parameters.

  Grouped queries, soft caps, post norms, a window of 8 on layers 0 and 2, exits after 1, 2 and 3.
  """
  config = student.StudentConfig(
    img=siglip.SiglipConfig(
      image_size=16, patch_size=4, width=16, depth=2, mlp_dim=32, num_heads=2
    ),
    llm=gemma.GemmaConfig(
      vocab_size=64,
      width=32,
      depth=3,
      mlp_dim=64,
      num_heads=4,
      num_kv_heads=2,
      head_size=8,
      query_scale=8.0,
      attention_cap=50.0,
      final_cap=30.0,
      post_norms=True,
      sliding_window=8,
    ),
    exits=exits.ExitsConfig((1, 2, 3)),
    dtype="float32",
    remat=False,
  )
  return dataclasses.replace(config, **changes)


def tiny_model(config: student.StudentConfig | None = None) -> student.VideoSummaryStudent:
  return student.VideoSummaryStudent(config or tiny_config(), TOKENS_PER_FRAME, IMAGE_ID, SCORE_IDS)


def random_batch(
  seed: int = 0,
  *,
  rows: int = 2,
  window: int = 1,
  frames: int = 1,
  text: int = 6,
  teachers: int = 0,
) -> Batch:
  """A batch of the tiny model with `text` text tokens, one in three of them padding at the end.

  Window 1 reads at the last valid token; a longer one at a marker after each segment's slots.
  """
  rng = np.random.default_rng(seed)
  slots = np.full((window, frames * TOKENS_PER_FRAME), IMAGE_ID)
  if window > 1:
    slots = np.concatenate([slots, 40 + np.arange(window)[:, None]], axis=1)
  words = rng.integers(10, 40, (rows, text))
  tokens = np.concatenate([np.tile(slots.reshape(1, -1), (rows, 1)), words], axis=1)
  input_mask = np.ones(tokens.shape, bool)
  input_mask[:, tokens.shape[1] - text // 3 :] = False
  if window > 1:
    score_pos = (np.arange(window) + 1) * slots.shape[1] - 1
  else:
    score_pos = np.array([tokens.shape[1] - text // 3 - 1])
  targets = rng.dirichlet(np.ones(len(SCORE_IDS)), (rows, window))
  size = tiny_config().img.image_size
  cached = [rng.normal(size=targets.shape).astype(np.float32) for _ in range(teachers)]
  batch = Batch(
    frames=rng.integers(0, 256, (rows, window, frames, size, size, 3)).astype(np.uint8),
    tokens=tokens.astype(np.int32),
    mask_ar=np.zeros(tokens.shape, np.int32),
    input_mask=input_mask,
    score_pos=np.tile(score_pos, (rows, 1)).astype(np.int32),
    targets=targets.astype(np.float32),
    weight=np.ones((rows, window), np.float32),
    teachers=tuple(TeacherTargets(logits) for logits in cached),
    example=np.arange(rows, dtype=np.int32),
  )
  return jax.tree.map(jnp.asarray, batch)


def assert_step_specs(train_step: Callable, state: Any, batch: Any) -> None:
  """The step takes abstract state and batch and keeps the state's shapes and dtypes."""
  after, metrics = jax.eval_shape(train_step, state, batch)
  before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == before
  for name, (total, weight) in metrics.items():
    assert total.shape == weight.shape == (), f"{name} is not a pair of scalars"


def assert_same_up_to_rounding(actual: Any, expected: Any, ulps: float = 32.0) -> None:
  """Compares what two separately compiled programs say that are one in mathematics.

  XLA chooses for each program and processor in which order it adds up and where it fuses a
  multiplication with an addition, so equal bits would be luck. Sums err by the size of their terms,
  not of their result: the bound is `ulps` units in the last place of a leaf's largest value.

  Args:
    actual: arrays of one tree and floating dtypes, finite.
    expected: arrays of the same tree, shapes and dtypes.
    ulps: the default is several times what the tiny models show, and a ten-thousandth of what a
      wrong layer, row or token does to them.

  Raises:
    AssertionError: another tree, shape or dtype, or a value further away.
  """
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for (path, got), want in zip(
    jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
  ):
    assert (got.shape, got.dtype) == (want.shape, want.dtype), jax.tree_util.keystr(path)
    bound = ulps * float(jnp.finfo(want.dtype).eps) * np.abs(np.asarray(want, np.float64)).max()
    np.testing.assert_allclose(
      np.asarray(got, np.float64),
      np.asarray(want, np.float64),
      rtol=0,
      atol=bound,
      err_msg=jax.tree_util.keystr(path),
    )
