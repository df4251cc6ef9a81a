"""FLOPs that a model needs, whatever a program does: what MFU is a share of.

A product of a weight with a token takes 2 FLOPs a parameter forwards, 2 for the gradient of the
token and 2 for that of the weight (2001.08361, section 2.1); attention of T tokens takes
4 · L · H · S · T² forwards and twice that backwards. Nothing is counted for what is computed again,
for norms, softmax and the optimizer, nor for the rows of an embedding that are looked up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from vsumjax.models.student import StudentConfig


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of the batch of all devices: rows B, tokens T of a row, images, tokens kept of an image,
  places of scores N and of text Y in a row."""

  rows: int
  tokens: int
  images: int
  pooled: int
  scores: int
  texts: int = 0


def forward_flops(
  config: StudentConfig, sizes: Sizes, shapes: Mapping[str, tuple[int, ...]]
) -> float:
  """Of one forward pass; `shapes` are those of the parameters by path."""
  return sum(2.0 * count * seen for count, seen in _products(config, sizes, shapes).values()) + sum(
    _attention(config, sizes).values()
  )


def train_flops(
  config: StudentConfig,
  sizes: Sizes,
  shapes: Mapping[str, tuple[int, ...]],
  trained: frozenset[str],
) -> float:
  """Of one train step, of which `trained` are the paths of the trained parameters.

  What is frozen needs no gradient of its weight, and none of its tokens where nothing trained lies
  before it.
  """
  below = {
    "img": any(path.startswith("img/") for path in trained),
    "llm": any(path.startswith(("img/", "llm/")) for path in trained),
    "exits": bool(trained),
  }
  total = 0.0
  for path, (count, seen) in _products(config, sizes, shapes).items():
    passes = 1 + (path in trained) + below[path.split("/")[0]]
    total += 2.0 * count * seen * passes
  for tower, flops in _attention(config, sizes).items():
    total += flops * (3 if below[tower] else 1)
  return total


def _products(
  config: StudentConfig, sizes: Sizes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int]]:
  """(parameters, tokens that they are multiplied with) of every weight in a product, by path."""
  seen = {
    "img": sizes.images * config.img.num_patches,
    "img/head": sizes.images * sizes.pooled,
    "llm": sizes.rows * sizes.tokens,
    "llm/embedder": sizes.rows * sizes.texts,
    "exits": sizes.rows * sizes.scores,
  }
  found = {}
  for path, shape in shapes.items():
    parts = path.split("/")
    if parts[-1] not in _NOT_MULTIPLIED:
      num_seen = seen.get("/".join(parts[:2]), seen.get(parts[0], 0))
      found[path] = (math.prod(shape), num_seen)
  return found


# Scales and offsets, of norms, biases and quantised weights, and what is added.
_NOT_MULTIPLIED = ("scale", "bias", "norm", "pos_embedding", "zero_point")


def _attention(config: StudentConfig, sizes: Sizes) -> dict[str, float]:
  """Forward FLOPs of attention in each tower."""
  img, llm = config.img, config.llm
  return {
    "img": 4.0 * img.depth * img.width * img.num_patches**2 * sizes.images,
    "llm": 4.0 * llm.depth * llm.num_heads * llm.head_size * sizes.tokens**2 * sizes.rows,
  }
