"""Records of draws against the full distribution: in expectation they are the same lesson."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax.data.teacher_cache import token_records
from vsumjax.ops import vocab_losses
from vsumjax.types import TokenTargets

V, D, W, NUM_DRAWS, NUM_CACHES = 200, 6, 5, 12, 3000
OPTIONS = {"cap": 8.0, "temperature": 1.5, "chunk": 64}
WEIGHT = np.array([1.0, 0.5, 2.0], np.float32)


@pytest.fixture(scope="module")
def models():
  """Hidden states at three positions and embeddings: of the student, then of the teacher."""
  rng = np.random.default_rng(0)
  shapes = ((3, D), (V, D), (3, W), (V, W))
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.fixture(scope="module")
def teacher_logits(models):
  return np.asarray(8 * jnp.tanh(models[2] @ models[3].T / 8))


def _flat(grads):
  return np.concatenate(
    [np.asarray(grad, np.float64).reshape(*grad.shape[:-2], -1) for grad in grads], -1
  )


def _full(models):
  """Value and gradient of the full KL, the gradient as one vector."""

  def loss(*student):
    return vocab_losses.full_kl_loss(
      *student, *models[2:], jnp.asarray(WEIGHT), teacher_cap=8.0, **OPTIONS
    )[0]

  value, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(*models[:2])
  return float(value), _flat(grads)


def _of_caches(models, teacher_logits, loss):
  """Values and gradients for targets drawn anew for each of many caches: [R], [R, ...]."""
  rng = np.random.default_rng(1)
  rows = np.tile(teacher_logits, (NUM_CACHES, 1))
  entries = token_records.sample_entries(rows, NUM_DRAWS, OPTIONS["temperature"], rng)
  targets = [jnp.asarray(x.reshape(NUM_CACHES, 3, *x.shape[1:])) for x in entries]

  @functools.partial(jax.vmap, in_axes=(0, None, None))
  def one(targets, *student):
    return jax.value_and_grad(lambda *s: loss(*s, TokenTargets(*targets)), (0, 1))(*student)

  values, grads = jax.jit(one)(targets, *models[:2])
  return np.asarray(values, np.float64), _flat(grads)


def _sampled(hidden, embedding, targets):
  return vocab_losses.sampled_kl_loss(hidden, embedding, targets, jnp.asarray(WEIGHT), **OPTIONS)[0]


def _standard_errors(samples, expected):
  error = samples.std(axis=0, ddof=1) / NUM_CACHES**0.5
  return (samples.mean(axis=0) - expected) / error


def test_sampled_kl_is_unbiased(models, teacher_logits):
  """Value and gradient are those of the full KL within 3 standard errors.

  Of the 1,218 components of the gradient 3 may lie outside by chance; their mean square is 1.
  """
  value, grad = _full(models)
  values, grads = _of_caches(models, teacher_logits, _sampled)
  assert abs(_standard_errors(values, value)) < 3
  hidden_z, embedding_z = np.split(_standard_errors(grads, grad), [3 * D])
  assert np.abs(hidden_z).max() < 3
  assert np.mean(np.abs(embedding_z) < 3) > 0.995
  assert 0.8 < np.mean(embedding_z**2) < 1.2
  # What is compared is no trifle: single caches miss by far more.
  assert np.linalg.norm(grads - grad, axis=-1).mean() > 0.2 * np.linalg.norm(grad)


def test_renormalised_likeliest_are_biased(models, teacher_logits):
  """The same test tells what is biased: the likeliest tokens as if they were all there are."""
  _, grad = _full(models)
  top = token_records.top_entries(teacher_logits, NUM_DRAWS, OPTIONS["temperature"])
  share = np.exp(top.values)
  assert 0.2 < share.sum(axis=-1).mean() < 0.9
  renormalised = TokenTargets(
    jnp.asarray(top.ids), jnp.asarray(share / share.sum(axis=-1, keepdims=True)), None,
    jnp.asarray(top.entropy),
  )  # fmt: skip
  grads = jax.jit(jax.grad(lambda *s: _sampled(*s, renormalised), (0, 1)))(*models[:2])
  _, sampled_grads = _of_caches(models, teacher_logits, _sampled)
  # In standard errors of the mean over the caches of draws above.
  error = sampled_grads.std(axis=0, ddof=1) / NUM_CACHES**0.5
  z = (_flat(grads) - grad) / error
  assert np.abs(z[: 3 * D]).max() > 10
  assert np.mean(z**2) > 100
