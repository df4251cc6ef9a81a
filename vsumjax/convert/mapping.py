"""The one table of rules between our tensors and those of Hugging Face's PaliGemma.

A rule reads in both directions. Axes have letters: `L` layers, stacked in ours and a tensor each
in theirs (`{i}`); `c` several tensors of theirs, stacked in ours; the others as in `vsumjax.types`,
with `h w` for a patch's pixels and `E` for the projector's output. A comma ends an axis of theirs,
so "HS,D" has heads and head size as one axis; an axis that theirs lacks has size 1.

Source: PaliGemma, Gemma, Gemma 2 and SigLIP of `transformers`, parameter names as published.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from vsumjax.convert import tensors
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import leaf_shapes
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

# Before the name of a tensor, in files as they are found: the decoder, the vision tower and the
# projector; the first of each is how PaliGemma was published.
DECODERS = ("language_model.model.", "model.language_model.", "language_model.")
TOWERS = (
  "vision_tower.vision_model.",
  "model.vision_tower.vision_model.",
  "vision_tower.",
  "model.vision_tower.",
)
PROJECTORS = ("multi_modal_projector.", "model.multi_modal_projector.")
HEADS = ("language_model.lm_head.weight", "lm_head.weight")  # tied with the embedding


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a directory spells its tensors: the prefix of each part, and the tied head if it has it."""

  decoder: str = DECODERS[0]
  tower: str = TOWERS[0]
  projector: str = PROJECTORS[0]
  head: str = ""


@dataclasses.dataclass(frozen=True)
class Rule:
  """ours, with `axes`, is the tensors `theirs`, each with the axes `to`.

  Example: Rule("llm/layers/attn/q_einsum/w", "LHDS", "HS,D",
  ("{decoder}layers.{i}.self_attn.q_proj.weight",)): [L, H, D, S] is L tensors [H·S, D].
  """

  ours: str
  axes: str
  to: str
  theirs: tuple[str, ...]

  def names(self, layout: Layout, depth: int) -> np.ndarray:
    """Names of their tensors, an array of strings over our axes L and c: [], [L], or [L, c]."""
    layers = range(depth) if self.axes[0] == "L" else (0,)
    prefixes = dataclasses.asdict(layout)
    rows = [[name.format(i=i, **prefixes) for name in self.theirs] for i in layers]
    return np.array(rows, object).reshape([len(rows)][: self.axes[0] == "L"] + self._pieces)

  @property
  def lead(self) -> int:
    """How many of our leading axes lie in different tensors of theirs."""
    return (self.axes[0] == "L") + len(self._pieces)

  @property
  def _pieces(self) -> list[int]:
    return [len(self.theirs)] if "c" in self.axes[:2] and len(self.theirs) > 1 else []


def _llm(ours: str, axes: str, to: str, *theirs: str) -> Rule:
  return Rule("llm/" + ours, axes, to, tuple("{decoder}" + name for name in theirs))


def _img(ours: str, axes: str, to: str, theirs: str) -> Rule:
  return Rule("img/" + ours, axes, to, ("{tower}" + theirs,))


def _norm(ours: str, theirs: str) -> Rule:
  return _llm(f"layers/{ours}/scale", "LD", "D", "layers.{i}." + theirs + ".weight")


_DECODER = (
  _llm("embedder/input_embedding", "VD", "V,D", "embed_tokens.weight"),
  _llm("final_norm/scale", "D", "D", "norm.weight"),
  _llm("layers/attn/q_einsum/w", "LHDS", "HS,D", "layers.{i}.self_attn.q_proj.weight"),
  _llm(
    "layers/attn/kv_einsum/w", "LcKDS", "KS,D",
    "layers.{i}.self_attn.k_proj.weight", "layers.{i}.self_attn.v_proj.weight",
  ),
  _llm("layers/attn/attn_vec_einsum/w", "LHSD", "D,HS", "layers.{i}.self_attn.o_proj.weight"),
  _llm(
    "layers/mlp/gating_einsum", "LcDM", "M,D",
    "layers.{i}.mlp.gate_proj.weight", "layers.{i}.mlp.up_proj.weight",
  ),
  _llm("layers/mlp/linear", "LMD", "D,M", "layers.{i}.mlp.down_proj.weight"),
  _norm("pre_attention_norm", "input_layernorm"),
)  # fmt: skip

# The same name stands for another norm in the two families.
_GEMMA1_NORMS = (_norm("pre_ffw_norm", "post_attention_layernorm"),)
_GEMMA2_NORMS = (
  _norm("post_attention_norm", "post_attention_layernorm"),
  _norm("pre_ffw_norm", "pre_feedforward_layernorm"),
  _norm("post_ffw_norm", "post_feedforward_layernorm"),
)

_BLOCK = "Transformer/encoderblock/"
_HEADS = _BLOCK + "MultiHeadDotProductAttention_0/"
_LAYER = "encoder.layers.{i}."
_TOWER = (
  _img("embedding/kernel", "hwcD", "D,c,h,w", "embeddings.patch_embedding.weight"),
  _img("embedding/bias", "D", "D", "embeddings.patch_embedding.bias"),
  _img("pos_embedding", "oPD", "P,D", "embeddings.position_embedding.weight"),
  *(
    _img(f"{_BLOCK}LayerNorm_{n}/{ours}", "LD", "D", f"{_LAYER}layer_norm{n + 1}.{theirs}")
    for n in (0, 1)
    for ours, theirs in (("scale", "weight"), ("bias", "bias"))
  ),
  *(
    rule
    for name, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    for rule in (
      _img(f"{_HEADS}{name}/kernel", "LDHS", "HS,D", f"{_LAYER}self_attn.{theirs}.weight"),
      _img(f"{_HEADS}{name}/bias", "LHS", "HS", f"{_LAYER}self_attn.{theirs}.bias"),
    )
  ),
  _img(f"{_HEADS}out/kernel", "LHSD", "D,HS", _LAYER + "self_attn.out_proj.weight"),
  _img(f"{_HEADS}out/bias", "LD", "D", _LAYER + "self_attn.out_proj.bias"),
  _img(f"{_BLOCK}MlpBlock_0/Dense_0/kernel", "LDM", "M,D", _LAYER + "mlp.fc1.weight"),
  _img(f"{_BLOCK}MlpBlock_0/Dense_0/bias", "LM", "M", _LAYER + "mlp.fc1.bias"),
  _img(f"{_BLOCK}MlpBlock_0/Dense_1/kernel", "LMD", "D,M", _LAYER + "mlp.fc2.weight"),
  _img(f"{_BLOCK}MlpBlock_0/Dense_1/bias", "LD", "D", _LAYER + "mlp.fc2.bias"),
  _img("Transformer/encoder_norm/scale", "D", "D", "post_layernorm.weight"),
  _img("Transformer/encoder_norm/bias", "D", "D", "post_layernorm.bias"),
  Rule("img/head/kernel", "DE", "E,D", ("{projector}linear.weight",)),
  Rule("img/head/bias", "E", "E", ("{projector}linear.bias",)),
)


def rules(config: StudentConfig) -> tuple[Rule, ...]:
  """The rules of an architecture; together they name every tensor of both sides once."""
  return _DECODER + (_GEMMA2_NORMS if config.llm.post_norms else _GEMMA1_NORMS) + _TOWER


def from_theirs(
  theirs: Mapping[str, LazyTensor], config: StudentConfig, layout: Layout, source: str
) -> dict[str, LazyTensor]:
  """Our tensors, made of theirs.

  Raises:
    InputError: tensors are missing, left over, or of another shape: all of them, by name.
  """
  wanted = _their_shapes(config, layout)
  _account(theirs, wanted, source)
  shapes = _our_shapes(config)
  found = {}
  for rule in rules(config):
    shape = shapes[rule.ours]
    inner = shape[rule.lead :]
    to_ours = functools.partial(_to_ours, rule=rule, shape=inner)
    found[rule.ours] = _assemble(rule, rule.names(layout, shape[0]), theirs, to_ours, inner)
  return found


def to_theirs(
  ours: Mapping[str, LazyTensor], config: StudentConfig, layout: Layout
) -> dict[str, LazyTensor]:
  """Their tensors by name, made of ours (those of `weights.check`, without the exits)."""
  found = {}
  for rule in rules(config):
    tensor = ours[rule.ours]
    for index, name in np.ndenumerate(rule.names(layout, tensor.shape[0])):
      piece = tensors.part(tensor, name, *index) if index else _named(tensor, name)
      if _is_identity(rule):
        found[name] = piece
        continue
      function = functools.partial(_to_theirs, rule=rule)
      found[name] = tensors.mapped(piece, function, _their_shape(rule, piece.shape))
  if layout.head:
    found[layout.head] = _named(ours["llm/embedder/input_embedding"], layout.head)
  return found


def find_layout(names: Mapping[str, LazyTensor], source: str) -> Layout:
  """How the tensors of a directory are spelled.

  Raises:
    InputError: if the decoder, the vision tower or the projector cannot be found by its name.
  """

  def find(prefixes: tuple[str, ...], name: str) -> str:
    for prefix in prefixes:
      if prefix + name in names:
        return prefix
    tried = ", ".join(prefix + name for prefix in prefixes)
    raise InputError(f"{source}: no PaliGemma: it has none of {tried}")

  return Layout(
    find(DECODERS, "embed_tokens.weight"),
    find(TOWERS, "embeddings.patch_embedding.weight"),
    find(PROJECTORS, "linear.weight"),
    next((name for name in HEADS if name in names), ""),
  )


def _account(
  theirs: Mapping[str, LazyTensor], wanted: Mapping[str, tuple[int, ...]], source: str
) -> None:
  if missing := sorted(wanted.keys() - theirs.keys()):
    lines = ", ".join(f"{name} {list(wanted[name])}" for name in missing)
    raise InputError(f"{source}: tensors missing: {lines}")
  if unknown := sorted(theirs.keys() - wanted.keys()):
    lines = ", ".join(theirs[name].describe() for name in unknown)
    raise InputError(f"{source}: tensors that the model has not: {lines}")
  for name, shape in wanted.items():
    if theirs[name].shape != shape:
      raise InputError(f"{theirs[name].describe()}: the model of config.json has {list(shape)}")


def _our_shapes(config: StudentConfig) -> dict[str, tuple[int, ...]]:
  """Shapes of PaliGemma's own tensors."""
  tower = dataclasses.replace(config, exits=ExitsConfig((config.llm.depth,)))
  return leaf_shapes(tower, 1)


def _their_shapes(config: StudentConfig, layout: Layout) -> dict[str, tuple[int, ...]]:
  shapes = _our_shapes(config)
  found = {}
  for rule in rules(config):
    shape = shapes[rule.ours]
    for name in rule.names(layout, shape[0]).ravel():
      found[name] = _their_shape(rule, shape[rule.lead :])
  if layout.head:
    found[layout.head] = shapes["llm/embedder/input_embedding"]
  return found


def _assemble(rule, names, theirs, to_ours, inner) -> LazyTensor:
  """Tensors of theirs, each turned to ours, on our leading axes."""
  if names.ndim:
    pieces = [_assemble(rule, row, theirs, to_ours, inner) for row in map(np.asarray, names)]
    return tensors.stacked(rule.ours, pieces)
  tensor = theirs[names.item()]
  return tensor if _is_identity(rule) else tensors.mapped(tensor, to_ours, inner)


def _named(tensor: LazyTensor, name: str) -> LazyTensor:
  return dataclasses.replace(tensor, name=name)


def _inner_axes(rule: Rule) -> str:
  return rule.axes[rule.lead :]


def _is_identity(rule: Rule) -> bool:
  return rule.to.replace(",", "") == _inner_axes(rule) and len(_inner_axes(rule)) == len(
    rule.to.split(",")
  )


def _their_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
  sizes = dict(zip(_inner_axes(rule), shape, strict=True))
  return tuple(math.prod(sizes[letter] for letter in axis) for axis in rule.to.split(","))


def _to_theirs(array: np.ndarray, rule: Rule) -> np.ndarray:
  axes, order = _inner_axes(rule), rule.to.replace(",", "")
  dropped = tuple(i for i, letter in enumerate(axes) if letter not in order)
  left = [letter for letter in axes if letter in order]
  array = array.squeeze(dropped).transpose([left.index(letter) for letter in order])
  sizes = dict(zip(order, array.shape, strict=True))
  return array.reshape([math.prod(sizes[x] for x in axis) for axis in rule.to.split(",")])


def _to_ours(array: np.ndarray, rule: Rule, shape: tuple[int, ...]) -> np.ndarray:
  axes, order = _inner_axes(rule), rule.to.replace(",", "")
  sizes = dict(zip(axes, shape, strict=True))
  left = [letter for letter in axes if letter in order]
  array = array.reshape([sizes[letter] for letter in order])
  return array.transpose([order.index(letter) for letter in left]).reshape(shape)
