"""The train and evaluation steps on the tiny model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vsumjax import sharding, testing
from vsumjax.training import optimizer, state, step
from vsumjax.training.objective import ObjectiveConfig, TeacherConfig, compute_loss

TEACHERS = (TeacherConfig("t", "", "", weight=0.5, temperature=2.0, direction="forward"),)
OBJECTIVE = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), TEACHERS)
TX = optimizer.build_optimizer(optimizer.OptimizerConfig(1e-2, 0.0, 0.01, 1.0), 20)


@pytest.fixture(scope="module")
def case():
  """(train step, eval step, state, batch), jitted once for the module."""
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  model, batch = testing.tiny_model(), testing.random_batch(rows=4, window=2, teachers=1)
  with sharding.use_mesh(mesh):
    first = sharding.unbox(jax.jit(lambda: state.init_state(model, TX, batch, 0))())
    yield (
      jax.jit(step.make_train_step(model, OBJECTIVE, TX)),
      jax.jit(step.make_eval_step(model, OBJECTIVE)),
      first,
      batch,
    )


def test_specs(case):
  train_step, _, first, batch = case
  testing.assert_step_specs(train_step, first, batch)


def test_a_step_is_the_optimizer_on_the_mean_loss(case):
  train_step, _, first, batch = case
  first, _ = train_step(first, batch)  # from where the learning rate is above 0
  model = testing.tiny_model()

  def mean_loss(params):
    output = model.apply({"params": params}, batch)
    (total, weight), _ = compute_loss(OBJECTIVE, output, batch)
    return total / weight

  grads = jax.jit(jax.grad(mean_loss))(first.params)
  updates, _ = TX.update(grads, first.opt_state, first.params)
  expected = optax.apply_updates(first.params, updates)
  after, metrics = train_step(first, batch)
  assert int(after.step) == int(first.step) + 1
  np.testing.assert_allclose(metrics["grad_norm"][0], optax.global_norm(grads), rtol=1e-4)
  assert metrics["grad_norm"][1] == 1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), after.params, expected)
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, first.params)
  assert min(jax.tree.leaves(moved)) > 1e-3


def test_the_loss_falls(case):
  train_step, _, current, batch = case
  losses = []
  for _ in range(12):
    current, metrics = train_step(current, batch)
    losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
  assert losses[-1] < 0.8 * losses[0]


def test_padding_rows_change_no_gradient(case):
  """A row of weight 0 gives the same step as a batch without the row."""
  train_step, _, first, batch = case
  first, _ = train_step(first, batch)
  half = jax.tree.map(lambda x: x[:2], batch)
  garbage = batch.replace(
    weight=batch.weight.at[2:].set(0.0),
    targets=batch.targets.at[2:].set(jnp.nan),
    example=batch.example.at[2:].set(-1),
  )
  (whole, _), (alone, _) = train_step(first, batch), train_step(first, half)
  padded, metrics = train_step(first, garbage)
  assert metrics["loss"][1] == 4

  def kernel(s):
    return np.asarray(s.params["img"]["head"]["kernel"])

  assert np.abs(kernel(whole) - kernel(alone)).max() > 1e-4
  np.testing.assert_allclose(kernel(padded), kernel(alone), atol=1e-5)


def test_a_batch_of_padding_alone_gives_no_nan(case):
  train_step, _, first, batch = case
  after, metrics = train_step(first, batch.replace(weight=jnp.zeros_like(batch.weight)))
  assert metrics["loss"] == (0, 0)
  assert metrics["grad_norm"][0] == 0
  assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after.params))


def test_evaluation_is_the_cross_entropy_without_teachers(case):
  _, eval_step, first, batch = case
  metrics = eval_step(first.params, batch)
  output = testing.tiny_model().apply({"params": first.params}, batch)
  labels_only = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), ())
  (total, weight), _ = compute_loss(labels_only, output, batch.replace(teachers=()))
  np.testing.assert_allclose(metrics["loss"], (total, weight), rtol=1e-5)
  assert set(metrics) == {"loss", "ce"}
  with_teacher = compute_loss(OBJECTIVE, output, batch)[0][0]
  assert abs(with_teacher - total) > 0.1
  without = eval_step(first.params, batch.replace(teachers=()))
  np.testing.assert_allclose(without["loss"][0], metrics["loss"][0], rtol=1e-6)
