"""Exit heads: readouts of the residual stream after chosen layers -> scores."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vsumjax.models import layers
from vsumjax.sharding import named


@dataclasses.dataclass(frozen=True)
class ExitsConfig:
  """layers: after which decoder layers a score is read, counted from 1, ascending.

  The last must be the depth of the decoder: there the tied LM head reads the score tokens.
  """

  layers: tuple[int, ...]


class ExitHeads(nn.Module):
  """Norm and linear head of each early exit, stacked on a leading exits axis."""

  num_exits: int
  num_classes: int

  @nn.compact
  def __call__(self, read_EBND: Float[Array, "E B N D"]) -> Float[Array, "E B N C"]:
    E, D, C = self.num_exits, read_EBND.shape[-1], self.num_classes
    scale_ED = self.param("norm", named(nn.initializers.zeros, "exits", "width"), (E, D))
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", 1, 2, 0)
    kernel_EDC = self.param("kernel", named(init, "exits", "width", "classes"), (E, D, C))
    bias_EC = self.param("bias", named(nn.initializers.zeros, "exits", "classes"), (E, C))
    x_EBND = layers.rms_norm(read_EBND.astype(jnp.float32), scale_ED[:, None, None, :])
    return jnp.einsum("EBND,EDC->EBNC", x_EBND, kernel_EDC) + bias_EC[:, None, None, :]


def confidence(logits_EBNC: Float[Array, "E B N C"]) -> Float[Array, "E B N"]:
  """Largest class probability."""
  return jax.nn.softmax(logits_EBNC).max(axis=-1)
