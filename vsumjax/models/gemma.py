"""Gemma decoders, parameters named and shaped as in big_vision's PaliGemma under `llm/`.

Gemma 1 (2403.08295) and Gemma 2 (2408.00118) differ in config only: soft caps, post norms,
query scale and the sliding window on every second layer.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vsumjax.models import layers
from vsumjax.ops import attention, rope
from vsumjax.sharding import constrain, named
from vsumjax.types import InputError


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
    x_BTD = jnp.take(self.input_embedding, token_BT, axis=0, mode="clip")
    return x_BTD.astype(self.dtype) * jnp.asarray(self.width**0.5, self.dtype)

  def decode(self, x: jax.Array, ids: tuple[int, ...]) -> jax.Array:
    """float32 logits of the tokens `ids` only: [..., D] -> [..., len(ids)]."""
    rows_CD = self.input_embedding[jnp.asarray(ids)]
    return jnp.einsum("...D,CD->...C", x.astype(jnp.float32), rows_CD.astype(jnp.float32))


class Attention(nn.Module):
  """Grouped-query attention with rotary positions and a soft cap."""

  config: GemmaConfig

  @nn.compact
  def __call__(self, x_BTD: jax.Array, position_BT: jax.Array, mask_BTU: jax.Array) -> jax.Array:
    c = self.config
    D, H, K, S = c.width, c.num_heads, c.num_kv_heads, c.head_size
    q_einsum = layers.Einsum((H, D, S), ("heads", "width", "head_size"), 1, (0, 2), name="q_einsum")
    kv_einsum = layers.Einsum(
      (2, K, D, S), (None, "kv_heads", "width", "head_size"), 2, (1, 3), True, name="kv_einsum"
    )
    out_einsum = layers.Einsum(
      (H, S, D), ("heads", "head_size", "width"), (0, 1), 2, name="attn_vec_einsum"
    )
    q_BTHS = rope.apply_rope(q_einsum("nD,HDS->nHS", x_BTD), position_BT)
    k_BUKS, v_BUKS = kv_einsum("nD,KDS->nKS", x_BTD)
    k_BUKS = rope.apply_rope(k_BUKS, position_BT)
    scaled_BTHS = q_BTHS * jnp.asarray(c.query_scale**-0.5, q_BTHS.dtype)
    out_BTHS = attention.attend(scaled_BTHS, k_BUKS, v_BUKS, mask_BTU, cap=c.attention_cap)
    return out_einsum("nHS,HSD->nD", out_BTHS)


class FeedForward(nn.Module):
  """Gated mlp with tanh-approximated GELU."""

  config: GemmaConfig

  @nn.compact
  def __call__(self, x_BTD: jax.Array) -> jax.Array:
    c = self.config
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", 1, 2, 0)
    gating_cDM = self.param(
      "gating_einsum", named(init, None, "width", "mlp"), (2, c.width, c.mlp_dim)
    )
    linear_MD = self.param(
      "linear", named(nn.initializers.lecun_normal(), "mlp", "width"), (c.mlp_dim, c.width)
    )
    gate_BTM, up_BTM = (layers.contract("nD,DM->nM", x_BTD, w_DM) for w_DM in gating_cDM)
    return layers.contract("nM,MD->nD", nn.gelu(gate_BTM) * up_BTM, linear_MD)


class Block(nn.Module):
  """One decoder layer as a scan body: carries x, yields x at the score positions."""

  config: GemmaConfig

  @nn.compact
  def __call__(
    self,
    x_BTD: jax.Array,
    is_local: jax.Array,
    position_BT: jax.Array,
    masks_BTU: tuple[jax.Array, jax.Array],
    score_pos_BN: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    c = self.config
    x_BTD = constrain(x_BTD, "batch", None, None)
    global_BTU, local_BTU = masks_BTU
    mask_BTU = jnp.where(is_local, local_BTU, global_BTU)
    y_BTD = layers.RMSNorm(name="pre_attention_norm")(x_BTD)
    y_BTD = Attention(c, name="attn")(y_BTD, position_BT, mask_BTU)
    if c.post_norms:
      y_BTD = layers.RMSNorm(name="post_attention_norm")(y_BTD)
    x_BTD += y_BTD
    y_BTD = layers.RMSNorm(name="pre_ffw_norm")(x_BTD)
    y_BTD = FeedForward(c, name="mlp")(y_BTD)
    if c.post_norms:
      y_BTD = layers.RMSNorm(name="post_ffw_norm")(y_BTD)
    x_BTD += y_BTD
    return x_BTD, jnp.take_along_axis(x_BTD, score_pos_BN[:, :, None], axis=1)


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


class Gemma(nn.Module):
  """Embedder, scanned layers and final norm."""

  config: GemmaConfig
  dtype: jnp.dtype
  remat: bool

  def setup(self) -> None:
    c = self.config
    self.embedder = Embedder(c.vocab_size, c.width, self.dtype)
    block = layers.rematted(Block, keep_matmuls=not self.remat)
    self.layers = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=c.depth,
      in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c)
    self.final_norm = layers.RMSNorm()

  def embed(self, token_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return self.embedder.encode(token_BT)

  def read(
    self,
    x_BTD: Float[Array, "B T D"],
    input_mask_BT: Bool[Array, "B T"],
    mask_ar_BT: Int[Array, "B T"],
    score_pos_BN: Int[Array, "B N"],
  ) -> Float[Array, "L B N D"]:
    """The residual stream after every layer, at the score positions only."""
    is_local_L = jnp.arange(self.config.depth) % 2 == 0
    position_BT = attention.positions(input_mask_BT)
    masks_BTT = attention_masks(self.config, input_mask_BT, mask_ar_BT)
    _, read_LBND = self.layers(x_BTD, is_local_L, position_BT, masks_BTT, score_pos_BN)
    return read_LBND

  def logits_of(self, read_BND: jax.Array, ids: tuple[int, ...]) -> jax.Array:
    """What the LM head says of the tokens `ids` after the last layer: f32[B, N, len(ids)]."""
    logits_BNC = self.embedder.decode(self.final_norm(read_BND), ids)
    return attention.soft_cap(logits_BNC, self.config.final_cap)
