"""The schedule, what decays, and clipping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vsumjax import sharding, testing
from vsumjax.models.student import init_params
from vsumjax.training import optimizer
from vsumjax.training.optimizer import SCHEDULES, OptimizerConfig, build_optimizer, build_schedule
from vsumjax.types import InputError

CONFIG = OptimizerConfig(learning_rate=0.1, warmup=0.2, weight_decay=0.5, clip_norm=1.0)


def test_schedule_rises_to_the_peak_and_falls_to_zero():
  rates = np.array([build_schedule(CONFIG, 50)(step) for step in range(51)])
  assert rates[0] == 0
  np.testing.assert_allclose(rates[:11], np.linspace(0, 0.1, 11), rtol=1e-6)
  assert (np.diff(rates[10:]) < 0).all()
  np.testing.assert_allclose(rates[30], 0.05, rtol=1e-6)  # half of the cosine
  assert rates[50] == pytest.approx(0, abs=1e-8)


AFTER = {
  "constant": lambda step: 0.1,
  "cosine": lambda step: 0.05 * (1 + np.cos(np.pi * (step - 10) / 40)),
  "linear": lambda step: 0.1 * (50 - step) / 40,
  "rsqrt": lambda step: 0.1 * np.sqrt(10 / step),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_and_then_goes_its_way(schedule):
  rate = build_schedule(dataclasses.replace(CONFIG, schedule=schedule), 50)
  steps = np.arange(10, 51)
  np.testing.assert_allclose([rate(step) for step in range(11)], np.linspace(0, 0.1, 11), rtol=1e-6)
  expected = [AFTER[schedule](step) for step in steps]
  np.testing.assert_allclose([rate(step) for step in steps], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_a_warm_up_the_first_step_has_the_peak(schedule):
  rate = build_schedule(dataclasses.replace(CONFIG, schedule=schedule, warmup=0.0), 50)
  assert float(rate(0)) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "num_steps"), [(0.0, 1), (1.0, 1), (1.0, 8)])
def test_schedule_of_few_steps_is_finite(schedule, warmup, num_steps):
  config = dataclasses.replace(CONFIG, schedule=schedule, warmup=warmup)
  schedule = build_schedule(config, num_steps)
  rates = [float(schedule(step)) for step in range(num_steps + 1)]
  assert np.isfinite(rates).all()
  assert 0 <= min(rates) <= max(rates) <= 0.1 + 1e-6


# What is a vector in a layer. All else is a matrix, or a table of embeddings.
VECTORS = ("scale", "bias", "norm")


@pytest.fixture(scope="module")
def params():
  """Boxed parameters of the tiny model, all of them 1."""
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    boxed = jax.eval_shape(
      lambda: init_params(testing.tiny_model(), testing.random_batch(), jax.random.key(0))
    )
  return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), boxed)


def test_only_matrices_decay(params):
  """With no gradient, decay alone moves a weight."""
  tx = build_optimizer(CONFIG, 10)
  opt_state = sharding.unbox(tx.init(params))  # as `init_state` does
  params = sharding.unbox(params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  for _ in range(2):  # the rate is 0 at the first step
    updates, opt_state = jax.jit(tx.update)(zeros, opt_state, params)
  moved = {
    jax.tree_util.keystr(path, simple=True, separator="/"): bool((update != 0).any())
    for path, update in jax.tree_util.tree_flatten_with_path(updates)[0]
  }
  assert any(moved.values())
  for name, moves in moved.items():
    assert moves == (name.split("/")[-1] not in VECTORS), name
  np.testing.assert_allclose(updates["img"]["head"]["kernel"], -0.05 * 0.5, rtol=1e-5)


def test_boxed_and_plain_parameters_have_the_same_mask(params):
  boxed, plain = optimizer._is_matrix(params), optimizer._is_matrix(sharding.unbox(params))
  assert jax.tree.leaves(boxed) == jax.tree.leaves(plain)


def test_large_gradients_are_clipped_together():
  small, large = _moments_of_small_and_large(1.0)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), small, large)


def test_a_clip_norm_of_0_clips_nothing():
  small, large = _moments_of_small_and_large(0.0)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x * 500 * np.sqrt(2), y, rtol=1e-5), small, large
  )


def _moments_of_small_and_large(clip_norm):
  """Of gradients that differ in size alone: norms of 1 and 500 · √2."""
  tx = build_optimizer(dataclasses.replace(CONFIG, weight_decay=0.0, clip_norm=clip_norm), 10)
  params = {"a": jnp.zeros((1, 2)), "b": jnp.zeros((1, 2))}
  large = {"a": jnp.full((1, 2), 300.0), "b": jnp.full((1, 2), 400.0)}
  small = jax.tree.map(lambda g: g / optax.tree.norm(large), large)

  def moments(gradient):
    _, opt_state = tx.update(gradient, tx.init(params), params)
    return optax.tree_utils.tree_get(opt_state, "mu")

  assert optax.tree.norm(large) > 100 * optax.tree.norm(small)
  return moments(small), moments(large)


def test_the_moments_are_as_configured():
  """One step of Adam by hand: lr · m̂ / (√v̂ + eps), with weight decay off."""
  config = OptimizerConfig(0.1, 0.0, 0.0, 0.0, schedule="constant", b1=0.5, b2=0.75, eps=0.5)
  tx = build_optimizer(config, 10)
  params = {"a": jnp.zeros((1, 1))}
  opt_state = tx.init(params)
  for gradient in (1.0, 2.0):
    updates, opt_state = tx.update({"a": jnp.full((1, 1), gradient)}, opt_state, params)
  m, v = (0.25 + 1.0) / (1 - 0.25), (0.1875 + 1.0) / (1 - 0.5625)
  np.testing.assert_allclose(updates["a"], -0.1 * m / (np.sqrt(v) + 0.5), rtol=1e-5)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("learning_rate", -1.0),
    ("warmup", 1.5),
    ("weight_decay", -0.1),
    ("clip_norm", float("nan")),
    ("b1", 1.0),
    ("b2", 2.0),
    ("eps", -1.0),
    ("eps", 0.0),  # 0 / 0 where a gradient is 0
    ("learning_rate", float("inf")),
  ],
)
def test_values_out_of_range_are_refused(field, value):
  with pytest.raises(InputError, match=f"optimizer.{field}: {value} is not in"):
    dataclasses.replace(CONFIG, **{field: value})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"schedule": "cosin"}, "schedule: 'cosin' is not one of constant, cosine, linear, rsqrt"),
    ({"freeze": ("img/(",)}, r"freeze: 'img/\(' is not a regular expression: "),
    ({"freeze": ("a{99999999999}",)}, r"freeze: 'a.99999999999.' is not a regular expression: "),
  ],
)
def test_words_without_sense_are_refused(changes, message):
  with pytest.raises(InputError, match=f"optimizer.{message}"):
    dataclasses.replace(CONFIG, **changes)
