"""The form between all formats: a config, and our tensors by path, still in their files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vsumjax import sharding
from vsumjax.convert import tensors
from vsumjax.convert.tensors import FLOATS, LazyTensor
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.gemma import GemmaConfig
from vsumjax.models.lora import LoraConfig
from vsumjax.models.siglip import SiglipConfig
from vsumjax.models.student import StudentConfig, VideoSummaryStudent
from vsumjax.types import Batch, InputError

EXITS = "exits/"


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a checkpoint says beside its weights, and how it spelled them, to write it back alike.

  Attributes:
    origin: where the weights come from, for people.
    image_token_id: id of an image slot; -1 where the source doesn't say.
    score_tokens, score_ids: the score classes, worst first; empty where unknown.
    prompt, prompt_digest: the prompt a trained model reads; empty where unknown.
    npz: how a big_vision file spelled its keys ({"prefix"}).
    huggingface: how a directory spelled its keys, and its config ({"prefixes", "config"}).
  """

  origin: str = ""
  image_token_id: int = -1
  score_tokens: tuple[str, ...] = ()
  score_ids: tuple[int, ...] = ()
  prompt: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  prompt_digest: str = ""
  npz: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  huggingface: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Weights:
  """A checkpoint of any format, opened.

  Attributes:
    config: the architecture.
    tensors: our path, as "llm/layers/attn/q_einsum/w", -> tensor in our layout.
    facts: see `Facts`.
    files: name -> path of tokenizer and processor files that travel with the weights.
    source: the file or folder, for messages.
  """

  config: StudentConfig
  tensors: Mapping[str, LazyTensor]
  facts: Facts
  files: Mapping[str, Path]
  source: str

  @property
  def num_bytes(self) -> int:
    return sum(tensor.nbytes for tensor in self.tensors.values())

  def tower(self) -> dict[str, LazyTensor]:
    """PaliGemma's own tensors: all but the exits."""
    return {path: t for path, t in self.tensors.items() if not path.startswith(EXITS)}

  def exits(self) -> dict[str, LazyTensor]:
    """The tensors of the early exits."""
    return {path: t for path, t in self.tensors.items() if path.startswith(EXITS)}


def check(weights: Weights) -> Weights:
  """The weights, if every tensor of the config is there in its shape, and no other.

  Raises:
    InputError: naming file, tensors and shapes.
  """
  shapes = leaf_shapes(weights.config, num_classes(weights))
  if missing := sorted(shapes.keys() - weights.tensors.keys()):
    raise InputError(
      f"{weights.source}: tensors missing: "
      + ", ".join(f"{path} {list(shapes[path])}" for path in missing)
    )
  if unknown := sorted(weights.tensors.keys() - shapes.keys()):
    raise InputError(
      f"{weights.source}: tensors that the model has not: "
      + ", ".join(weights.tensors[path].describe() for path in unknown)
    )
  for path, tensor in weights.tensors.items():
    if tensor.shape != shapes[path]:
      raise InputError(f"{tensor.describe()}: the model's {path} is {list(shapes[path])}")
    if tensor.dtype not in FLOATS.values():
      raise InputError(f"{tensor.describe()}: weights are {', '.join(FLOATS)}")
  return weights


def num_classes(weights: Weights) -> int:
  """Score classes of the exits; 1 where there are none to count."""
  bias, prototype = (weights.tensors.get(EXITS + name) for name in ("bias", "prototype"))
  if weights.facts.score_ids:
    return len(weights.facts.score_ids)
  if bias:
    return bias.shape[-1]
  return prototype.shape[1] if prototype else 1


@functools.cache
def leaf_shapes(config: StudentConfig, classes: int) -> dict[str, tuple[int, ...]]:
  """Shape of every parameter, by path. Nothing is allocated."""
  image = (config.img.image_size,) * 2
  batch = Batch(
    frames=jnp.zeros((1, 1, 1, *image, 3), jnp.uint8),
    tokens=jnp.zeros((1, config.img.num_patches), jnp.int32),
    mask_ar=jnp.zeros((1, config.img.num_patches), jnp.int32),
    input_mask=jnp.ones((1, config.img.num_patches), bool),
    score_pos=jnp.zeros((1, 1), jnp.int32),
    targets=jnp.zeros((1, 1, classes)),
    weight=jnp.zeros((1, 1)),
    teachers=(),
    example=jnp.zeros(1, jnp.int32),
  )
  model = VideoSummaryStudent(config, config.img.num_patches, 0, tuple(range(classes)))
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), batch)["params"])
  return {path: leaf.shape for path, leaf in sharding.by_path(sharding.unbox(boxed)).items()}


def nested(content: Mapping[str, Any]) -> dict[str, Any]:
  """{"llm/embedder": ...} -> {"llm": {"embedder": ...}}."""
  tree: dict[str, Any] = {}
  for path, leaf in content.items():
    *groups, name = path.split("/")
    group = tree
    for key in groups:
      group = group.setdefault(key, {})
    group[name] = leaf
  return tree


def with_dtype(weights: Weights, name: str) -> Weights:
  """The weights rounded to "float32", "bfloat16" or "float16"."""
  rounded = {path: tensors.cast(t, FLOATS[name]) for path, t in weights.tensors.items()}
  return dataclasses.replace(weights, tensors=rounded)


def config_from_dict(values: Any, source: str) -> StudentConfig:
  """The architecture from JSON.

  Raises:
    InputError: naming the source, if a key is missing or unknown or a value is refused.
  """
  try:
    lora = values.get("lora", {})
    return StudentConfig(
      **values
      | {
        "img": SiglipConfig(**values["img"]),
        "llm": GemmaConfig(**values["llm"]),
        "exits": ExitsConfig(**values["exits"] | {"layers": tuple(values["exits"]["layers"])}),
        "lora": LoraConfig(**lora | {"targets": tuple(lora.get("targets", ()))}),
      }
    )
  except (KeyError, TypeError) as error:
    raise InputError(f"{source}: not the config of a model: {error}") from error
