"""Tiny PaliGemmas of transformers with random weights, and their tensors in our layout.

The layout is written out here by hand, apart from the table of `vsumjax.convert` that it checks.
"""

import dataclasses

import numpy as np
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from vsumjax import testing
from vsumjax.models import exits, gemma, siglip, student

IMAGE_SIZE, PATCH = 16, 4
NUM_PATCHES = (IMAGE_SIZE // PATCH) ** 2
VOCAB = 64
IMAGE_ID = 63

_GEMMA2 = testing.tiny_config().llm  # grouped queries, caps, post norms, a window of 8 tokens

FAMILIES = {
  "gemma1": dataclasses.replace(
    _GEMMA2, num_kv_heads=1, attention_cap=0.0, final_cap=0.0, post_norms=False, sliding_window=0
  ),
  "gemma2": _GEMMA2,
  "gemma2_wide": dataclasses.replace(_GEMMA2, sliding_window=4096),
  # As in 27B, queries are scaled by width / heads and not by the head size.
  "gemma2_27b": dataclasses.replace(_GEMMA2, head_size=16, query_scale=8.0, num_kv_heads=4),
}


def our_model(llm: gemma.GemmaConfig) -> student.VideoSummaryStudent:
  img = siglip.SiglipConfig(IMAGE_SIZE, PATCH, width=16, depth=2, mlp_dim=32, num_heads=2)
  config = student.StudentConfig(img, llm, exits.ExitsConfig((llm.depth,)), "float32", False)
  return student.VideoSummaryStudent(config, NUM_PATCHES, IMAGE_ID, testing.SCORE_IDS)


def hf_config(llm: gemma.GemmaConfig) -> PaliGemmaConfig:
  text = {
    "model_type": "gemma2" if llm.post_norms else "gemma",
    "vocab_size": VOCAB,
    "hidden_size": llm.width,
    "intermediate_size": llm.mlp_dim,
    "num_hidden_layers": llm.depth,
    "num_attention_heads": llm.num_heads,
    "num_key_value_heads": llm.num_kv_heads,
    "head_dim": llm.head_size,
    "max_position_embeddings": 256,
  }
  if llm.post_norms:
    text |= {
      "query_pre_attn_scalar": int(llm.query_scale),
      "attn_logit_softcapping": llm.attention_cap,
      "final_logit_softcapping": llm.final_cap,
      "sliding_window": llm.sliding_window,
    }
  vision = {
    "model_type": "siglip_vision_model",
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": llm.width,
    "vision_use_head": False,
  }
  return PaliGemmaConfig(
    vision_config=vision,
    text_config=text,
    image_token_index=IMAGE_ID,
    projection_dim=llm.width,
    pad_token_id=0,
    eos_token_id=1,
    bos_token_id=2,
  )


def hf_model(llm: gemma.GemmaConfig, seed: int = 0) -> PaliGemmaForConditionalGeneration:
  """float32 on the CPU; every tensor random, norms and biases too."""
  config = hf_config(llm)
  config._attn_implementation = "eager"
  torch.manual_seed(seed)
  model = PaliGemmaForConditionalGeneration(config).eval().float()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      # A small embedding lets the layers speak: with a large one every token repeats itself. The
      # last norm makes up for it, so that the final cap is felt.
      scale = 0.05 if "embed_tokens" in name else 0.3
      parameter.copy_(torch.randn_like(parameter) * scale)
      if name.endswith("language_model.norm.weight"):
        parameter.add_(8)
  return model


def to_ours(tensors: dict[str, np.ndarray], llm: gemma.GemmaConfig) -> dict:
  """Tensors (weights or gradients) by transformers' names, as our parameter tree."""
  return {"img": _vision(tensors), "llm": _language(tensors, llm)}


def _vision(tensors: dict[str, np.ndarray]) -> dict:
  tower = "model.vision_tower."
  layer = tower + "encoder.layers.{}."

  def stack(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([tensors[layer.format(i) + name].T.reshape(shape) for i in range(2)])

  def dense(name: str, ins: tuple[int, ...], outs: tuple[int, ...]) -> dict:
    return {
      "kernel": stack(f"{name}.weight", ins + outs),
      "bias": stack(f"{name}.bias", outs),
    }

  def norm(name: str) -> dict:
    return {"scale": stack(f"{name}.weight", (16,)), "bias": stack(f"{name}.bias", (16,))}

  heads = (2, 8)
  attention = {
    ours: dense(f"self_attn.{theirs}_proj", (16,), heads)
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"))
  }
  attention["out"] = dense("self_attn.out_proj", heads, (16,))
  projector = "model.multi_modal_projector.linear."
  return {
    "embedding": {
      "kernel": tensors[tower + "embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
      "bias": tensors[tower + "embeddings.patch_embedding.bias"],
    },
    "pos_embedding": tensors[tower + "embeddings.position_embedding.weight"][None],
    "Transformer": {
      "encoderblock": {
        "LayerNorm_0": norm("layer_norm1"),
        "LayerNorm_1": norm("layer_norm2"),
        "MultiHeadDotProductAttention_0": attention,
        "MlpBlock_0": {
          "Dense_0": dense("mlp.fc1", (16,), (32,)),
          "Dense_1": dense("mlp.fc2", (32,), (16,)),
        },
      },
      "encoder_norm": {
        "scale": tensors[tower + "post_layernorm.weight"],
        "bias": tensors[tower + "post_layernorm.bias"],
      },
    },
    "head": {
      "kernel": tensors[projector + "weight"].T,
      "bias": tensors[projector + "bias"],
    },
  }


def _language(tensors: dict[str, np.ndarray], llm: gemma.GemmaConfig) -> dict:
  D, H, K, S = llm.width, llm.num_heads, llm.num_kv_heads, llm.head_size
  prefix = "model.language_model."

  def stack(name: str) -> np.ndarray:
    names = [f"{prefix}layers.{i}.{name}.weight" for i in range(llm.depth)]
    return np.stack([tensors[name].T for name in names])  # [L, in, out]

  def heads(name: str, count: int) -> np.ndarray:
    return stack(name).reshape(-1, D, count, S).swapaxes(1, 2)

  norms = {"pre_attention_norm": "input_layernorm", "pre_ffw_norm": "post_attention_layernorm"}
  if llm.post_norms:
    norms = {
      "pre_attention_norm": "input_layernorm",
      "post_attention_norm": "post_attention_layernorm",
      "pre_ffw_norm": "pre_feedforward_layernorm",
      "post_ffw_norm": "post_feedforward_layernorm",
    }
  keys_values = [heads("self_attn.k_proj", K), heads("self_attn.v_proj", K)]
  return {
    "embedder": {"input_embedding": tensors[prefix + "embed_tokens.weight"]},
    "final_norm": {"scale": tensors[prefix + "norm.weight"]},
    "layers": {
      **{ours: {"scale": stack(theirs)} for ours, theirs in norms.items()},
      "attn": {
        "q_einsum": {"w": heads("self_attn.q_proj", H)},
        "kv_einsum": {"w": np.stack(keys_values, axis=1)},
        "attn_vec_einsum": {"w": stack("self_attn.o_proj").reshape(-1, H, S, D)},
      },
      "mlp": {
        "gating_einsum": np.stack([stack("mlp.gate_proj"), stack("mlp.up_proj")], axis=1),
        "linear": stack("mlp.down_proj"),
      },
    },
  }
