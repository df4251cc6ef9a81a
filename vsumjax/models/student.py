"""The video-summary model. Teacher, mentor and student are configs of it."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from vsumjax.models import exits, gemma, siglip
from vsumjax.sharding import constrain
from vsumjax.types import Batch, InputError, StudentOutput


@dataclasses.dataclass(frozen=True)
class StudentConfig:
  """Architecture.

  dtype: of activations, "float32" or "bfloat16"; parameters are kept in float32.
  remat: keep of a layer only its input for the backward pass, for the least memory. Otherwise the
    results of its matmuls and of attention are kept, and only what is cheap is computed twice.
  """

  img: siglip.SiglipConfig
  llm: gemma.GemmaConfig
  exits: exits.ExitsConfig
  dtype: str
  remat: bool

  def __post_init__(self) -> None:
    layers = self.exits.layers
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
      raise InputError(f"model.exits.layers: {layers} must be ascending layer numbers from 1")
    if layers[-1] != self.llm.depth:
      raise InputError(
        f"model.exits.layers: the last, {layers[-1]}, must be model.llm.depth, {self.llm.depth}"
      )
    if self.dtype not in ("float32", "bfloat16"):
      raise InputError(f"model.dtype: {self.dtype!r} is neither 'float32' nor 'bfloat16'")


class VideoSummaryStudent(nn.Module):
  """SigLIP -> token pooling -> projection -> Gemma -> exits.

  tokens_per_frame: soft tokens a frame is pooled to.
  image_id: token id of an image slot.
  score_ids: token ids of the score classes, worst first.
  """

  config: StudentConfig
  tokens_per_frame: int
  image_id: int
  score_ids: tuple[int, ...]

  def setup(self) -> None:
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    self.img = siglip.Siglip(c.img, c.llm.width, self.tokens_per_frame, dtype, c.remat)
    self.llm = gemma.Gemma(c.llm, dtype, c.remat)
    if len(c.exits.layers) > 1:
      self.exits = exits.ExitHeads(len(c.exits.layers) - 1, len(self.score_ids))

  def __call__(self, batch: Batch) -> StudentOutput:
    read_LBND = self.llm.read(self.embed(batch), batch.input_mask, batch.mask_ar, batch.score_pos)
    layers = jnp.asarray(self.config.exits.layers) - 1
    logits_EBNC = self.llm.logits_of(read_LBND[-1], self.score_ids)[None]
    if len(layers) > 1:
      early_EBNC = self.exits(read_LBND[layers[:-1]])
      logits_EBNC = jnp.concatenate([early_EBNC, logits_EBNC])
    return StudentOutput(logits=logits_EBNC, confidence=exits.confidence(logits_EBNC))

  def embed(self, batch: Batch) -> jax.Array:
    """Token embeddings with the soft tokens of the frames in the image slots, in order: f[B, T, D].

    Example: slots [i, i, a, i, i, b] of 2 frames with P = 2 take soft tokens [0, 1, -, 2, 3, -].
    """
    B, N, F = batch.frames.shape[:3]
    images = constrain(
      normalise(batch.frames).reshape(-1, *batch.frames.shape[3:]), "batch", *[None] * 3
    )
    soft_BID = self.img(images).reshape(B, N * F * self.tokens_per_frame, -1)
    is_slot_BT = batch.tokens == self.image_id
    index_BT = jnp.maximum(jnp.cumsum(is_slot_BT, axis=1) - 1, 0)
    slot_BTD = jnp.take_along_axis(soft_BID, index_BT[:, :, None], axis=1)
    return jnp.where(is_slot_BT[:, :, None], slot_BTD, self.llm.embed(batch.tokens))


def normalise(frames: UInt8[Array, "*n 3"]) -> Float[Array, "*n 3"]:
  """RGB bytes to [-1, 1], as SigLIP expects."""
  return frames.astype(jnp.float32) / 127.5 - 1.0


def num_params(params: object) -> int:
  """Number of parameters of a tree of arrays or shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
