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
  prototypes: learn a prototype of each class at every exit; the confidence of an exit is then the
    cosine of what it reads with the prototype of the class it predicts (DEEVISum, 2504.21831), and
    else the probability of that class. They learn by `objective.prototype_weight`.
  """

  layers: tuple[int, ...]
  prototypes: bool = False


class ExitHeads(nn.Module):
  """Norm and linear head of each early exit, and prototypes of all, stacked on an exits axis."""

  width: int
  num_exits: int
  num_classes: int
  prototypes: bool

  def setup(self) -> None:
    E, D, C = self.num_exits - 1, self.width, self.num_classes
    if E:
      zeros = nn.initializers.zeros
      init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", 1, 2, 0)
      self.norm = self.param("norm", named(zeros, "exits", "width"), (E, D))
      self.kernel = self.param("kernel", named(init, "exits", "width", "classes"), (E, D, C))
      self.bias = self.param("bias", named(zeros, "exits", "classes"), (E, C))
    if self.prototypes:
      init = nn.initializers.normal(1.0)
      names = ("exits", "classes", "width")
      self.prototype = self.param("prototype", named(init, *names), (self.num_exits, C, D))

  def logits(self, read_EBND: Float[Array, "E B N D"]) -> Float[Array, "E B N C"]:
    """Of the early exits, in float32."""
    x_EBND = layers.rms_norm(read_EBND.astype(jnp.float32), self.norm[:, None, None, :])
    return jnp.einsum("EBND,EDC->EBNC", x_EBND, self.kernel) + self.bias[:, None, None, :]

  def cosine(self, read_EBND: Float[Array, "E B N D"]) -> Float[Array, "E B N C"]:
    """Of what each exit, the last one too, reads with its prototype of each class, in float32."""
    return jnp.einsum("EBND,ECD->EBNC", _unit(read_EBND), _unit(self.prototype))


def _unit(x: jax.Array) -> jax.Array:
  x32 = x.astype(jnp.float32)
  return x32 * jax.lax.rsqrt((x32**2).sum(axis=-1, keepdims=True) + 1e-12)


def confidence(
  logits_EBNC: Float[Array, "E B N C"], cosine_EBNC: Float[Array, "E B N C"] | None
) -> Float[Array, "E B N"]:
  """Of the predicted class: its probability, or its prototype's cosine where there are any."""
  if cosine_EBNC is None:
    return jax.nn.softmax(logits_EBNC).max(axis=-1)
  predicted_EBN1 = logits_EBNC.argmax(axis=-1, keepdims=True)
  return jnp.take_along_axis(cosine_EBNC, predicted_EBN1, axis=-1)[..., 0]
