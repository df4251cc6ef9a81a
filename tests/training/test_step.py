"""The train and evaluation steps: on a small linear model, and the shapes of the real one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vsumjax import sharding, testing
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig, TeacherConfig, compute_loss
from vsumjax.training import optimizer, state, step
from vsumjax.types import StudentOutput

TEACHERS = (TeacherConfig("t", "", "", weight=0.5, temperature=2.0, direction="forward"),)
OBJECTIVE = ObjectiveConfig(1.0, (1.0, 1.0), TEACHERS)
TX = optimizer.build_optimizer(optimizer.OptimizerConfig(0.3, 0.0, 0.01, 1.0), 30)

PROGRESS = jnp.ones(())


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
  return jax.jit(step.make_train_step(ScoreLearner(Linear(), OBJECTIVE), TX, num_steps=30))


def test_specs_of_the_real_model(one_device, batch):
  model = testing.tiny_model()
  objective = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), TEACHERS)
  learner = ScoreLearner(model, objective)
  spec = jax.eval_shape(lambda: sharding.unbox(state.init_state(learner, TX, batch, 0)))
  testing.assert_step_specs(step.make_train_step(learner, TX, num_steps=30), spec, batch)


def test_a_step_is_the_optimizer_on_the_mean_loss(train_step, first, batch):
  def mean_loss(params):
    output = Linear().apply({"params": params}, batch)
    (total, weight), _ = compute_loss(OBJECTIVE, output, batch, PROGRESS)
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
  steps = [train_step(first, b) for b in (batch, jax.tree.map(lambda x: x[:2], batch), padded)]
  whole, alone, same = (after.params["kernel"] for after, _ in steps)
  assert jnp.abs(whole - alone).max() > 1e-3
  np.testing.assert_allclose(same, alone, rtol=1e-5)
  # Adam's step is blind to the size of a gradient, which the weight of padding would change.
  _, norm, same_norm = (metrics["grad_norm"][0] for _, metrics in steps)
  np.testing.assert_allclose(same_norm, norm, rtol=1e-5)


def test_a_batch_of_padding_alone_gives_no_nan(train_step, first, batch):
  after, metrics = train_step(first, batch.replace(weight=jnp.zeros_like(batch.weight)))
  assert metrics["loss"] == (0, 0)
  assert metrics["grad_norm"][0] == 0
  assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after.params))


@pytest.fixture(scope="module")
def uneven(batch):
  """The microbatches of it have other weights; one has none at all."""
  rows = testing.random_batch(rows=8, window=2, teachers=1)
  weight = np.ones((8, 2), np.float32)
  weight[1::4], weight[[0, 2, 4], 1] = 0.0, 0.0
  return rows.replace(weight=jnp.asarray(weight))


def _accumulated(model, num_microbatches, **options):
  return jax.jit(
    step.make_train_step(
      ScoreLearner(model, OBJECTIVE), TX, num_steps=30, accumulate=num_microbatches, **options
    )
  )


@pytest.mark.parametrize("num_microbatches", [2, 4, 8])
def test_microbatches_of_any_weight_make_the_step_of_the_batch(
  one_device, train_step, first, uneven, num_microbatches
):
  weights = np.asarray(step.cut(uneven, num_microbatches).weight.sum((1, 2)))
  assert len(set(weights)) > 1
  whole, metrics = train_step(first, uneven)
  cut, cut_metrics = _accumulated(Linear(), num_microbatches)(first, uneven)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)  # noqa: E731
  jax.tree.map(close, cut, whole)
  jax.tree.map(close, cut_metrics, metrics)
  assert cut_metrics["loss"][1] == uneven.weight.sum()


def test_microbatches_of_padding_alone_give_no_nan(one_device, first, batch):
  padding = batch.replace(weight=jnp.zeros_like(batch.weight), targets=batch.targets * jnp.nan)
  after, metrics = _accumulated(Linear(), 2)(first, padding)
  assert metrics["grad_norm"][0] == 0
  assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after.params))


def test_no_row_moves_to_another_device():
  mesh = sharding.build_mesh(sharding.MeshConfig(data=4, fsdp=2))
  rows = sharding.batch_sharding(mesh, sharding.LogicalRules())
  with sharding.use_mesh(mesh):
    batch = sharding.to_global(
      jax.device_get(testing.random_batch(rows=32)), mesh, sharding.LogicalRules()
    )
    compiled = jax.jit(lambda b: step.cut(b, 2), in_shardings=rows).lower(batch).compile()
    assert "all-" not in compiled.as_text()
    assert "permute" not in compiled.as_text()
    examples = compiled(batch).example
  assert examples.tolist() == [list(range(0, 32, 2)), list(range(1, 32, 2))]
  assert {shard.data.shape for shard in examples.addressable_shards} == {(2, 2)}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_sums_over_steps_are_in_float32(one_device, batch, accumulate):
  """Where the parameters and their gradients are in bfloat16."""
  params = {"kernel": jnp.ones((2, 5, 3), jnp.bfloat16), "bias": jnp.zeros((2, 5), jnp.bfloat16)}
  before = state.start_from(params, TX, with_ema=True)
  train_step = step.make_train_step(
    ScoreLearner(Linear(), OBJECTIVE), TX, num_steps=30, accumulate=accumulate, ema_decay=0.9
  )
  testing.assert_step_specs(train_step, before, batch)
  moments = before.opt_state[1][0]
  kept = jax.tree.leaves((moments.mu, moments.nu, before.ema))
  assert {leaf.dtype for leaf in kept} == {jnp.dtype("float32")}
  scans = [e for e in jax.make_jaxpr(train_step)(before, batch).eqns if e.primitive.name == "scan"]
  sums = [v.aval for e in scans for v in e.outvars]
  assert len(scans) == accumulate - 1
  assert {aval.dtype for aval in sums} <= {jnp.dtype("float32")}
  used = state.used_params(before)
  assert {leaf.dtype for leaf in jax.tree.leaves(used)} == {jnp.dtype("bfloat16")}


def test_the_running_mean_starts_without_bias(first, batch):
  """Against Σ_i d^(n-i) p_i / Σ_i d^(n-i), the parameters before the first step left out."""
  train_step = jax.jit(
    step.make_train_step(ScoreLearner(Linear(), OBJECTIVE), TX, num_steps=30, ema_decay=0.9)
  )
  current = first.replace(step=jnp.zeros((), jnp.int32), ema=first.params)
  seen = []
  for _ in range(5):
    current, _ = train_step(current, batch)
    seen.append(np.asarray(current.params["kernel"], np.float64))
    powers = 0.9 ** np.arange(len(seen))[::-1]
    expected = np.tensordot(powers / powers.sum(), np.stack(seen), 1)
    np.testing.assert_allclose(current.ema["kernel"], expected, rtol=1e-5, atol=1e-6)
  assert np.abs(seen[-1] - expected).max() > 0.1
  np.testing.assert_array_equal(state.used_params(current)["kernel"], current.ema["kernel"])


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_the_rate_of_the_running_mean(decay):
  rates = [float(step.ema_rate(decay, jnp.asarray(n))) for n in (1, 2, 1000, 10**6)]
  expected = [(1 - decay) / (1 - decay**n) for n in (1, 2, 1000, 10**6)]
  np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_frozen_parameters_stay_and_have_no_state(first, batch):
  freeze = ("bias",)
  before = state.start_from(first.params, TX, freeze=freeze, with_ema=True)
  before = before.replace(
    opt_state=optax.tree_utils.tree_set(before.opt_state, count=jnp.ones((), jnp.int32))
  )
  train_step = step.make_train_step(
    ScoreLearner(Linear(), OBJECTIVE), TX, num_steps=30, freeze=freeze, ema_decay=0.9
  )
  after, metrics = jax.jit(train_step)(before, batch)
  np.testing.assert_array_equal(after.params["bias"], first.params["bias"])
  assert jnp.abs(after.params["kernel"] - first.params["kernel"]).max() > 0.1
  assert set(after.ema) == set(after.opt_state[1][0].mu) == {"kernel"}
  assert set(state.used_params(after)) == {"kernel", "bias"}
  _, everything = step.make_train_step(ScoreLearner(Linear(), OBJECTIVE), TX, num_steps=30)(
    first, batch
  )
  assert metrics["grad_norm"][0] < everything["grad_norm"][0]


def test_evaluation_is_the_cross_entropy_without_teachers(first, batch):
  metrics = ScoreLearner(Linear(), OBJECTIVE).evaluate(first.params, batch)
  output = Linear().apply({"params": first.params}, batch)
  labels_only = ObjectiveConfig(1.0, (1.0, 1.0), ())
  (total, weight), _ = compute_loss(labels_only, output, batch.replace(teachers=()), PROGRESS)
  assert abs(compute_loss(OBJECTIVE, output, batch, PROGRESS)[0][0] - total) > 0.1
  np.testing.assert_allclose(metrics["loss"], (total, weight), rtol=1e-5)
  assert set(metrics) == {"loss", "ce"}
