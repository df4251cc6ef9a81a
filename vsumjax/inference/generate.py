"""Captions and answers: greedy and nucleus decoding with a KV cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from vsumjax import sharding
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.types import InputError, Prompt


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
  """How an answer is decoded.

  max_new_tokens: at most so many, the end-of-text token included.
  temperature: logits are divided by it before a token is drawn; 0 takes the likeliest token.
  top_p: tokens are drawn from the smallest set of likeliest ones that holds this much probability
    (nucleus sampling, 1904.09751); 1 draws from all.
  """

  max_new_tokens: int
  temperature: float = 0.0
  top_p: float = 1.0

  def __post_init__(self) -> None:
    if self.max_new_tokens < 1:
      raise InputError(f"generate.max_new_tokens: {self.max_new_tokens} is less than 1")
    if self.temperature < 0:
      raise InputError(f"generate.temperature: {self.temperature} is negative")
    if not 0 < self.top_p <= 1:
      raise InputError(f"generate.top_p: {self.top_p} is not in (0, 1]")


@struct.dataclass
class Generated:
  """Answers of a batch.

  tokens: i32[B, J], `pad_id` behind the end; J is max_new_tokens.
  length: i32[B], tokens up to and including the end-of-text token.
  log_prob: f32[B], the model's log probability of the answer (before temperature and nucleus).
  """

  tokens: Array
  length: Array
  log_prob: Array


@struct.dataclass
class _Loop:
  """What a decoding step hands to the next. token_B is chosen and not yet fed to the model."""

  step: Array
  token_B: Array
  is_done_B: Array
  answer: Generated
  cache: Any


class Generator:
  """Decodes batches of one shape with one compiled program: prefill, then a loop of decode steps.

  Rows may hold prompts of different lengths: padding, on any side, is never seen. The loop ends
  early when every row has ended.
  """

  def __init__(
    self,
    model: VideoSummaryStudent,
    params: Any,
    mesh: Mesh,
    rules: sharding.LogicalRules,
    config: GenerateConfig,
    *,
    eos_id: int,
    pad_id: int,
  ) -> None:
    self._model, self._params, self._mesh, self._rules = model, params, mesh, rules
    self._config, self._eos_id, self._pad_id = config, eos_id, pad_id
    self.generate = jax.jit(self._run)

  def __call__(self, prompt: Prompt, seed: int = 0) -> Generated:
    """Answers of a global batch. A row's draws depend on the seed and on its place in the batch."""
    with sharding.use_mesh(self._mesh, self._rules):
      return self.generate(self._params, prompt, jax.random.key(seed))

  def _run(self, params: Any, prompt: Prompt, key: jax.Array) -> Generated:
    B, T = prompt.tokens.shape
    J = self._config.max_new_tokens
    # The last token is chosen and never fed back, so it needs no slot.
    logits_BV, cache = self._apply(params, "prefill", prompt, T + J - 1)
    start = _Loop(
      step=jnp.zeros((), jnp.int32),
      token_B=jnp.zeros(B, jnp.int32),
      is_done_B=jnp.zeros(B, bool),
      answer=Generated(
        tokens=jnp.full((B, J), self._pad_id, jnp.int32),
        length=jnp.zeros(B, jnp.int32),
        log_prob=jnp.zeros(B, jnp.float32),
      ),
      cache=cache,
    )

    def body(loop: _Loop) -> _Loop:
      logits_BV, cache = self._apply(params, "decode", loop.token_B, loop.cache, T + loop.step - 1)
      return self._choose(loop.replace(cache=cache), logits_BV, key)

    loop = jax.lax.while_loop(
      lambda loop: (loop.step < J) & ~loop.is_done_B.all(),
      body,
      self._choose(start, logits_BV, key),
    )
    return jax.tree.map(lambda x_B: sharding.constrain(x_B, "batch"), loop.answer)

  def _apply(self, params: Any, method: str, *args: Any) -> tuple[jax.Array, Any]:
    return self._model.apply({"params": params}, *args, method=method)

  def _choose(self, loop: _Loop, logits_BV: jax.Array, key: jax.Array) -> _Loop:
    """Writes the next token of each row that has not ended."""
    chosen_B = choose(logits_BV, jax.random.fold_in(key, loop.step), self._config)
    log_prob_B = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), chosen_B[:, None], axis=1)[:, 0]
    token_B = jnp.where(loop.is_done_B, self._pad_id, chosen_B)
    answer = loop.answer
    return loop.replace(
      step=loop.step + 1,
      token_B=token_B,
      is_done_B=loop.is_done_B | (token_B == self._eos_id),
      answer=Generated(
        tokens=jax.lax.dynamic_update_slice(answer.tokens, token_B[:, None], (0, loop.step)),
        length=answer.length + ~loop.is_done_B,
        log_prob=answer.log_prob + jnp.where(loop.is_done_B, 0.0, log_prob_B),
      ),
    )


def choose(
  logits_BV: Float[Array, "B V"], key: jax.Array, config: GenerateConfig
) -> Int[Array, "B"]:
  """The next token of each row: the likeliest, or one drawn from the nucleus."""
  if config.temperature == 0:
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
  scaled_BV = logits_BV / config.temperature
  if config.top_p < 1:
    scaled_BV = jnp.where(nucleus(scaled_BV, config.top_p), scaled_BV, -jnp.inf)
  keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(logits_BV.shape[0]))
  return jax.vmap(jax.random.categorical)(keys_B, scaled_BV).astype(jnp.int32)


def nucleus(logits_BV: Float[Array, "B V"], top_p: float) -> Bool[Array, "B V"]:
  """The smallest set of likeliest tokens with a probability of at least top_p in all.

  Example, top_p 0.7: probabilities [0.5, 0.1, 0.3, 0.1] -> [True, False, True, False].
  """
  probs_BV = jax.nn.softmax(logits_BV)
  order_BV = jnp.argsort(-probs_BV, axis=-1)
  sorted_BV = jnp.take_along_axis(probs_BV, order_BV, axis=-1)
  # A token stays if those before it do not suffice, so the likeliest always stays.
  stays_BV = jnp.cumsum(sorted_BV, axis=-1) - sorted_BV < top_p
  return jnp.take_along_axis(stays_BV, jnp.argsort(order_BV, axis=-1), axis=-1)
