"""SigLIP vision tower (2303.15343), parameters named as in big_vision's PaliGemma under `img/`."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vsumjax.models import attend, layers
from vsumjax.models.weights import WeightsConfig
from vsumjax.ops import attention, pooling
from vsumjax.sharding import constrain, named
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
  """So400m/14 at 224 px is 224, 14, 1152, 27, 4304, 16."""

  image_size: int
  patch_size: int
  width: int
  depth: int
  mlp_dim: int
  num_heads: int

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      if getattr(self, field.name) <= 0:
        raise InputError(f"model.img.{field.name}: {getattr(self, field.name)} must be positive")
    if self.image_size % self.patch_size:
      raise InputError(
        f"model.img.patch_size: {self.patch_size} does not divide the {self.image_size} pixels of "
        "model.img.image_size"
      )
    if self.width % self.num_heads:
      raise InputError(
        f"model.img.num_heads: {self.num_heads} does not divide model.img.width, {self.width}"
      )

  @property
  def num_patches(self) -> int:
    return (self.image_size // self.patch_size) ** 2


class SelfAttention(nn.Module):
  """Multi-head attention of all patches with all patches."""

  num_heads: int
  weights: WeightsConfig = WeightsConfig()
  attention: str = "auto"

  @nn.compact
  def __call__(self, x_ITD: jax.Array) -> jax.Array:
    D = x_ITD.shape[-1]
    head = (self.num_heads, D // self.num_heads)
    dense = functools.partial(layers.Dense, weights=self.weights)

    def project(name: str) -> jax.Array:
      names = ("width", "heads", "head_size")
      return dense((D,), head, names, name=name)(x_ITD)

    q_ITHS, k_ITHS, v_ITHS = project("query"), project("key"), project("value")
    q_ITHS *= head[1] ** -0.5
    if not self.is_initializing() and attend.uses_flash(self.attention, *x_ITD.shape[:2]):
      out_ITHS = attend.flash(q_ITHS, k_ITHS, v_ITHS, None, 0.0)
    else:
      out_ITHS = attention.attend(q_ITHS, k_ITHS, v_ITHS)
    return dense(head, (D,), ("heads", "head_size", "width"), name="out")(out_ITHS)


class Mlp(nn.Module):
  """Two layers with tanh-approximated GELU."""

  mlp_dim: int
  weights: WeightsConfig = WeightsConfig()

  @nn.compact
  def __call__(self, x_ITD: jax.Array) -> jax.Array:
    D = x_ITD.shape[-1]
    dense = functools.partial(layers.Dense, weights=self.weights)
    hidden = dense((D,), (self.mlp_dim,), ("width", "mlp"), name="Dense_0")(x_ITD)
    return dense((self.mlp_dim,), (D,), ("mlp", "width"), name="Dense_1")(hidden, of=nn.gelu)


class Block(nn.Module):
  """Pre-norm transformer block, written as a scan body."""

  config: SiglipConfig
  weights: WeightsConfig = WeightsConfig()
  attention: str = "auto"

  @nn.compact
  def __call__(self, x_ITD: jax.Array, _: None) -> tuple[jax.Array, None]:
    c = self.config
    x_ITD = constrain(x_ITD, "batch", None, None)
    y_ITD = layers.LayerNorm(name="LayerNorm_0")(x_ITD)
    attention = SelfAttention(
      c.num_heads, self.weights, self.attention, name="MultiHeadDotProductAttention_0"
    )
    x_ITD += attention(y_ITD)
    y_ITD = layers.LayerNorm(name="LayerNorm_1")(x_ITD)
    return x_ITD + Mlp(c.mlp_dim, self.weights, name="MlpBlock_0")(y_ITD), None


class Transformer(nn.Module):
  """The scanned blocks and the last norm."""

  config: SiglipConfig
  remat: bool
  weights: WeightsConfig = WeightsConfig()
  attention: str = "auto"

  @nn.compact
  def __call__(self, x_ITD: jax.Array) -> jax.Array:
    block = layers.rematted(Block, keep_matmuls=not self.remat)
    stack = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=self.config.depth,
      in_axes=nn.broadcast,
      # The check traces all once more. Without it, new parameters would be other ones.
      check_constancy_invariants=self.is_initializing(),
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    x_ITD, _ = stack(self.config, self.weights, self.attention, name="encoderblock")(x_ITD, None)
    return layers.LayerNorm(name="encoder_norm")(x_ITD)


class Siglip(nn.Module):
  """Images -> soft tokens: patches, transformer, average pooling, projection (`head`)."""

  config: SiglipConfig
  out_width: int
  num_tokens: int
  dtype: jnp.dtype
  remat: bool
  weights: WeightsConfig = WeightsConfig()
  attention: str = "auto"

  @nn.compact
  def __call__(self, image_Ihwc: Float[Array, "I h w 3"]) -> Float[Array, "I P D"]:
    """Pixels in [-1, 1] to `num_tokens` soft tokens an image, in the decoder's width."""
    c = self.config
    p, shape = c.patch_size, image_Ihwc.shape
    if shape[1:3] != (c.image_size, c.image_size):
      raise ValueError(f"images of {shape[1:3]} for a vision tower of {c.image_size} px")
    side = c.image_size // p
    patches = image_Ihwc[:, : side * p, : side * p].reshape(-1, side, p, side, p, 3)
    patches = patches.swapaxes(2, 3).reshape(-1, side * side, p, p, 3).astype(self.dtype)
    names = ("patch", "patch", None, "width")
    dense = functools.partial(layers.Dense, weights=self.weights)
    x_ITD = dense((p, p, 3), (c.width,), names, name="embedding")(patches)
    position = self.param(
      "pos_embedding",
      named(nn.initializers.normal(c.width**-0.5), None, None, "width"),
      (1, side * side, c.width),
    )
    x_ITD += position.astype(self.dtype)
    x_ITD = Transformer(c, self.remat, self.weights, self.attention, name="Transformer")(x_ITD)
    x_IPD = pooling.pool_tokens(x_ITD, self.num_tokens)
    return dense((c.width,), (self.out_width,), (None, "width"), name="head")(x_IPD)
