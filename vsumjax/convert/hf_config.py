"""config.json of a Hugging Face directory <-> `StudentConfig`, both ways.

Only what changes what the model computes is read. Defaults are those of `transformers`, because
the published files leave out keys that have their default value. What our model cannot do is
refused by the key's name.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from vsumjax.models.exits import ExitsConfig
from vsumjax.models.gemma import GemmaConfig
from vsumjax.models.siglip import SiglipConfig
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

Json = dict[str, Any]

_TANH_GELU = "gelu_pytorch_tanh"
_SLIDING, _FULL = "sliding_attention", "full_attention"
_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class _Group:
  """A group of keys of config.json, with messages that name them."""

  values: Mapping[str, Any]
  source: str
  prefix: str = ""

  def get(self, key: str, default: Any = None) -> Any:
    """The value of a key; the default where it is absent or null."""
    value = self.values.get(key)
    return default if value is None else value

  def group(self, key: str) -> _Group:
    return _Group(self._typed(key, self.values.get(key), dict), self.source, f"{key}.")

  def number(self, key: str, default: float | None = None, kind: type = int) -> Any:
    """An int, or with kind=float any number."""
    value = self._typed(key, self.get(key, default), (int, float) if kind is float else int)
    return kind(value)

  def must_be(self, key: str, *allowed: Any) -> None:
    """Raises unless the key is absent, null, or one of `allowed`."""
    value = self.get(key, allowed[0])
    if value not in allowed:
      known = " or ".join(map(repr, allowed))
      raise self.error(key, f"{value!r}, and the model can only be built with {known}")

  def error(self, key: str, what: str) -> InputError:
    return InputError(f"{self.source}: {self.prefix}{key}: {what}")

  def _typed(self, key: str, value: Any, kind: Any) -> Any:
    if value is None:
      raise self.error(key, "missing")
    if not isinstance(value, kind) or isinstance(value, bool):
      raise self.error(key, f"a value of another kind: {value!r}")
    return value


def read_config(values: Mapping[str, Any], source: str) -> StudentConfig:
  """The architecture that a PaliGemma's config.json describes, with no early exits.

  Args:
    values: parsed config.json.
    source: the file, for messages.

  Raises:
    InputError: naming file and key, if a key is missing or asks for what our model has not.
  """
  top = _Group(values, source)
  if top.get("model_type") != "paligemma":
    raise top.error("model_type", f"{top.get('model_type')!r} is not 'paligemma'")
  top.must_be("tie_word_embeddings", True)
  llm = _read_text(top.group("text_config"))
  dtype = top.get("dtype") or top.get("torch_dtype")
  return StudentConfig(
    img=_read_vision(top.group("vision_config")),
    llm=llm,
    exits=ExitsConfig((llm.depth,)),
    dtype=dtype if dtype in _DTYPES else "bfloat16",
    remat=True,
  )


def _read_text(text: _Group) -> GemmaConfig:
  family = text.get("model_type", "gemma")
  if family not in ("gemma", "gemma2"):
    raise text.error("model_type", f"{family!r} is neither 'gemma' nor 'gemma2'")
  # "gelu" of the first releases of Gemma 1 means the tanh approximation, too.
  text.must_be("hidden_activation", _TANH_GELU)
  text.must_be("hidden_act", _TANH_GELU, "gelu")
  text.must_be("rms_norm_eps", 1e-6)
  text.must_be("attention_bias", False)
  text.must_be("tie_word_embeddings", True)
  text.must_be("use_bidirectional_attention", True)
  _check_rope(text)
  shape = {
    "vocab_size": text.number("vocab_size"),
    "width": text.number("hidden_size"),
    "depth": text.number("num_hidden_layers"),
    "mlp_dim": text.number("intermediate_size"),
    "num_heads": text.number("num_attention_heads"),
    "num_kv_heads": text.number("num_key_value_heads"),
    "head_size": text.number("head_dim", 256),
  }
  if family == "gemma":
    return GemmaConfig(
      **shape,
      query_scale=float(shape["head_size"]),
      attention_cap=0.0,
      final_cap=0.0,
      post_norms=False,
      sliding_window=0,
    )
  return GemmaConfig(
    **shape,
    query_scale=text.number("query_pre_attn_scalar", 256, float),
    attention_cap=_read_cap(text, "attn_logit_softcapping", 50.0),
    final_cap=_read_cap(text, "final_logit_softcapping", 30.0),
    post_norms=True,
    sliding_window=_read_window(text, shape["depth"]),
  )


def _read_cap(text: _Group, key: str, default: float) -> float:
  """A soft cap; null, unlike an absent key, says that there is none."""
  if key in text.values and text.values[key] is None:
    return 0.0
  return text.number(key, default, float)


def _check_rope(text: _Group) -> None:
  text.must_be("rope_theta", 10_000.0)
  text.must_be("rope_scaling", None)
  rope = text.get("rope_parameters", {})
  if rope.get("rope_theta", 10_000.0) != 10_000.0 or rope.get("rope_type", "default") != "default":
    raise text.error("rope_parameters", f"{rope}, and the model has plain ones of theta 10000")


def _read_window(text: _Group, depth: int) -> int:
  if "sliding_window" in text.values and text.values["sliding_window"] is None:
    return 0
  alternating = [(_SLIDING, _FULL)[i % 2] for i in range(depth)]
  kinds = text.get("layer_types", alternating)
  if kinds == [_FULL] * depth:
    return 0
  if kinds != alternating:
    raise text.error("layer_types", f"every second layer must slide, the first too, not {kinds}")
  return text.number("sliding_window", 4096)


def _read_vision(vision: _Group) -> SiglipConfig:
  vision.must_be("model_type", "siglip_vision_model")
  vision.must_be("hidden_act", _TANH_GELU)
  vision.must_be("layer_norm_eps", 1e-6)
  vision.must_be("num_channels", 3)
  vision.must_be("vision_use_head", False)
  return SiglipConfig(
    image_size=vision.number("image_size", 224),
    patch_size=vision.number("patch_size", 16),
    width=vision.number("hidden_size"),
    depth=vision.number("num_hidden_layers"),
    mlp_dim=vision.number("intermediate_size"),
    num_heads=vision.number("num_attention_heads"),
  )


def write_config(
  config: StudentConfig, image_token_id: int, dtype: str, base: Mapping[str, Any]
) -> Json:
  """config.json of an architecture.

  Args:
    config: the architecture.
    image_token_id: id of an image slot.
    dtype: of the weights, as "bfloat16".
    base: the config.json that the weights came with, whose other keys are kept, or {}.

  Raises:
    InputError: if Hugging Face's model cannot be built like this, naming the field.
  """
  _check_representable(config)
  values = copy.deepcopy(dict(base)) or {"architectures": ["PaliGemmaForConditionalGeneration"]}
  values |= {
    "model_type": "paligemma",
    "image_token_index": image_token_id,
    "hidden_size": config.llm.width,
    "projection_dim": config.llm.width,
    "vocab_size": config.llm.vocab_size,
    "tie_word_embeddings": True,
    "text_config": values.get("text_config", {}) | _text_config(config),
    "vision_config": values.get("vision_config", {}) | _vision_config(config),
  }
  values.pop("torch_dtype", None)  # the key's name before `transformers` 5
  return values | {"dtype": dtype}


def _text_config(config: StudentConfig) -> Json:
  c = config.llm
  values = {
    "model_type": "gemma2" if c.post_norms else "gemma",
    "vocab_size": c.vocab_size,
    "hidden_size": c.width,
    "intermediate_size": c.mlp_dim,
    "num_hidden_layers": c.depth,
    "num_attention_heads": c.num_heads,
    "num_key_value_heads": c.num_kv_heads,
    "head_dim": c.head_size,
    "num_image_tokens": config.img.num_patches,
    "hidden_act": _TANH_GELU,
    "hidden_activation": _TANH_GELU,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
  }
  if not c.post_norms:
    return values
  kinds = (_SLIDING, _FULL) if c.sliding_window else (_FULL, _FULL)
  return values | {
    "query_pre_attn_scalar": int(c.query_scale),
    "attn_logit_softcapping": c.attention_cap or None,
    "final_logit_softcapping": c.final_cap or None,
    "sliding_window": c.sliding_window or None,
    "layer_types": [kinds[i % 2] for i in range(c.depth)],
  }


def _vision_config(config: StudentConfig) -> Json:
  c = config.img
  return {
    "model_type": "siglip_vision_model",
    "image_size": c.image_size,
    "patch_size": c.patch_size,
    "hidden_size": c.width,
    "num_hidden_layers": c.depth,
    "intermediate_size": c.mlp_dim,
    "num_attention_heads": c.num_heads,
    "num_image_tokens": c.num_patches,
    "projection_dim": config.llm.width,
    "hidden_act": _TANH_GELU,
    "layer_norm_eps": 1e-6,
    "vision_use_head": False,
  }


def _check_representable(config: StudentConfig) -> None:
  """Raises unless `transformers` has a model that computes the same."""
  c = config.llm
  plain = c.query_scale == c.head_size and not (c.attention_cap or c.final_cap or c.sliding_window)
  if not c.post_norms and not plain:
    raise InputError(
      "model.llm: soft caps, a sliding window or a query scale other than the head size go with "
      "post_norms (Gemma 2) in Hugging Face"
    )
  if c.query_scale != int(c.query_scale):
    raise InputError(f"model.llm.query_scale: {c.query_scale} is a whole number in Hugging Face")
  if c.post_norms and c.width % c.num_heads:
    raise InputError(
      f"model.llm.num_heads: {c.num_heads} must divide width, {c.width}, in Hugging Face's Gemma 2"
    )
