import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_equals_reference(case, temperature, reverse):
  student, teacher, _, weight = case
  got = losses.kl_loss(
    *map(jnp.asarray, (student, teacher, weight)), temperature=temperature, reverse=reverse
  )
  expected = reference.kl(student, teacher, weight, temperature, reverse)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_directions_differ_and_vanish_for_equals(case):
  student, teacher, _, weight = map(jnp.asarray, case)
  options = {"temperature": 1.0}
  forward = losses.kl_loss(student, teacher, weight, reverse=False, **options)[0]
  reverse = losses.kl_loss(student, teacher, weight, reverse=True, **options)[0]
  assert abs(forward - reverse) > 0.1
  assert losses.kl_loss(student, student, weight, reverse=True, **options)[0] == pytest.approx(0)


def test_hand_computed_cross_entropy():
  total, weight = losses.cross_entropy_loss(
    jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([[1.0, 0.0]]), jnp.array([2.0])
  )
  np.testing.assert_allclose([total, weight], [2 * np.log(4), 2.0], rtol=1e-6)


def test_gradients(case):
  student, teacher, targets, weight = map(jnp.asarray, case)

  def ce(x):
    return losses.cross_entropy_loss(jnp.asarray(x), targets, weight)[0]

  def kl(x, reverse):
    return losses.kl_loss(jnp.asarray(x), teacher, weight, temperature=2.0, reverse=reverse)[0]

  for loss in (ce, lambda x: kl(x, False), lambda x: kl(x, True)):
    check_grads(loss, (student,), 1, ["rev"], rtol=0.02, atol=0.02, eps=1e-2)


def test_teacher_gets_no_gradient(case):
  student, teacher, _, weight = map(jnp.asarray, case)
  grad = jax.grad(lambda t: losses.kl_loss(student, t, weight, temperature=2.0, reverse=True)[0])(
    teacher
  )
  assert jnp.all(grad == 0)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_weight_zero_hides_garbage(case, garbage):
  student, teacher, targets, weight = case
  dirty = [np.where(weight[..., None] > 0, x, garbage) for x in (student, teacher, targets)]

  def both(student, teacher, targets):
    ce = losses.cross_entropy_loss(student, targets, jnp.asarray(weight))
    kl = losses.kl_loss(student, teacher, jnp.asarray(weight), temperature=2.0, reverse=False)
    return ce[0] + kl[0]

  for got, expected in zip(
    jax.value_and_grad(both)(*map(jnp.asarray, dirty)),
    jax.value_and_grad(both)(*map(jnp.asarray, (student, teacher, targets))),
    strict=True,
  ):
    np.testing.assert_array_equal(got, expected)
