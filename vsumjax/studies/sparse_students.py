"""Language models of a made-up language, and the losses by which a study teaches them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.models import gemma
from vsumjax.ops import vocab_losses
from vsumjax.ops.losses import Pair, weighted
from vsumjax.ops.vocab_head import logits_and_logsumexp
from vsumjax.types import TokenTargets

CAP = 30.0  # of Gemma 2's logits


class Model(NamedTuple):
  """A language model: the module and its parameters."""

  module: gemma.Gemma
  params: Any


@dataclasses.dataclass(frozen=True)
class Size:
  """Of a decoder."""

  width: int
  depth: int
  mlp_dim: int


class Lesson(NamedTuple):
  """A batch of texts, and what is known of the distribution of each of their Y tokens.

  text: i32[B, 1 + Y]. hidden: f32[B, Y, W], the teacher's. Without a teacher there is only `text`.
  """

  text: Any
  hidden: Any = None
  sampled: TokenTargets | None = None
  topk: TokenTargets | None = None


def build_model(size: Size, vocab_size: int, seed: int, mesh: Mesh) -> Model:
  """Gemma 2 without its sliding window, with random parameters, on every device of the mesh."""
  config = gemma.GemmaConfig(
    vocab_size=vocab_size, width=size.width, depth=size.depth, mlp_dim=size.mlp_dim, num_heads=4,
    num_kv_heads=2, head_size=size.width // 4, query_scale=size.width / 4, attention_cap=50.0,
    final_cap=CAP, post_norms=True, sliding_window=0,
  )  # fmt: skip
  module = gemma.Gemma(config, jnp.float32, remat=False)
  params = _init(module, jax.random.key(seed))
  return Model(module, jax.device_put(params, NamedSharding(mesh, PartitionSpec())))


@functools.partial(jax.jit, static_argnums=0)
def _init(module: gemma.Gemma, key: jax.Array) -> Any:
  variables = module.init(key, jnp.zeros((1, 2), jnp.int32), method=_read)
  return sharding.unbox(variables)["params"]


@functools.partial(jax.jit, static_argnums=0)
def read(module: gemma.Gemma, params: Any, text: jax.Array) -> jax.Array:
  """f32[B, Y, D], what the LM head reads where it predicts `text[:, 1:]`."""
  return module.apply({"params": params}, text[:, :-1], method=_read)


@functools.partial(jax.jit, static_argnums=0)
def logits(module: gemma.Gemma, params: Any, text: jax.Array) -> jax.Array:
  """f32[B, Y, V] of `text[:, 1:]`, whole: what a teacher's records are made of."""
  return module.apply({"params": params}, text[:, :-1], method=_logits)


def embedding_of(params: Any) -> jax.Array:
  """f32[V, D], tied with the LM head."""
  return params["embedder"]["input_embedding"]


def _read(module: gemma.Gemma, token_BT: jax.Array) -> jax.Array:
  return module.final_norm(_residual(module, token_BT))


def _logits(module: gemma.Gemma, token_BT: jax.Array) -> jax.Array:
  return module.logits(_residual(module, token_BT))


def _residual(module: gemma.Gemma, token_BT: jax.Array) -> jax.Array:
  is_token_BT, nowhere_BN = jnp.ones(token_BT.shape, bool), jnp.zeros_like(token_BT[:, :1])
  x_BTD, _ = module.read(module.embed(token_BT), is_token_BT, jnp.ones_like(token_BT), nowhere_BN)
  return x_BTD


def _full(hidden: jax.Array, embedding: jax.Array, lesson: Lesson) -> Pair:
  return vocab_losses.full_kl_loss(
    hidden, embedding, lesson.hidden, embedding, _ones(hidden), cap=CAP, teacher_cap=CAP,
    temperature=1.0,
  )  # fmt: skip


def _sampled(hidden: jax.Array, embedding: jax.Array, lesson: Lesson) -> Pair:
  options = {"cap": CAP, "temperature": 1.0}
  return vocab_losses.sampled_kl_loss(hidden, embedding, lesson.sampled, _ones(hidden), **options)


def _topk(hidden: jax.Array, embedding: jax.Array, lesson: Lesson) -> Pair:
  options = {"cap": CAP, "temperature": 1.0}
  return vocab_losses.topk_kl_loss(hidden, embedding, lesson.topk, _ones(hidden), **options)


def _renormalised(hidden: jax.Array, embedding: jax.Array, lesson: Lesson) -> Pair:
  """What is common, for comparison: the teacher's likeliest tokens as if there were no others."""
  at, logsumexp = logits_and_logsumexp(hidden, embedding, lesson.topk.ids, cap=CAP)
  logp = jax.nn.log_softmax(lesson.topk.values)
  kl = jnp.sum(jnp.exp(logp) * (logp - at + logsumexp[..., None]), axis=-1)
  return weighted(kl, _ones(hidden))


def _data(hidden: jax.Array, embedding: jax.Array, lesson: Lesson) -> Pair:
  targets = lesson.text[:, 1:]
  return vocab_losses.token_cross_entropy_loss(hidden, embedding, targets, _ones(hidden), cap=CAP)


def _ones(hidden: jax.Array) -> jax.Array:
  return jnp.ones(hidden.shape[:-1])


# By name: (hidden states, the embedding of teacher and student, lesson) -> (sum, weight).
LOSSES: dict[str, Callable[[jax.Array, jax.Array, Lesson], Pair]] = {
  "full": _full,
  "sampled": _sampled,
  "topk": _topk,
  "renormalised": _renormalised,
  "data": _data,
}


def train(
  model: Model,
  loss: str,
  lessons: Iterable[Lesson],
  tx: optax.GradientTransformation,
  watch: Callable[[int, Any], None],
  frozen: Sequence[str] = (),
) -> Any:
  """A step for each lesson; returns the parameters.

  watch(steps done, parameters) is called before each and at the end.
  frozen: names of groups of parameters that stay as they are.
  """
  fixed = {name: model.params[name] for name in frozen}
  params = {name: group for name, group in model.params.items() if name not in fixed}
  # Placed as the parameters are, so that the second step is not compiled anew.
  opt_state = jax.device_put(tx.init(params), embedding_of(model.params).sharding)
  done = 0
  for done, lesson in enumerate(lessons, start=1):
    watch(done - 1, params | fixed)
    params, opt_state = _step(model.module, loss, tx, params, fixed, opt_state, lesson)
  watch(done, params | fixed)
  return params | fixed


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
  module: gemma.Gemma,
  loss: str,
  tx: optax.GradientTransformation,
  params: Any,
  fixed: Any,
  opt_state: Any,
  lesson: Lesson,
) -> tuple[Any, Any]:
  def mean_loss(params: Any) -> jax.Array:
    hidden = read(module, params | fixed, lesson.text)
    total, weight = LOSSES[loss](hidden, embedding_of(params | fixed), lesson)
    return total / weight

  updates, opt_state = tx.update(jax.grad(mean_loss)(params), opt_state, params)
  return optax.apply_updates(params, updates), opt_state


@functools.partial(jax.jit, static_argnums=0)
def kl_to_teacher(module: gemma.Gemma, params: Any, lesson: Lesson) -> Pair:
  """Sum over the tokens of a batch of KL(teacher ‖ student), exact, and their number."""
  return _full(read(module, params, lesson.text), embedding_of(params), lesson)
