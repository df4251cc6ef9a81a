"""Gemma decoders, parameters named and shaped as in big_vision's PaliGemma under `llm/`.

Gemma 1 (2403.08295) and Gemma 2 (2408.00118) differ in config only: soft caps, post norms,
query scale and the sliding window on every second layer.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from vsumjax.models import attend, layers, rows
from vsumjax.models.weights import WeightsConfig, weight
from vsumjax.ops import attention, rope
from vsumjax.ops.attention import Visibility
from vsumjax.sharding import constrain, named
from vsumjax.types import InputError

KeysValues = tuple[jax.Array, jax.Array]
Layer = tuple[jax.Array, jax.Array]  # index and whether its attention is local


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
  """Gemma 2 2B is 257152 (with PaliGemma's tokens), 2304, 26, 9216, 8, 4, 256, 256, ...

  query_scale: queries are multiplied by query_scale ** -0.5 (256; 144 in Gemma 2 27B).
  attention_cap, final_cap: soft caps of logits; 0 is none (50 and 30 in Gemma 2).
  post_norms: norms after attention and after the mlp (Gemma 2).
  sliding_window: tokens a query sees back on layers 0, 2, 4, ... outside of its own block; 0 is
    all (4096 in Gemma 2).
  """

  vocab_size: int
  width: int
  depth: int
  mlp_dim: int
  num_heads: int
  num_kv_heads: int
  head_size: int
  query_scale: float
  attention_cap: float
  final_cap: float
  post_norms: bool
  sliding_window: int

  def __post_init__(self) -> None:
    for name in (
      "vocab_size", "width", "depth", "mlp_dim", "num_heads", "num_kv_heads", "head_size",
      "query_scale",
    ):  # fmt: skip
      if getattr(self, name) <= 0:
        raise InputError(f"model.llm.{name}: {getattr(self, name)} must be positive")
    if self.num_heads % self.num_kv_heads:
      raise InputError(
        f"model.llm.num_kv_heads: {self.num_kv_heads} does not divide the "
        f"{self.num_heads} query heads (model.llm.num_heads)"
      )
    if self.head_size % 2:
      raise InputError(f"model.llm.head_size: {self.head_size} is odd; rotary positions turn pairs")


class Embedder(nn.Module):
  """The vocabulary's embedding, tied with the LM head."""

  vocab_size: int
  width: int
  dtype: jnp.dtype

  def setup(self) -> None:
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=1, out_axis=0)
    self.input_embedding = self.param(
      "input_embedding", named(init, "vocab", "width"), (self.vocab_size, self.width)
    )

  def encode(self, token_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Embeddings scaled by √D. An image slot gives some row; the caller replaces it."""
    if rows.is_spread(len(token_BT), "width"):
      x_BTD = rows.take_rows(self.input_embedding, token_BT, "width", self.dtype)
    else:
      x_BTD = jnp.take(self.input_embedding, token_BT, axis=0, mode="clip").astype(self.dtype)
    return x_BTD * jnp.asarray(self.width**0.5, self.dtype)

  def decode(self, x: Float[Array, "*n D"]) -> Float[Array, "*n V"]:
    """Logits of every token, summed up in float32."""
    table_VD = self.input_embedding.astype(x.dtype)
    return jnp.einsum("...D,VD->...V", x, table_VD, preferred_element_type=jnp.float32)

  def decode_only(self, x: jax.Array, ids: tuple[int, ...]) -> jax.Array:
    """float32 logits of the tokens `ids` only: [..., D] -> [..., len(ids)]."""
    rows_CD = self.input_embedding[jnp.asarray(ids)]
    return jnp.einsum("...D,CD->...C", x.astype(jnp.float32), rows_CD.astype(jnp.float32))


class Attention(nn.Module):
  """Grouped-query attention with rotary positions and a soft cap."""

  config: GemmaConfig
  weights: WeightsConfig = WeightsConfig()

  def setup(self) -> None:
    c = self.config
    einsum = functools.partial(layers.Einsum, weights=self.weights)
    D, H, K, S = c.width, c.num_heads, c.num_kv_heads, c.head_size
    self.q_einsum = einsum((H, D, S), ("heads", "width", "head_size"), 1, (0, 2))
    self.kv_einsum = einsum(
      (2, K, D, S), (None, "kv_heads", "width", "head_size"), 2, (1, 3), stacked=True
    )
    self.attn_vec_einsum = einsum((H, S, D), ("heads", "head_size", "width"), (0, 1), 2)

  def project(self, x_BTD: jax.Array, position_BT: jax.Array) -> tuple[jax.Array, KeysValues]:
    """Scaled queries [B, T, H, S], and keys and values, each [B, T, K, S]."""
    q_BTHS = rope.apply_rope(self.q_einsum("nD,HDS->nHS", x_BTD), position_BT)
    k_BTKS, v_BTKS = self.kv_einsum("nD,KDS->nKS", x_BTD)
    q_BTHS *= jnp.asarray(self.config.query_scale**-0.5, q_BTHS.dtype)
    kept = functools.partial(checkpoint_name, name=attention.KEPT)
    return kept(q_BTHS), (kept(rope.apply_rope(k_BTKS, position_BT)), v_BTKS)

  def attend(
    self, q_BTHS: jax.Array, kv_BUKS: KeysValues, seen: jax.Array | Visibility
  ) -> jax.Array:
    """seen: a mask [B, T, U], or for the TPU's kernels what it says of each token."""
    cap = self.config.attention_cap
    if isinstance(seen, Visibility):
      out_BTHS = attend.flash(q_BTHS, *kv_BUKS, seen, cap)
    else:
      out_BTHS = attention.attend(q_BTHS, *kv_BUKS, seen, cap=cap)
    return self.attn_vec_einsum("nHS,HSD->nD", out_BTHS)


class FeedForward(nn.Module):
  """Gated mlp with tanh-approximated GELU."""

  config: GemmaConfig
  weights: WeightsConfig = WeightsConfig()

  @nn.compact
  def __call__(self, x_BTD: jax.Array) -> jax.Array:
    D, M = self.config.width, self.config.mlp_dim
    create = functools.partial(weight, self, self.weights)
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", 1, 2, 0)
    gating = create(
      "gating_einsum", init, (None, "width", "mlp"), (2, D, M), "nD,DM->nM", stacked=True
    )
    init = nn.initializers.lecun_normal()
    linear = create("linear", init, ("mlp", "width"), (M, D), "nM,MD->nD")
    gate_BTM, up_BTM = gating(x_BTD)
    return linear(gate_BTM, up_BTM, of=_gated)


def _gated(gate: jax.Array, up: jax.Array) -> jax.Array:
  return nn.gelu(gate) * up


class Block(nn.Module):
  """One decoder layer. Its methods are bodies of `nn.scan`: (carry, layer, context)."""

  config: GemmaConfig
  weights: WeightsConfig = WeightsConfig()

  def setup(self) -> None:
    c = self.config
    self.pre_attention_norm = layers.RMSNorm()
    self.attn = Attention(c, self.weights)
    self.pre_ffw_norm = layers.RMSNorm()
    self.mlp = FeedForward(c, self.weights)
    if c.post_norms:
      self.post_attention_norm = layers.RMSNorm()
      self.post_ffw_norm = layers.RMSNorm()

  def read(self, x_BTD: jax.Array, layer: Layer, context: tuple) -> tuple[jax.Array, jax.Array]:
    """context: positions, masks, score positions. Yields x at the score positions."""
    position_BT, masks_BTT, score_pos_BN = context
    x_BTD, _ = self.prefill(x_BTD, layer, (position_BT, masks_BTT))
    return x_BTD, jnp.take_along_axis(x_BTD, score_pos_BN[:, :, None], axis=1)

  def prefill(self, x_BTD: jax.Array, layer: Layer, context: tuple) -> tuple[jax.Array, KeysValues]:
    """context: positions, masks. Yields keys and values."""
    position_BT, masks_BTT = context
    x_BTD = constrain(x_BTD, "batch", None, None)
    q_BTHS, kv_BTKS = self.attn.project(self.pre_attention_norm(x_BTD), position_BT)
    return self._after(x_BTD, q_BTHS, kv_BTKS, _mask_of(layer, masks_BTT)), kv_BTKS

  def decode(
    self, carry: tuple[jax.Array, KeysValues], layer: Layer, context: tuple
  ) -> tuple[tuple[jax.Array, KeysValues], None]:
    """carry: x of one new token and the cache of all layers; context: position, masks, slot."""
    (x_B1D, kv_LBUKS), (index, _), (position_B1, masks_B1U, slot) = carry, layer, context
    x_B1D = constrain(x_B1D, "batch", None, None)
    q_B1HS, kv_B1KS = self.attn.project(self.pre_attention_norm(x_B1D), position_B1)
    # The cache is carried, not scanned over, so that each step writes one slot in place.
    at = (index, 0, slot, 0, 0)
    kv_LBUKS = jax.tree.map(
      lambda cache, new: jax.lax.dynamic_update_slice(cache, new[None], at), kv_LBUKS, kv_B1KS
    )
    kv_BUKS = jax.tree.map(
      lambda cache: jax.lax.dynamic_index_in_dim(cache, index, keepdims=False), kv_LBUKS
    )
    return (self._after(x_B1D, q_B1HS, kv_BUKS, _mask_of(layer, masks_B1U)), kv_LBUKS), None

  def _after(
    self, x_BTD: jax.Array, q_BTHS: jax.Array, kv_BUKS: KeysValues, seen: jax.Array | Visibility
  ) -> jax.Array:
    y_BTD = self.attn.attend(q_BTHS, kv_BUKS, seen)
    x_BTD += self.post_attention_norm(y_BTD) if self.config.post_norms else y_BTD
    y_BTD = self.mlp(self.pre_ffw_norm(x_BTD))
    return x_BTD + (self.post_ffw_norm(y_BTD) if self.config.post_norms else y_BTD)


def _mask_of(
  layer: Layer, masks_BTU: tuple[jax.Array, jax.Array] | Visibility
) -> jax.Array | Visibility:
  if isinstance(masks_BTU, Visibility):
    if masks_BTU.window is None:
      return masks_BTU
    return masks_BTU.replace(window=jnp.where(layer[1], masks_BTU.window, attention.NEVER))
  global_BTU, local_BTU = masks_BTU
  return jnp.where(layer[1], local_BTU, global_BTU)


def attention_masks(
  config: GemmaConfig, input_mask_BT: Bool[Array, "B T"], mask_ar_BT: Int[Array, "B T"]
) -> tuple[Bool[Array, "B T T"], Bool[Array, "B T T"]]:
  """The masks of global and of local layers; the same where the config has no sliding window."""
  mask_BTT = attention.make_attention_mask(input_mask_BT, mask_ar_BT)
  if not config.sliding_window:
    return mask_BTT, mask_BTT
  position_BT = attention.positions(input_mask_BT)
  near_BTT = attention.window_mask(position_BT, mask_ar_BT, config.sliding_window)
  return mask_BTT, mask_BTT & near_BTT


@struct.dataclass
class KVCache:
  """Keys and values of a batch, in slots that are the same for all rows.

  kv_LBUKS: keys and values, rotated, each f[L, B, U, K, S].
  position_BU: i32, place of each slot's token among the row's own.
  is_filled_BU: bool, False for padding and for what is not decoded yet.
  """

  kv_LBUKS: KeysValues
  position_BU: Array
  is_filled_BU: Array


class Gemma(nn.Module):
  """Embedder, scanned layers and final norm."""

  config: GemmaConfig
  dtype: jnp.dtype
  remat: bool
  weights: WeightsConfig = WeightsConfig()
  attention: str = "auto"

  def setup(self) -> None:
    c = self.config
    self.embedder = Embedder(c.vocab_size, c.width, self.dtype)
    block = layers.rematted(Block, keep_matmuls=not self.remat, methods=["read"])
    self.layers = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=c.depth,
      in_axes=(0, nn.broadcast),
      # The check traces all once more. Without it, new parameters would be other ones.
      check_constancy_invariants=self.is_initializing(),
      metadata_params={nn.PARTITION_NAME: "layers"},
      methods=["read", "prefill", "decode"],
    )(c, self.weights)
    self.final_norm = layers.RMSNorm()

  def embed(self, token_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return self.embedder.encode(token_BT)

  def read(
    self,
    x_BTD: Float[Array, "B T D"],
    input_mask_BT: Bool[Array, "B T"],
    mask_ar_BT: Int[Array, "B T"],
    score_pos_BN: Int[Array, "B N"],
  ) -> tuple[Float[Array, "B T D"], Float[Array, "L B N D"]]:
    """The residual stream after the last layer, and after every layer at the score positions."""
    context = (*self._prompt_context(input_mask_BT, mask_ar_BT), score_pos_BN)
    return self.layers.read(x_BTD, self._layers(), context)

  def prefill(
    self,
    x_BTD: Float[Array, "B T D"],
    input_mask_BT: Bool[Array, "B T"],
    mask_ar_BT: Int[Array, "B T"],
    num_slots: int,
  ) -> tuple[Float[Array, "B T D"], KVCache]:
    """The residual stream after the last layer, and a cache with room for `num_slots` tokens."""
    context = self._prompt_context(input_mask_BT, mask_ar_BT)
    x_BTD, kv_LBTKS = self.layers.prefill(x_BTD, self._layers(), context)
    room = num_slots - x_BTD.shape[1]
    if room < 0:
      raise ValueError(f"a cache of {num_slots} slots for a prompt of {x_BTD.shape[1]} tokens")
    cache = KVCache(
      kv_LBUKS=jax.tree.map(lambda x: _pad_axis(x, 2, room), kv_LBTKS),
      position_BU=_pad_axis(context[0], 1, room),
      is_filled_BU=_pad_axis(input_mask_BT, 1, room),
    )
    return x_BTD, cache

  def decode(
    self, x_B1D: Float[Array, "B 1 D"], cache: KVCache, slot: Int[Array, ""]
  ) -> tuple[Float[Array, "B 1 D"], KVCache]:
    """The residual stream of one more token of each row, which takes `slot` of the cache."""
    position_B1 = cache.is_filled_BU.sum(axis=1, dtype=jnp.int32, keepdims=True)
    position_BU = jax.lax.dynamic_update_slice(cache.position_BU, position_B1, (0, slot))
    is_filled_BU = jax.lax.dynamic_update_slice(
      cache.is_filled_BU, jnp.ones(position_B1.shape, bool), (0, slot)
    )
    is_near_BU = is_filled_BU
    if self.config.sliding_window:
      is_near_BU &= position_BU > position_B1 - self.config.sliding_window
    masks_B1U = is_filled_BU[:, None], is_near_BU[:, None]
    (x_B1D, kv_LBUKS), _ = self.layers.decode(
      (x_B1D, cache.kv_LBUKS), self._layers(), (position_B1, masks_B1U, slot)
    )
    return x_B1D, KVCache(kv_LBUKS, position_BU, is_filled_BU)

  def logits(self, x: Float[Array, "*n D"]) -> Float[Array, "*n V"]:
    """What the LM head says after the last layer, of the whole vocabulary, in float32."""
    return self.head(self.final_norm(x))

  def read_at(self, x_BTD: Float[Array, "B T D"], position_BY: Int[Array, "B Y"]) -> jax.Array:
    """What the LM head reads after the last layer at some positions: f[B, Y, D]."""
    return self.final_norm(jnp.take_along_axis(x_BTD, position_BY[:, :, None], axis=1))

  def head(self, hidden: Float[Array, "*n D"]) -> Float[Array, "*n V"]:
    """The LM head on what `read_at` gives: logits of the whole vocabulary, in float32."""
    return attention.soft_cap(self.embedder.decode(hidden), self.config.final_cap)

  def logits_of(self, read_BND: jax.Array, ids: tuple[int, ...]) -> jax.Array:
    """What the LM head says of the tokens `ids` after the last layer: f32[B, N, len(ids)]."""
    logits_BNC = self.embedder.decode_only(self.final_norm(read_BND), ids)
    return attention.soft_cap(logits_BNC, self.config.final_cap)

  def _layers(self) -> Layer:
    index_L = jnp.arange(self.config.depth)
    return index_L, index_L % 2 == 0

  def _prompt_context(self, input_mask_BT: jax.Array, mask_ar_BT: jax.Array) -> tuple:
    # Parameters are made of one row, whatever there are devices.
    if not self.is_initializing() and attend.uses_flash(self.attention, *input_mask_BT.shape):
      seen = attention.visibility(input_mask_BT, mask_ar_BT, self.config.sliding_window)
    else:
      seen = attention_masks(self.config, input_mask_BT, mask_ar_BT)
    return attention.positions(input_mask_BT), seen


def _pad_axis(x: jax.Array, axis: int, amount: int) -> jax.Array:
  return jnp.pad(x, [(0, amount if i == axis else 0) for i in range(x.ndim)])
