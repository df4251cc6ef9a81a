"""The video-summary model. Teacher, mentor and student are configs of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from vsumjax.models import attend, exits, gemma, lora, quantization, siglip
from vsumjax.models.lora import LoraConfig
from vsumjax.models.weights import WeightsConfig
from vsumjax.sharding import constrain
from vsumjax.types import Batch, InputError, Prompt, StudentOutput


@dataclasses.dataclass(frozen=True)
class StudentConfig:
  """Architecture.

  dtype: of activations, "float32" or "bfloat16".
  remat: keep of a layer only its input for the backward pass, for the least memory. Otherwise the
    results of its matmuls and of attention are kept, and only what is cheap is computed twice.
  lora: with a rank, the base is frozen, and only adapters and exits are trained.
  quantize: "int8" or "int4" keeps the weights of the decoder's layers in that, "" as they are.
  param_dtype: "bfloat16" keeps the base in it; adapters, exits and scales are in float32 always.
    It is meant for a base that is frozen: where it is trained, small updates are rounded away.
  attention: "auto" takes the TPU's kernels where they can run, "flash" asks for them, "reference"
    is the same in plain JAX.
  """

  img: siglip.SiglipConfig
  llm: gemma.GemmaConfig
  exits: exits.ExitsConfig
  dtype: str
  remat: bool
  lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
  quantize: str = ""
  param_dtype: str = "float32"
  attention: str = "auto"

  def __post_init__(self) -> None:
    layers = self.exits.layers
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
      raise InputError(f"model.exits.layers: {layers} must be ascending layer numbers from 1")
    if layers[-1] != self.llm.depth:
      raise InputError(
        f"model.exits.layers: the last, {layers[-1]}, must be model.llm.depth, {self.llm.depth}"
      )
    for name in ("dtype", "param_dtype"):
      if getattr(self, name) not in ("float32", "bfloat16"):
        raise InputError(
          f"model.{name}: {getattr(self, name)!r} is neither 'float32' nor 'bfloat16'"
        )
    if self.quantize not in ("", *quantization.KINDS):
      raise InputError(f"model.quantize: {self.quantize!r} is not one of '', 'int8', 'int4'")
    if self.attention not in attend.CHOICES:
      known = ", ".join(attend.CHOICES)
      raise InputError(f"model.attention: {self.attention!r} is not one of {known}")


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
    weights = WeightsConfig(c.lora, c.quantize)
    shared = (dtype, c.remat, weights, c.attention)
    self.img = siglip.Siglip(c.img, c.llm.width, self.tokens_per_frame, *shared)
    self.llm = gemma.Gemma(c.llm, *shared)
    num_exits, num_classes = len(c.exits.layers), len(self.score_ids)
    self.exits = exits.ExitHeads(c.llm.width, num_exits, num_classes, c.exits.prototypes)

  def __call__(self, batch: Batch) -> StudentOutput:
    x_BTD, read_LBND = self.llm.read(
      self.embed(batch), batch.input_mask, batch.mask_ar, batch.score_pos
    )
    layers = jnp.asarray(self.config.exits.layers) - 1
    logits_EBNC = self.llm.logits_of(read_LBND[-1], self.score_ids)[None]
    if len(layers) > 1:
      early_EBNC = self.exits.logits(read_LBND[layers[:-1]])
      logits_EBNC = jnp.concatenate([early_EBNC, logits_EBNC])
    cosine_EBNC = self.exits.cosine(read_LBND[layers]) if self.config.exits.prototypes else None
    return StudentOutput(
      logits=logits_EBNC,
      confidence=exits.confidence(logits_EBNC, cosine_EBNC),
      prototype_cosine=cosine_EBNC,
      text_hidden=None if batch.text is None else self.llm.read_at(x_BTD, batch.text.position),
    )

  def embed(self, prompt: Prompt | Batch) -> jax.Array:
    """Token embeddings with the soft tokens of the frames in the image slots, in order: f[B, T, D].

    Example: slots [i, i, a, i, i, b] of 2 frames with P = 2 take soft tokens [0, 1, -, 2, 3, -].
    """
    B, N, F = prompt.frames.shape[:3]
    text_BTD = self.llm.embed(prompt.tokens)
    if N * F == 0:
      return text_BTD
    images = constrain(
      normalise(prompt.frames).reshape(-1, *prompt.frames.shape[3:]), "batch", *[None] * 3
    )
    soft_BID = self.img(images).reshape(B, N * F * self.tokens_per_frame, -1)
    is_slot_BT = prompt.tokens == self.image_id
    index_BT = jnp.maximum(jnp.cumsum(is_slot_BT, axis=1) - 1, 0)
    # The id behind the last slot is a word that a model generated, of an embedding with more rows.
    is_slot_BT &= index_BT < soft_BID.shape[1]
    slot_BTD = jnp.take_along_axis(soft_BID, index_BT[:, :, None], axis=1, mode="clip")
    return jnp.where(is_slot_BT[:, :, None], slot_BTD, text_BTD)

  def hidden(self, prompt: Prompt | Batch) -> jax.Array:
    """The residual stream after the last layer, f[B, T, D]; `llm.logits` reads it."""
    nothing_BN = jnp.zeros((prompt.tokens.shape[0], 0), jnp.int32)
    x_BTD = self.embed(prompt)
    return self.llm.read(x_BTD, prompt.input_mask, prompt.mask_ar, nothing_BN)[0]

  def lm_logits(self, prompt: Prompt | Batch) -> jax.Array:
    """Next-token logits at every position, f32[B, T, V]: for short sequences and comparisons."""
    return self.llm.logits(self.hidden(prompt))

  def text_logits(self, text_hidden: jax.Array) -> jax.Array:
    """Logits f32[..., V] of `StudentOutput.text_hidden`, or of a part of it."""
    return self.llm.head(text_hidden)

  def prefill(self, prompt: Prompt, num_slots: int) -> tuple[jax.Array, gemma.KVCache]:
    """Logits f32[B, V] after each row's last valid token, and a cache of `num_slots` tokens."""
    x_BTD = self.embed(prompt)
    x_BTD, cache = self.llm.prefill(x_BTD, prompt.input_mask, prompt.mask_ar, num_slots)
    T = prompt.tokens.shape[1]
    last_B = jnp.max(jnp.where(prompt.input_mask, jnp.arange(T)[None], 0), axis=1)
    x_BD = jnp.take_along_axis(x_BTD, last_B[:, None, None], axis=1)[:, 0]
    return self.llm.logits(x_BD), cache

  def decode(
    self, token_B: jax.Array, cache: gemma.KVCache, slot: jax.Array
  ) -> tuple[jax.Array, gemma.KVCache]:
    """Logits f32[B, V] after one more token of each row, kept in `slot` of the cache."""
    x_B1D, cache = self.llm.decode(self.llm.embed(token_B[:, None]), cache, slot)
    return self.llm.logits(x_B1D[:, 0]), cache


def init_params(model: VideoSummaryStudent, spec: Batch | Prompt, key: jax.Array) -> Any:
  """Boxed parameters (`sharding.Named`), traceable. `spec` gives the shapes of one batch.

  Raises:
    InputError: if one of the config's LoRA targets matches no weight.
  """
  batch = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), spec)
  params = model.init(key, batch)["params"]
  lora.check_targets(model.config.lora, params)
  return lora.cast_base(params, model.config.param_dtype)


def normalise(frames: UInt8[Array, "*n 3"]) -> Float[Array, "*n 3"]:
  """RGB bytes to [-1, 1], as SigLIP expects."""
  return frames.astype(jnp.float32) / 127.5 - 1.0


def num_params(params: object) -> int:
  """Number of parameters of a tree of arrays or shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def num_bytes(params: object) -> int:
  """Bytes of a tree of arrays or shapes; two int4 are one."""
  bits = sum(leaf.size * jax.dtypes.itemsize_bits(leaf.dtype) for leaf in jax.tree.leaves(params))
  return bits // 8
