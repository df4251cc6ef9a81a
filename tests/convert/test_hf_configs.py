"""config.json, as published and as `transformers` writes it, and back."""

import dataclasses
import warnings

import pytest
from checkpoint_files import small_config, their_model

from vsumjax.convert import hf_config
from vsumjax.models import families
from vsumjax.types import InputError

# Keys as in the published files: what has its default value is left out.
_PUBLISHED = {
  "paligemma_3b_224": {
    "text_config": {
      "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
      "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
      "vocab_size": 257216, "num_image_tokens": 256, "torch_dtype": "float32",
    },
    "vision_config": {
      "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
      "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
      "vision_use_head": False, "projector_hidden_act": "gelu_fast",
    },
  },
  "paligemma2_10b_448": {
    "text_config": {
      "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336,
      "num_attention_heads": 16, "num_hidden_layers": 42, "num_key_value_heads": 8,
      "vocab_size": 257216, "hidden_activation": "gelu_pytorch_tanh",
    },
    "vision_config": {
      "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
      "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "image_size": 448,
      "vision_use_head": False,
    },
  },
}  # fmt: skip


@pytest.mark.parametrize("name", _PUBLISHED)
def test_published_files(name):
  values = {"model_type": "paligemma", "torch_dtype": "bfloat16"} | _PUBLISHED[name]
  found = hf_config.read_config(values, "config.json")
  known = families.paligemma(name)
  llm = dataclasses.replace(known.llm, vocab_size=257_216)  # filled up to a multiple of 64
  assert found == dataclasses.replace(known, llm=llm)


@pytest.mark.parametrize("name", families.PALIGEMMA)
def test_there_and_back(name):
  config = families.paligemma(name)
  values = hf_config.write_config(config, 257_152, "bfloat16", {})
  assert hf_config.read_config(values, "config.json") == config


@pytest.mark.parametrize("name", families.PALIGEMMA)
def test_transformers_reads_what_we_write(name):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    values = hf_config.write_config(families.paligemma(name), 257_152, "bfloat16", {})
    theirs = transformers.PaliGemmaConfig(**values).to_dict()
  found = hf_config.read_config(theirs | {"dtype": "bfloat16"}, "config.json")
  assert found == families.paligemma(name)


@pytest.mark.parametrize("family", ["gemma", "gemma2"])
def test_a_model_of_transformers(family):
  config = hf_config.read_config(their_model(family).config.to_dict(), "config.json")
  known = small_config(family)
  assert (config.img, config.llm) == (known.img, known.llm)


def test_other_keys_are_kept():
  config = small_config()
  base = {
    "architectures": ["X"],
    "text_config": {"attention_dropout": 0.5},
    "torch_dtype": "float32",
  }
  values = hf_config.write_config(config, 60, "bfloat16", base)
  assert values["architectures"] == ["X"]
  assert values["text_config"]["attention_dropout"] == 0.5
  assert values["dtype"] == "bfloat16"
  assert "torch_dtype" not in values
  assert "vocab_size" not in base


@pytest.mark.parametrize(
  ("family", "change", "named"),
  [
    ("gemma", {"query_scale": 9.0}, "post_norms"),
    ("gemma", {"attention_cap": 50.0}, "post_norms"),
    ("gemma", {"sliding_window": 8}, "post_norms"),
    ("gemma2", {"query_scale": 8.5}, "query_scale: 8.5"),
    ("gemma2", {"width": 30}, "num_heads: 4"),
  ],
)
def test_what_transformers_cannot_build(family, change, named):
  config = small_config(family)
  config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, **change))
  with pytest.raises(InputError, match=named):
    hf_config.write_config(config, 60, "float32", {})


def test_no_caps_and_no_window():
  llm = dataclasses.replace(small_config().llm, attention_cap=0.0, final_cap=0.0, sliding_window=0)
  config = dataclasses.replace(small_config(), llm=llm)
  values = hf_config.write_config(config, 60, "float32", {})
  assert values["text_config"]["sliding_window"] is None
  assert hf_config.read_config(values, "config.json").llm == llm
