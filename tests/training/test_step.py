"""The train and evaluation steps: on a small linear model, and the shapes of the real one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vsumjax import sharding, testing
from vsumjax.training import optimizer, state, step
from vsumjax.training.objective import ObjectiveConfig, TeacherConfig, compute_loss
from vsumjax.types import StudentOutput

TEACHERS = (TeacherConfig("t", "", "", weight=0.5, temperature=2.0, direction="forward"),)
OBJECTIVE = ObjectiveConfig(1.0, (1.0, 1.0), TEACHERS)
TX = optimizer.build_optimizer(optimizer.OptimizerConfig(0.3, 0.0, 0.01, 1.0), 30)


class Linear:
  """Two exits that read the mean colour of a segment."""

  def apply(self, variables, batch):
    w_ECX, b_EC = variables["params"]["kernel"], variables["params"]["bias"]
    x_BNX = batch.frames.astype(jnp.float32).mean((2, 3, 4)) / 255
    logits = jnp.einsum("BNX,ECX->EBNC", x_BNX, w_ECX) + b_EC[:, None, None]
    return StudentOutput(logits, jax.nn.softmax(logits).max(-1))


@pytest.fixture(scope="module")
def batch():
  return testing.random_batch(rows=4, window=2, teachers=1)


@pytest.fixture(scope="module")
def first():
  """A state that has made one step: from then on the learning rate is above 0."""
  params = {"kernel": jax.random.normal(jax.random.key(0), (2, 5, 3)), "bias": jnp.zeros((2, 5))}
  opt_state = optax.tree_utils.tree_set(TX.init(params), count=jnp.ones((), jnp.int32))
  return state.TrainState(jnp.ones((), jnp.int32), params, opt_state)


@pytest.fixture(scope="module")
def train_step():
  return jax.jit(step.make_train_step(Linear(), OBJECTIVE, TX, 10))


def test_specs_of_the_real_model(one_device, batch):
  model = testing.tiny_model()
  objective = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), TEACHERS)
  spec = jax.eval_shape(lambda: sharding.unbox(state.init_state(model, TX, batch, 0)))
  testing.assert_step_specs(step.make_train_step(model, objective, TX, 10), spec, batch)


def test_a_step_is_the_optimizer_on_the_mean_loss(train_step, first, batch):
  def mean_loss(params):
    (total, weight), _ = compute_loss(
      OBJECTIVE, Linear().apply({"params": params}, batch), batch, 0.0
    )
    return total / weight

  grads = jax.jit(jax.grad(mean_loss))(first.params)
  updates, _ = jax.jit(TX.update)(grads, first.opt_state, first.params)
  expected = optax.apply_updates(first.params, updates)
  after, metrics = train_step(first, batch)
  assert after.step == 2
  np.testing.assert_allclose(metrics["grad_norm"][0], optax.tree.norm(grads), rtol=1e-5)
  assert metrics["grad_norm"][1] == 1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), after.params, expected)
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, first.params)
  assert min(jax.tree.leaves(moved)) > 0.1


def test_the_loss_falls(train_step, first, batch):
  losses = []
  for _ in range(20):
    first, metrics = train_step(first, batch)
    losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
  assert losses[-1] < 0.9 * losses[0]


def test_padding_rows_change_no_gradient(train_step, first, batch):
  """A row of weight 0 gives the same step as a batch without the row."""
  padded = batch.replace(
    weight=batch.weight.at[2:].set(0.0), targets=batch.targets.at[2:].set(jnp.nan)
  )
  whole, alone, same = (
    train_step(first, b)[0].params["kernel"]
    for b in (batch, jax.tree.map(lambda x: x[:2], batch), padded)
  )
  assert jnp.abs(whole - alone).max() > 1e-3
  np.testing.assert_allclose(same, alone, rtol=1e-5)


def test_a_batch_of_padding_alone_gives_no_nan(train_step, first, batch):
  after, metrics = train_step(first, batch.replace(weight=jnp.zeros_like(batch.weight)))
  assert metrics["loss"] == (0, 0)
  assert metrics["grad_norm"][0] == 0
  assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after.params))


def test_evaluation_is_the_cross_entropy_without_teachers(first, batch):
  metrics = step.make_eval_step(Linear(), OBJECTIVE)(first.params, batch)
  output = Linear().apply({"params": first.params}, batch)
  labels_only = ObjectiveConfig(1.0, (1.0, 1.0), ())
  (total, weight), _ = compute_loss(labels_only, output, batch.replace(teachers=()))
  assert abs(compute_loss(OBJECTIVE, output, batch)[0][0] - total) > 0.1
  np.testing.assert_allclose(metrics["loss"], (total, weight), rtol=1e-5)
  assert set(metrics) == {"loss", "ce"}
