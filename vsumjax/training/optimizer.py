"""AdamW with a warm-up, a schedule of the learning rate and clipping by global norm."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vsumjax.training.state import in_float32
from vsumjax.types import InputError

_ABOVE_0, _BELOW_1 = sys.float_info.min, math.nextafter(1.0, 0.0)
_FINITE = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """AdamW (1711.05101).

  learning_rate: peak.
  warmup: share of all steps in which the rate rises to it from 0; 0 starts at the peak.
  weight_decay: decoupled, on matrices only.
  clip_norm: gradients are scaled down to this global norm; 0 leaves them as they are.
  schedule: of the rate after the warm-up, one of `SCHEDULES`.
  b1, b2, eps: of the moments.
  freeze: regular expressions of whole paths, as "img/.*", of parameters that are not trained.
  """

  learning_rate: float
  warmup: float
  weight_decay: float
  clip_norm: float
  schedule: str = "cosine"
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  freeze: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    for name, low, high in (
      ("learning_rate", 0, _FINITE),
      ("warmup", 0, 1),
      ("weight_decay", 0, _FINITE),
      ("clip_norm", 0, _FINITE),
      ("b1", 0, _BELOW_1),
      ("b2", 0, _BELOW_1),
      ("eps", _ABOVE_0, _FINITE),
    ):
      if not low <= getattr(self, name) <= high:
        raise InputError(f"optimizer.{name}: {getattr(self, name)} is not in {low} .. {high}")
    if self.schedule not in SCHEDULES:
      raise InputError(
        f"optimizer.schedule: {self.schedule!r} is not one of {', '.join(SCHEDULES)}"
      )
    for pattern in self.freeze:
      try:
        re.compile(pattern)
      except (re.error, OverflowError) as error:
        raise InputError(
          f"optimizer.freeze: {pattern!r} is not a regular expression: {error}"
        ) from None


def _rsqrt(peak: float, warmup_steps: int) -> optax.Schedule:
  """peak · sqrt(w / (w + step)), step counted from the end of the warm-up (1706.03762, 5.3)."""
  w = max(warmup_steps, 1)
  return lambda step: peak * jnp.sqrt(w / (w + jnp.asarray(step, jnp.float32)))


# (peak, steps of the warm-up, steps after it) -> the rate after the warm-up.
SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
  "constant": lambda peak, warmup_steps, steps: optax.constant_schedule(peak),
  "cosine": lambda peak, warmup_steps, steps: optax.cosine_decay_schedule(peak, steps),
  "linear": lambda peak, warmup_steps, steps: optax.linear_schedule(peak, 0.0, steps),
  "rsqrt": lambda peak, warmup_steps, steps: _rsqrt(peak, warmup_steps),
}


def build_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
  """0 -> peak over the warm-up, then the schedule; cosine and linear end at 0 at `num_steps`."""
  warmup_steps = max(1, round(config.warmup * num_steps)) if config.warmup else 0
  after = SCHEDULES[config.schedule](
    config.learning_rate, warmup_steps, max(1, num_steps - warmup_steps)
  )
  if not warmup_steps:
    return after
  rise = optax.linear_schedule(0.0, config.learning_rate, warmup_steps)
  return optax.join_schedules([rise, after], [warmup_steps])


def build_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
  """AdamW in float32, whatever the parameters are kept in."""
  clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
  adamw = optax.adamw(
    build_schedule(config, num_steps),
    b1=config.b1,
    b2=config.b2,
    eps=config.eps,
    weight_decay=config.weight_decay,
    mask=_is_matrix,
  )
  return _in_float32(optax.chain(clip, adamw))


def _in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """Adam's moments take the dtype of parameters and gradients; these are seen in float32."""

  def update(grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
    return tx.update(in_float32(grads), opt_state, in_float32(params))

  return optax.GradientTransformation(lambda params: tx.init(in_float32(params)), update)


# Vectors under the scanned stack have a leading layer axis, so that rank alone does not tell.
_VECTORS = ("scale", "bias", "norm")


def _is_matrix(params: Any) -> Any:
  """True on leaves that decay: all but the scales and biases of norms and layers."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not any(str(getattr(key, "key", "")) in _VECTORS for key in path[-2:]), params
  )
