"""Forward pass and train step of one PaliGemma in three libraries, for `benchmarks.peers`.

All compute the same: images as a bidirectional prefix, text behind them causally, in float32 on the
CPU. `forward` gives logits of the text (transformers, called as its documentation says, of every
position); `step` the mean next-token cross entropy of the text and its gradient in all parameters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vsumjax import sharding
from vsumjax.convert import big_vision
from vsumjax.models import exits, gemma, siglip, student
from vsumjax.types import Prompt

# The sizes that the README's figures are of.
SMALL = student.StudentConfig(
  img=siglip.SiglipConfig(
    image_size=224, patch_size=14, width=384, depth=12, mlp_dim=1536, num_heads=6
  ),
  llm=gemma.GemmaConfig(
    vocab_size=4096,
    width=512,
    depth=8,
    mlp_dim=2048,
    num_heads=8,
    num_kv_heads=4,
    head_size=64,
    query_scale=64.0,
    attention_cap=50.0,
    final_cap=30.0,
    post_norms=True,
    sliding_window=4096,
  ),
  exits=exits.ExitsConfig((8,)),
  dtype="float32",
  remat=False,
)


@dataclasses.dataclass(frozen=True)
class Task:
  """Sizes of a measurement: one image and `text_tokens` tokens of text in each row."""

  model: student.StudentConfig = SMALL
  batch: int = 8
  text_tokens: int = 128

  @property
  def image_tokens(self) -> int:
    return self.model.img.num_patches

  @property
  def image_id(self) -> int:
    """Just outside of the vocabulary."""
    return self.model.llm.vocab_size

  def frames(self) -> np.ndarray:
    """Random images, u8[B, h, w, 3]."""
    size = self.model.img.image_size
    shape = (self.batch, size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)

  def text(self) -> np.ndarray:
    """Random tokens, i32[B, text_tokens]."""
    shape = (self.batch, self.text_tokens)
    vocab_size = self.model.llm.vocab_size
    return np.random.default_rng(1).integers(10, vocab_size, shape).astype(np.int32)

  def tokens(self) -> np.ndarray:
    """Image slots and text, i32[B, T]."""
    slots = np.full((self.batch, self.image_tokens), self.image_id, np.int32)
    return np.concatenate([slots, self.text()], axis=1)

  def is_text(self) -> np.ndarray:
    """i32[B, T], 1 at text."""
    return (self.tokens() != self.image_id).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Implementation:
  """forward, step: compute once and wait for the result.

  computes: in words, what each of them does.
  """

  forward: Callable[[], Any]
  step: Callable[[], Any]
  computes: dict[str, str]


def num_cores() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_ours(task: Task) -> Implementation:
  """`VideoSummaryStudent` under `jax.jit`."""
  model, params, prompt = _init_ours(task)

  def text_logits(params: Any, prompt: Prompt) -> jax.Array:
    def apply(module: student.VideoSummaryStudent, prompt: Prompt) -> jax.Array:
      return module.llm.logits(module.hidden(prompt)[:, task.image_tokens :])

    return model.apply({"params": params}, prompt, method=apply)

  remat = "inputs of layers" if task.model.remat else "results of matmuls and of attention"
  return _in_jax(
    lambda params, prompt: (text_logits(params, prompt), prompt.tokens[:, task.image_tokens :]),
    params,
    prompt,
    {
      "forward": "logits of the text positions",
      "step": f"value and gradient; keeps {remat} for the backward pass",
    },
  )


def build_big_vision(task: Task, *, remat: bool) -> Implementation:
  """big_vision's PaliGemma under `jax.jit`, with our parameters."""
  model = big_vision.build_model(task.model, remat=remat)
  _, params, _ = _init_ours(task)
  image = student.normalise(jnp.asarray(task.frames()))
  text = jnp.asarray(task.text())

  def logits_and_text(params: Any, inputs: tuple) -> tuple[jax.Array, jax.Array]:
    image, text = inputs
    logits, _ = model.apply({"params": params}, image, text, jnp.ones_like(text))
    return logits, text

  policy = "remat_policy nothing_saveable, its default" if remat else "nothing computed twice"
  return _in_jax(
    logits_and_text,
    params,
    (image, text),
    {
      "forward": "logits of the text positions, without the final soft cap, as it returns them",
      "step": f"value and gradient; {policy}",
    },
  )


def build_transformers(task: Task) -> Implementation:
  """transformers' PaliGemma as its documentation calls it, one thread a core."""
  torch = importlib.import_module("torch")
  transformers = importlib.import_module("transformers")
  transformers.logging.set_verbosity_error()
  torch.set_num_threads(num_cores())
  torch.manual_seed(0)
  model = transformers.PaliGemmaForConditionalGeneration(_transformers_config(task)).float()
  tokens = torch.from_numpy(task.tokens()).long()
  is_text = torch.from_numpy(task.is_text()).long()
  pixels = torch.from_numpy(task.frames()).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
  inputs = {
    "input_ids": tokens,
    "pixel_values": pixels,
    "attention_mask": torch.ones_like(tokens),
    "token_type_ids": is_text,
  }
  labels = torch.where(is_text == 1, tokens, -100)
  labels[:, task.image_tokens] = -100  # the first token of the text follows no text

  def forward() -> None:
    model.eval()
    with torch.no_grad():
      model(**inputs)

  def step() -> None:
    model.train()
    model.zero_grad(set_to_none=True)
    model(**inputs, labels=labels).loss.backward()

  tower, decoder = (
    config._attn_implementation for config in (model.config.vision_config, model.config.text_config)
  )
  defaults = f"attention {tower} in the tower, {decoder} in the decoder, its defaults"
  computes = {
    "forward": f"model(**inputs) under no_grad, logits of all positions; {defaults}",
    "step": "model(**inputs, labels=labels).loss.backward(), in train mode",
  }
  return Implementation(forward, step, computes)


ROWS: dict[str, Callable[[Task], Implementation]] = {
  "ours": build_ours,
  "transformers": build_transformers,
  "big_vision": lambda task: build_big_vision(task, remat=True),
  "big_vision_no_remat": lambda task: build_big_vision(task, remat=False),
}


def build(name: str, task: Task) -> Implementation:
  """The implementation of a row, on the CPU; ImportError if its library is not there."""
  jax.config.update("jax_platforms", "cpu")
  return ROWS[name](task)


def _init_ours(task: Task) -> tuple[student.VideoSummaryStudent, Any, Prompt]:
  """Our model, its parameters and its input."""
  prompt = Prompt(
    frames=task.frames()[:, None, None],
    tokens=task.tokens(),
    mask_ar=task.is_text(),
    input_mask=np.ones(task.tokens().shape, bool),
  )
  prompt = jax.tree.map(jnp.asarray, prompt)
  model = student.VideoSummaryStudent(task.model, task.image_tokens, task.image_id, ())
  init = jax.jit(lambda: model.init(jax.random.key(0), prompt, method="lm_logits")["params"])
  with _one_device():
    return model, sharding.unbox(init()), prompt


def _one_device() -> contextlib.AbstractContextManager:
  return sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1]))


def _in_jax(
  logits_and_text: Callable, params: Any, inputs: Any, computes: dict[str, str]
) -> Implementation:
  def loss(params: Any, inputs: Any) -> jax.Array:
    logits_BTV, text_BT = logits_and_text(params, inputs)
    logits_BTV, next_BT1 = logits_BTV[:, :-1], text_BT[:, 1:, None]
    logsumexp_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    chosen_BT = jnp.take_along_axis(logits_BTV, next_BT1, axis=-1)[..., 0]
    return (logsumexp_BT - chosen_BT).mean()

  def forward_pass(params: Any, inputs: Any) -> jax.Array:
    return logits_and_text(params, inputs)[0]

  with _one_device():
    forward, step = (
      jax.jit(function).lower(params, inputs).compile()
      for function in (forward_pass, jax.value_and_grad(loss))
    )
  return Implementation(
    forward=lambda: jax.block_until_ready(forward(params, inputs)),
    step=lambda: jax.block_until_ready(step(params, inputs)),
    computes=computes,
  )


def _transformers_config(task: Task) -> Any:
  transformers = importlib.import_module("transformers")
  img, llm = task.model.img, task.model.llm
  return transformers.PaliGemmaConfig(
    vision_config={
      "model_type": "siglip_vision_model",
      "image_size": img.image_size,
      "patch_size": img.patch_size,
      "hidden_size": img.width,
      "intermediate_size": img.mlp_dim,
      "num_hidden_layers": img.depth,
      "num_attention_heads": img.num_heads,
      "projection_dim": llm.width,
      "vision_use_head": False,
    },
    text_config={
      "model_type": "gemma2",
      "vocab_size": llm.vocab_size,
      "hidden_size": llm.width,
      "intermediate_size": llm.mlp_dim,
      "num_hidden_layers": llm.depth,
      "num_attention_heads": llm.num_heads,
      "num_key_value_heads": llm.num_kv_heads,
      "head_dim": llm.head_size,
      "query_pre_attn_scalar": int(llm.query_scale),
      "attn_logit_softcapping": llm.attention_cap,
      "final_logit_softcapping": llm.final_cap,
      "sliding_window": llm.sliding_window,
      "max_position_embeddings": 8192,
    },
    image_token_index=task.image_id,
    projection_dim=llm.width,
    hidden_size=llm.width,
    vocab_size=llm.vocab_size,
  )
