import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.inference import generate
from vsumjax.types import InputError, Prompt

EOS, PAD = 1, 0
J = 6


@pytest.fixture(scope="module")
def case():
  """A tiny model and a prompt with an image and text, right padded in one of three rows."""
  batch = testing.random_batch(rows=3)
  model = testing.tiny_model()
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    params = sharding.unbox(jax.jit(model.init)(jax.random.key(0), batch))["params"]
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.4, x.dtype), params)
  # A small embedding lets the layers speak: with a large one every token repeats itself.
  params["llm"]["embedder"]["input_embedding"] *= 0.1
  valid = np.ones(batch.tokens.shape, bool)
  valid[1, -3:] = False
  prompt = Prompt(batch.frames, batch.tokens, batch.mask_ar, jnp.asarray(valid))
  return model, params, mesh, prompt


@pytest.fixture(scope="module")
def generator(case):
  """`generator(eos_id=-1, temperature=3.0)`: made, and so compiled, once for each setting."""
  model, params, mesh, _ = case

  @functools.cache
  def make(eos_id=EOS, **config):
    settings = generate.GenerateConfig(**{"max_new_tokens": J} | config)
    return generate.Generator(
      model, params, mesh, sharding.LogicalRules(), settings, eos_id=eos_id, pad_id=PAD
    )

  return make


def _by_whole_sequences(case, row):
  """Greedy tokens and log probability of one row without a cache: the model on what is there.

  What is not there yet is padding, so that one program serves all lengths.
  """
  model, params, mesh, prompt = case
  valid = np.asarray(prompt.input_mask[row])
  start, total = valid.sum(), 0.0
  tokens_T = np.zeros(start + J, np.int32)
  tokens_T[:start] = np.asarray(prompt.tokens[row])[valid]
  place_T = np.arange(start + J)
  apply = jax.jit(lambda sequence: model.apply({"params": params}, sequence, method="lm_logits"))
  with sharding.use_mesh(mesh):
    for length in range(start, start + J):
      sequence = Prompt(
        prompt.frames[row : row + 1],
        jnp.asarray(tokens_T[None]),
        jnp.asarray(place_T[None] >= start, jnp.int32),
        jnp.asarray(place_T[None] < length),
      )
      logits = apply(sequence)[0, length - 1]
      tokens_T[length] = logits.argmax()
      total += float(jax.nn.log_softmax(logits).max())
  return tokens_T[start:], total


@pytest.mark.parametrize("row", [0, 1])
def test_greedy_equals_running_the_whole_sequence_again(case, generator, row):
  generated = generator(eos_id=-1)(case[-1])
  tokens, log_prob = _by_whole_sequences(case, row)
  np.testing.assert_array_equal(generated.tokens[row], tokens)
  np.testing.assert_allclose(generated.log_prob[row], log_prob, rtol=1e-4)
  assert generated.length[row] == J


def test_an_answer_ends_with_the_end_of_text(case, generator):
  free = generator(eos_id=-1)(case[-1])
  stop = int(free.tokens[0, 2])
  ended = generator(eos_id=stop)(case[-1])
  for row in range(3):
    expected = list(np.asarray(free.tokens[row]))
    if stop in expected:
      length = expected.index(stop) + 1
      expected = expected[:length] + [PAD] * (J - length)
      assert ended.length[row] == length
    np.testing.assert_array_equal(ended.tokens[row], expected)
  assert ended.length[0] <= 3


def test_rows_do_not_feel_their_neighbours_or_padding(case, generator):
  prompt = case[-1]
  together = generator(eos_id=-1)(prompt)
  garbage = jnp.where(prompt.input_mask, prompt.tokens, 33)
  np.testing.assert_array_equal(
    generator(eos_id=-1)(prompt.replace(tokens=garbage)).tokens, together.tokens
  )
  alone = generator(eos_id=-1)(jax.tree.map(lambda x: x[1:2], prompt))
  np.testing.assert_array_equal(alone.tokens[0], together.tokens[1])


def test_text_alone(case, generator):
  _, _, _, prompt = case
  words = prompt.tokens[:, 4:]
  text = Prompt(prompt.frames[:, :0], words, prompt.mask_ar[:, 4:], prompt.input_mask[:, 4:])
  with_image = generator(eos_id=-1)(prompt)
  without = generator(eos_id=-1)(text)
  assert without.tokens.shape == (3, J)
  assert (without.tokens != with_image.tokens).any()


def test_draws_follow_the_seed(case, generator):
  sample = generator(eos_id=-1, temperature=3.0)
  first = sample(case[-1], seed=1).tokens
  np.testing.assert_array_equal(first, sample(case[-1], seed=1).tokens)
  assert (first != sample(case[-1], seed=2).tokens).any()


def test_a_tiny_nucleus_is_greedy(case, generator):
  greedy = generator(eos_id=-1)(case[-1]).tokens
  drawn = generator(eos_id=-1, temperature=1.0, top_p=1e-6)(case[-1], seed=3).tokens
  np.testing.assert_array_equal(drawn, greedy)


def test_nucleus_is_the_smallest_set_that_suffices():
  probs = jnp.array([[0.5, 0.1, 0.3, 0.1], [0.05, 0.9, 0.03, 0.02]])
  got = generate.nucleus(jnp.log(probs), 0.7)
  np.testing.assert_array_equal(got, [[True, False, True, False], [False, True, False, False]])


def test_draws_have_the_frequencies_of_the_nucleus():
  logits = jnp.log(jnp.array([0.5, 0.1, 0.3, 0.1]))
  config = generate.GenerateConfig(1, temperature=1.0, top_p=0.7)
  drawn = generate.choose(jnp.tile(logits, (4000, 1)), jax.random.key(0), config)
  frequency = np.bincount(drawn, minlength=4) / 4000
  np.testing.assert_allclose(frequency, [0.625, 0, 0.375, 0], atol=0.03)  # 4 standard errors


def test_temperature_flattens():
  logits = jnp.log(jnp.array([0.9, 0.1]))
  config = generate.GenerateConfig(1, temperature=2.0)
  drawn = generate.choose(jnp.tile(logits, (4000, 1)), jax.random.key(0), config)
  np.testing.assert_allclose(np.mean(drawn), 0.25, atol=0.03)


@pytest.mark.parametrize(
  ("config", "key"),
  [
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"max_new_tokens": 1, "temperature": -1.0}, "temperature"),
    ({"max_new_tokens": 1, "top_p": 0.0}, "top_p"),
    ({"max_new_tokens": 1, "top_p": 1.5}, "top_p"),
  ],
)
def test_bad_settings_are_named(config, key):
  with pytest.raises(InputError, match=f"generate.{key}"):
    generate.GenerateConfig(**config)
