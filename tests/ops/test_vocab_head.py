"""The LM head in chunks: what it holds, and on which devices."""

import functools
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.ops import vocab_head, vocab_losses
from vsumjax.types import TokenTargets

B, Y, V, D, J = 4, 64, 1024, 8, 3
CHUNK = 128
OPTIONS = {"cap": 30.0, "chunk": CHUNK}
NUM_LOGITS = B * Y * V


def _arrays():
  """hidden, embedding, ids, entries' ids and values, weight."""
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=(B, Y, D)).astype(np.float32)
  embedding = rng.normal(size=(V, D)).astype(np.float32)
  ids = np.argsort(rng.random((B, Y, V)), axis=-1)[..., :J].astype(np.int32)
  values = np.log(rng.dirichlet(np.ones(J + 1), (B, Y))[..., :J]).astype(np.float32)
  weight = np.ones((B, Y), np.float32)
  return tuple(map(jnp.asarray, (hidden, embedding, ids, values, weight)))


def _ce(hidden, embedding, ids, values, weight):
  return vocab_losses.token_cross_entropy_loss(hidden, embedding, ids[..., 0], weight, **OPTIONS)[0]


def _topk(hidden, embedding, ids, values, weight):
  targets = TokenTargets(ids, values, None, weight)
  return vocab_losses.topk_kl_loss(hidden, embedding, targets, weight, temperature=2.0, **OPTIONS)[
    0
  ]


def _sampled(hidden, embedding, ids, values, weight):
  targets = TokenTargets(ids, values, None, weight)
  return vocab_losses.sampled_kl_loss(
    hidden, embedding, targets, weight, temperature=2.0, **OPTIONS
  )[0]


def _full(hidden, embedding, ids, values, weight):
  return vocab_losses.full_kl_loss(
    hidden, embedding, 2 * hidden, embedding, weight, teacher_cap=30.0, temperature=2.0, **OPTIONS
  )[0]


def _dense(hidden, embedding, ids, values, weight):
  logq = jax.nn.log_softmax(jnp.einsum("BYD,VD->BYV", hidden, embedding))
  return -jnp.sum(weight * jnp.take_along_axis(logq, ids[..., :1], axis=-1)[..., 0])


LOSSES = [_ce, _topk, _sampled, _full]


def _largest(jaxpr):
  """Elements of the largest array that any equation gives, inside of scans and calls too."""
  largest = 0
  for equation in jaxpr.eqns:
    largest = max([largest, *(var.aval.size for var in equation.outvars)])
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      largest = max(largest, _largest(inner))
  return largest


@pytest.mark.parametrize("loss", LOSSES)
def test_no_array_of_the_vocabulary_at_every_position(loss):
  """Forward and backward; the largest are the logits of one chunk."""
  passes = [jax.make_jaxpr(f)(*_arrays()).jaxpr for f in (loss, jax.grad(loss, (0, 1)))]
  assert [_largest(jaxpr) for jaxpr in passes] == [B * Y * CHUNK] * 2
  assert _largest(jax.make_jaxpr(_dense)(*_arrays()).jaxpr) == NUM_LOGITS


@pytest.mark.parametrize("loss", LOSSES)
def test_memory_of_the_compiled_gradient(loss):
  def temporary_bytes(loss):
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*_arrays()).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(loss) < 4 * NUM_LOGITS < temporary_bytes(_dense)


@pytest.mark.parametrize("without_ids", [False, True])
def test_logits_and_logsumexp(without_ids):
  hidden, embedding, ids, *_ = _arrays()
  at, logsumexp = jax.jit(
    functools.partial(
      vocab_head.logits_and_logsumexp, temperature=2.0, without_ids=without_ids, **OPTIONS
    )
  )(hidden, embedding, ids)
  logits = 30 * np.tanh(np.asarray(hidden) @ np.asarray(embedding).T / 30) / 2
  np.testing.assert_allclose(at, np.take_along_axis(logits, np.asarray(ids), -1), atol=1e-5)
  if without_ids:
    np.put_along_axis(logits, np.asarray(ids), -np.inf, -1)
  np.testing.assert_allclose(logsumexp, np.logaddexp.reduce(logits, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sharded_vocabulary_stays_where_it_is(loss):
  """Two devices share the batch and four the vocabulary: no device gathers rows of another."""
  mesh = sharding.build_mesh(sharding.MeshConfig(data=2, tensor=4))

  def on(*axes):
    return NamedSharding(mesh, PartitionSpec(*axes))

  specs = (on("data"), on("tensor"), *(on("data"),) * 3)
  gradients = jax.value_and_grad(loss, (0, 1))
  sharded = jax.jit(gradients, in_shardings=specs, out_shardings=(on(), specs[:2]))
  arrays = _arrays()
  text = sharded.lower(*arrays).compile().as_text()
  assert "all-reduce" in text
  assert not re.search(r"all-gather|all-to-all|collective-permute", text)
  placed = [jax.device_put(array, spec) for array, spec in zip(arrays, specs, strict=True)]
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    sharded(*placed),
    jax.jit(gradients)(*arrays),
  )


def test_paligemmas_vocabulary_is_not_padded():
  assert 257_152 % vocab_head.CHUNK == 0
