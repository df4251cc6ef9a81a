"""A text after the prompt: what decoding says, what the prompt sees of it, what it sees ahead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.data import answers
from vsumjax.models.student import init_params
from vsumjax.types import Prompt

pytestmark = pytest.mark.usefixtures("one_device")

Y = 12  # more than the window of 8 that local attention sees


@pytest.fixture(scope="module", params=[1, 3], ids=["N=1", "N=3"])
def case(request):
  """Model, parameters, prompts of different lengths, and the same with texts after them."""
  batch = testing.random_batch(rows=3, window=request.param, text=9)
  batch = jax.tree.map(np.array, batch)
  batch.input_mask[1, -5:] = False
  if request.param == 1:
    batch.score_pos[1] -= 2
  rng = np.random.default_rng(1)
  text_BY = rng.integers(10, 40, (3, Y))
  text_BY[0, 2] = testing.IMAGE_ID  # generated, it is a word
  forced = answers.with_text(batch, text_BY, np.array([Y, Y, 5]))
  model = testing.tiny_model()
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    params = sharding.unbox(jax.jit(lambda k: init_params(model, batch, k))(jax.random.key(0)))
  params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.4, x.dtype), params)
  params["llm"]["embedder"]["input_embedding"] *= 0.1
  return model, params, *jax.tree.map(jnp.asarray, (batch, forced))


def _apply(case, *args, method=None):
  return _jitted(*case[:2], *args, method=method)


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def _jitted(model, params, *args, method):
  return model.apply({"params": params}, *args, method=method)


def _forced_logits(case, forced):
  hidden_BYD = _apply(case, forced).text_hidden
  assert hidden_BYD.shape == (3, Y, 32)
  return _apply(case, hidden_BYD, method="text_logits")


def _decoded_logits(case, text_BY):
  """By prefill and one step of decoding for each token, with a cache."""
  model, params, batch, _ = case
  prompt = Prompt(batch.frames, batch.tokens, batch.mask_ar, batch.input_mask)
  T = prompt.tokens.shape[1]

  def run(params, text_BY):
    logits_BV, cache = model.apply({"params": params}, prompt, T + Y - 1, method="prefill")
    logits = [logits_BV]
    for y in range(Y - 1):
      logits_BV, cache = model.apply(
        {"params": params}, text_BY[:, y], cache, jnp.asarray(T + y), method="decode"
      )
      logits.append(logits_BV)
    return jnp.stack(logits, axis=1)

  return jax.jit(run)(params, text_BY)


def test_forced_logits_are_those_of_decoding(case):
  """Positions and the sliding window too: rows have padding between prompt and text."""
  forced = case[-1]
  got, expected = _forced_logits(case, forced), _decoded_logits(case, forced.text.ids)
  is_text_BY = forced.text.weight > 0
  assert is_text_BY.sum() == 2 * Y + 5
  np.testing.assert_allclose(got[is_text_BY], expected[is_text_BY], atol=1e-4)
  assert np.ptp(expected, axis=-1).min() > 0.5


def test_the_prompts_readouts_do_not_feel_the_text(case):
  """Not at all another text, and a longer sequence only in float32's sums."""
  _, _, batch, forced = case
  plain, with_text = _apply(case, batch), _apply(case, forced)
  assert plain.text_hidden is None
  largest = jnp.abs(plain.logits).max()
  np.testing.assert_allclose(plain.logits / largest, with_text.logits / largest, atol=1e-6)
  np.testing.assert_allclose(plain.confidence, with_text.confidence, atol=1e-6)
  T = batch.tokens.shape[1]
  other = forced.replace(tokens=forced.tokens.at[:, T:].add(1))
  np.testing.assert_array_equal(with_text.logits, _apply(case, other).logits)


def test_a_token_is_predicted_from_what_is_before_it(case):
  """By gradient with respect to the embeddings of prompt and slots."""
  model, params, _, forced = case
  T = case[2].tokens.shape[1]

  def influence(y):
    def predicted(x_BTD):
      def read(module, x_BTD):
        nothing = jnp.zeros((3, 0), jnp.int32)
        x_BTD, _ = module.llm.read(x_BTD, forced.input_mask, forced.mask_ar, nothing)
        return module.llm.read_at(x_BTD, forced.text.position[:, y : y + 1])

      return model.apply({"params": params}, x_BTD, method=read)[:2].sum()

    x_BTD = _apply(case, forced, method="embed")
    return np.abs(jax.jit(jax.grad(predicted))(x_BTD)).max(axis=(0, 2))

  for y in (0, 3):
    felt_T = influence(y)
    assert (felt_T[T + y :] == 0).all()
    assert (felt_T[: T - 5] > 0).all() and (felt_T[T : T + y] > 0).all()


def test_what_lies_behind_a_text_and_between_changes_nothing(case):
  forced = case[-1]
  tokens = jnp.where(forced.input_mask, forced.tokens, 33)
  assert (tokens != forced.tokens).any()
  before, after = _apply(case, forced), _apply(case, forced.replace(tokens=tokens))
  is_text_BY = forced.text.weight > 0
  np.testing.assert_array_equal(before.text_hidden[is_text_BY], after.text_hidden[is_text_BY])
