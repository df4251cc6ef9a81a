"""AdamW with linear warm-up, cosine decay and clipping by global norm."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import optax

from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """learning_rate: peak. warmup: share of all steps. weight_decay: decoupled, on matrices only."""

  learning_rate: float
  warmup: float
  weight_decay: float
  clip_norm: float
  b2: float = 0.95

  def __post_init__(self) -> None:
    for name, low, high in (
      ("learning_rate", 0, math.inf),
      ("warmup", 0, 1),
      ("weight_decay", 0, math.inf),
      ("clip_norm", 0, math.inf),
      ("b2", 0, 1),
    ):
      if not low <= getattr(self, name) <= high:
        raise InputError(f"optimizer.{name}: {getattr(self, name)} is not in {low} .. {high}")


def build_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
  """0 -> peak over the warm-up, then cosine to 0 at `num_steps`."""
  warmup_steps = max(1, round(config.warmup * num_steps))
  return optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, warmup_steps, max(num_steps, warmup_steps + 1)
  )


def build_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      build_schedule(config, num_steps),
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=_is_matrix,
    ),
  )


# Vectors under the scanned stack have a leading layer axis, so that rank alone does not tell.
_VECTORS = ("scale", "bias", "norm")


def _is_matrix(params: Any) -> Any:
  """True on leaves that decay: all but the scales and biases of norms and layers."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not any(str(getattr(key, "key", "")) in _VECTORS for key in path[-2:]), params
  )
