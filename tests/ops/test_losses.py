import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from vsumjax.ops import losses, reference


@pytest.fixture
def case():
  rng = np.random.default_rng(0)
  student, teacher = (rng.normal(size=(4, 3, 5)).astype(np.float32) * 2 for _ in range(2))
  targets = rng.dirichlet(np.ones(5), (4, 3)).astype(np.float32)
  weight = np.array([[1, 1, 0], [0.5, 1, 1], [0, 0, 0], [1, 2, 1]], np.float32)
  return student, teacher, targets, weight


def test_cross_entropy_equals_reference(case):
  student, _, targets, weight = case
  got = losses.cross_entropy_loss(*map(jnp.asarray, (student, targets, weight)))
  np.testing.assert_allclose(got, reference.cross_entropy(student, targets, weight), rtol=1e-5)


@pytest.mark.parametrize("direction", losses.DIRECTIONS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_equals_reference(case, temperature, direction):
  student, teacher, _, weight = case
  got = losses.kl_loss(
    *map(jnp.asarray, (student, teacher, weight)), temperature=temperature, direction=direction
  )
  expected = reference.kl(student, teacher, weight, temperature, direction)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_directions_differ_and_vanish_for_equals(case):
  student, teacher, _, weight = map(jnp.asarray, case)

  def kl(teacher, direction):
    return losses.kl_loss(student, teacher, weight, temperature=1.0, direction=direction)[0]

  values = sorted(kl(teacher, direction) for direction in losses.DIRECTIONS)
  assert min(np.diff(values)) > 0.1
  for direction in losses.DIRECTIONS:
    assert kl(student, direction) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_jensen_shannon_is_symmetric_and_at_most_log_two(case, temperature):
  student, teacher, _, weight = map(jnp.asarray, case)

  def js(student, teacher, weight):
    options = {"temperature": temperature, "direction": "js"}
    return losses.kl_loss(student, teacher, weight, **options)[0]

  np.testing.assert_allclose(js(student, teacher, weight), js(teacher, student, weight), rtol=1e-5)
  apart = jnp.array([[1e4, -1e4]])
  one = jnp.ones(1)
  np.testing.assert_allclose(js(apart, -apart, one), temperature**2 * np.log(2), rtol=1e-6)
  close = [js(student, student + 0.01 * teacher, weight)]
  close += [
    losses.kl_loss(student, student + 0.01 * teacher, weight, temperature=temperature, direction=d)[
      0
    ]
    for d in ("forward", "reverse")
  ]
  np.testing.assert_allclose(4 * close[0], close[1:], rtol=0.02)


def test_an_unknown_direction_raises(case):
  student, teacher, _, weight = map(jnp.asarray, case)
  with pytest.raises(ValueError, match="'backward' is not one of"):
    losses.kl_loss(student, teacher, weight, temperature=1.0, direction="backward")


def _unlabelled(targets):
  return np.where(np.arange(3)[None, :, None] == 1, 0, targets)


@pytest.mark.parametrize("change", [lambda targets: targets, np.round, _unlabelled, np.zeros_like])
def test_ranking_equals_reference(case, change):
  """Of histograms, of labels with ties, with some that have no label, and with none."""
  student, _, targets, weight = case
  targets = change(targets).astype(np.float32)
  got = losses.ranking_loss(*map(jnp.asarray, (student, targets, weight)))
  expected = reference.ranking(student, targets, weight)
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  garbage = np.where(weight[..., None] > 0, targets, np.float32(np.nan))
  got_too = losses.ranking_loss(*map(jnp.asarray, (student, garbage, weight)))
  np.testing.assert_array_equal(got_too, got)


def test_ranking_falls_as_the_order_becomes_that_of_the_labels(case):
  _, _, targets, weight = map(jnp.asarray, case)
  ordered = jnp.log(targets + 1e-6)
  one, other = (losses.ranking_loss(x, targets, weight) for x in (ordered, -ordered))
  mean = one[0] / one[1]
  assert 0 < mean < np.log(2) < other[0] / other[1]
  np.testing.assert_allclose(one[1], weight.sum())


def test_pairs_are_those_of_all_devices(case):
  student, _, targets, weight = (np.tile(x, (2,) + (1,) * (x.ndim - 1)) for x in case)
  rows = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
  sharded = jax.device_put((student, targets, weight), rows)
  got = jax.jit(losses.ranking_loss)(*sharded)
  np.testing.assert_allclose(got, reference.ranking(student, targets, weight), rtol=1e-5)


def test_ranking_gradients(case):
  student, _, targets, weight = map(jnp.asarray, case)
  check_grads(
    lambda x: losses.ranking_loss(jnp.asarray(x), targets, weight)[0],
    (student,),
    order=1,
    modes=["rev"],
    eps=1e-2,
  )
  gradient = jax.grad(lambda x: losses.ranking_loss(x, jnp.zeros_like(targets), weight)[0])(student)
  np.testing.assert_array_equal(gradient, 0)  # no pairs


@pytest.mark.parametrize("direction", losses.DIRECTIONS)
def test_extreme_logits(direction):
  student = np.array([[1e4, -1e4, 0.0], [50.0, 0.0, -50.0], [0.0, 1e4, 1e4]], np.float32)
  teacher = np.array([[1e4, -1e4, 1e4], [-50.0, 40.0, 50.0], [1.0, 1e4, 1e4 - 1]], np.float32)
  if direction != "js":  # where the truth is finite in float64
    student, teacher = student[1:2], teacher[1:2]

  def kl(student):
    options = {"temperature": 1.0, "direction": direction}
    return losses.kl_loss(student, jnp.asarray(teacher), jnp.ones(len(teacher)), **options)[0]

  value, grad = jax.value_and_grad(kl)(jnp.asarray(student))
  expected = reference.kl(student, teacher, np.ones(len(teacher)), 1.0, direction)[0]
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert jnp.isfinite(grad).all()


def test_hand_computed_cross_entropy():
  total, weight = losses.cross_entropy_loss(
    jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([[1.0, 0.0]]), jnp.array([2.0])
  )
  np.testing.assert_allclose([total, weight], [2 * np.log(4), 2.0], rtol=1e-6)


def test_gradients(case):
  student, teacher, targets, weight = map(jnp.asarray, case)

  def ce(x):
    return losses.cross_entropy_loss(jnp.asarray(x), targets, weight)[0]

  def kl(direction, x):
    options = {"temperature": 2.0, "direction": direction}
    return losses.kl_loss(jnp.asarray(x), teacher, weight, **options)[0]

  for loss in (ce, *(functools.partial(kl, direction) for direction in losses.DIRECTIONS)):
    check_grads(loss, (student,), 1, ["rev"], rtol=0.02, atol=0.02, eps=1e-2)


@pytest.mark.parametrize("direction", losses.DIRECTIONS)
def test_teacher_gets_no_gradient(case, direction):
  student, teacher, _, weight = map(jnp.asarray, case)
  options = {"temperature": 2.0, "direction": direction}
  grad = jax.grad(lambda t: losses.kl_loss(student, t, weight, **options)[0])(teacher)
  assert jnp.all(grad == 0)


@pytest.mark.parametrize("direction", losses.DIRECTIONS)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_weight_zero_hides_garbage(case, garbage, direction):
  student, teacher, targets, weight = case
  dirty = [np.where(weight[..., None] > 0, x, garbage) for x in (student, teacher, targets)]

  def both(student, teacher, targets):
    ce = losses.cross_entropy_loss(student, targets, jnp.asarray(weight))
    options = {"temperature": 2.0, "direction": direction}
    return ce[0] + losses.kl_loss(student, teacher, jnp.asarray(weight), **options)[0]

  for got, expected in zip(
    jax.value_and_grad(both)(*map(jnp.asarray, dirty)),
    jax.value_and_grad(both)(*map(jnp.asarray, (student, teacher, targets))),
    strict=True,
  ):
    np.testing.assert_array_equal(got, expected)
