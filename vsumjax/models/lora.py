"""LoRA (2106.09685): changes of low rank to chosen weights, beside a base that is frozen.

The adapters of a weight w are the parameters `<w>_lora_a` and `<w>_lora_b`. Both have the axes of
w, of size 1 where they do not span them, and the rank last. So one sum gives the change of any
weight, whichever of its axes are contracted:

  w_HDS, contracted over D:   a_1D1R, b_H1SR,   w' = w + alpha / rank · Σ_R a · b
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from flax import traverse_util

from vsumjax.types import InputError

A, B = "_lora_a", "_lora_b"


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """rank: 0 is no LoRA. alpha: the change is multiplied by alpha / rank.

  targets: regular expressions of whole paths, as "llm/layers/attn/q_einsum/w" or
    "img/Transformer/encoderblock/MlpBlock_0/.*/kernel". By default all weights of the decoder's
    layers.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: tuple[str, ...] = ("llm/layers/.*",)

  def __post_init__(self) -> None:
    if self.rank < 0:
      raise InputError(f"model.lora.rank: {self.rank} is less than 0")
    if not self.alpha > 0:
      raise InputError(f"model.lora.alpha: {self.alpha} is not above 0")
    if self.rank and not self.targets:
      raise InputError(f"model.lora.targets: none, with model.lora.rank {self.rank}")
    for target in self.targets:
      try:
        re.compile(target)
      except re.error as error:
        raise InputError(
          f"model.lora.targets: {target!r} is not a regular expression: {error}"
        ) from None

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def adapts(self, path: str) -> bool:
    """Whether the weight of this path has adapters."""
    return self.rank > 0 and any(re.fullmatch(target, path) for target in self.targets)


def check_targets(config: LoraConfig, params: Any) -> None:
  """Raises InputError if one of the targets adapts nothing in `params`."""
  if not config.rank:
    return
  paths = ["/".join(path) for path in traverse_util.flatten_dict(params)]
  adapted = [path.removesuffix(A) for path in paths if path.endswith(A)]
  for target in config.targets:
    if not any(re.fullmatch(target, path) for path in adapted):
      (near,) = difflib.get_close_matches(target, paths, n=1, cutoff=0.0)
      raise InputError(f"model.lora.targets: {target!r} matches no weight; the nearest is {near}")


def is_adapter(path: tuple[str, ...]) -> bool:
  return path[-1].endswith((A, B))


def is_new(path: tuple[str, ...]) -> bool:
  """Whether a parameter is an adapter or an exit's: no part of the base."""
  return is_adapter(path) or path[0] == "exits"


def cast_base(params: Any, dtype: str) -> Any:
  """Parameters with the base in `dtype`; what is new or quantised stays in its own."""

  def cast(path: tuple[str, ...], leaf: Any) -> Any:
    if is_new(path) or isinstance(leaf, qwix.QArray):
      return leaf
    return jax.tree.map(lambda x: x.astype(dtype), leaf)  # through its box

  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict({path: cast(path, leaf) for path, leaf in flat.items()})


def merge_lora(params: Any, config: LoraConfig, dtype: str) -> Any:
  """The same model without adapters: the parameters a config with rank 0 has.

  Weights are changed in float32 and, if they were quantised, kept in `dtype`, the config's
  `param_dtype`. A weight that its adapters do not change stays as it is, bit for bit.
  """
  flat = traverse_util.flatten_dict(params)
  merged = {}
  for path, w in flat.items():
    if is_adapter(path):
      continue
    kept = dtype if isinstance(w, qwix.QArray) else w.dtype
    w = qwix.dequantize(w) if isinstance(w, qwix.QArray) else w
    a, b = (flat.get((*path[:-1], path[-1] + suffix)) for suffix in (A, B))
    merged[path] = (w if a is None else merge(w, a, b, config.scale)).astype(kept)
  return traverse_util.unflatten_dict(merged)


@functools.partial(jax.jit, static_argnames="scale")
def merge(w: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
  """w + scale · Σ_R a · b in the dtype of w; an unchanged value keeps its bits."""
  change = scale * jnp.einsum("...R,...R->...", a, b, precision="highest")
  changed = (w.astype(jnp.float32) + change).astype(w.dtype)
  # Adding 0 is not enough: -0.0 + 0.0 is 0.0, with other bits.
  return jnp.where(change == 0, w, changed)
