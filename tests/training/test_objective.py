"""The loss of several exits and teachers, against sums made by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import testing
from vsumjax.ops import reference
from vsumjax.training.objective import ObjectiveConfig, TeacherConfig, compute_loss
from vsumjax.types import InputError, StudentOutput

MENTOR = TeacherConfig("mentor", "", "", weight=0.5, temperature=2.0, direction="forward")
TEACHER = TeacherConfig("teacher", "", "", weight=0.3, temperature=3.0, direction="reverse")
CONFIG = ObjectiveConfig(0.8, (1.0, 0.5, 2.0), (MENTOR, TEACHER))


@pytest.fixture
def batch():
  batch = testing.random_batch(rows=3, window=2, teachers=2)
  weight = np.ones((3, 2), np.float32)
  weight[1, 1] = 0.0
  return batch.replace(weight=jnp.asarray(weight))


@pytest.fixture
def output(batch):
  logits = 2 * jax.random.normal(jax.random.key(1), (3, *batch.targets.shape))
  return StudentOutput(logits=logits, confidence=logits[..., 0])


def _loss(config, output, batch):
  return jax.device_get(jax.jit(lambda o, b: compute_loss(config, o, b))(output, batch))


def _kl(teacher, logits, cached, weight):
  return reference.kl(logits, cached, weight, teacher.temperature, teacher.direction)[0]


def test_loss_is_the_weighted_sum_over_exits_and_teachers(output, batch):
  (total, weight), metrics = _loss(CONFIG, output, batch)
  cached = [np.asarray(t.score_logits) for t in batch.teachers]
  targets, weight_BN, expected = np.asarray(batch.targets), np.asarray(batch.weight), 0.0
  for exit_weight, logits in zip((1.0, 0.5, 2.0), np.asarray(output.logits), strict=True):
    ce = reference.cross_entropy(logits, targets, weight_BN)[0]
    kl_mentor = _kl(MENTOR, logits, cached[0], weight_BN)
    kl_teacher = _kl(TEACHER, logits, cached[1], weight_BN)
    expected += exit_weight * (0.8 * ce + 0.5 * kl_mentor + 0.3 * kl_teacher)
  assert min(ce, kl_mentor, kl_teacher) > 0.1
  np.testing.assert_allclose(total, expected / 3.5, rtol=1e-5)
  assert weight == 5
  # The terms shown are those of the last exit, the last of the loop above.
  for name, value in {"ce": ce, "kl_mentor": kl_mentor, "kl_teacher": kl_teacher}.items():
    np.testing.assert_allclose(metrics[name][0], value, rtol=1e-5)
    assert metrics[name][1] == 5


def test_prototypes_learn_by_the_cross_entropy_of_their_cosines(output, batch):
  cosine = jnp.tanh(output.logits)
  config = dataclasses.replace(CONFIG, prototype_weight=0.7)
  (total, _), metrics = _loss(config, output.replace(prototype_cosine=cosine), batch)
  (without, _), _ = _loss(CONFIG, output, batch)
  targets, weight = np.asarray(batch.targets), np.asarray(batch.weight)
  terms = [reference.cross_entropy(10 * c, targets, weight)[0] for c in np.asarray(cosine)]
  expected = 0.7 * (1.0 * terms[0] + 0.5 * terms[1] + 2.0 * terms[2]) / 3.5
  np.testing.assert_allclose(total - without, expected, rtol=1e-4)
  np.testing.assert_allclose(metrics["prototype"][0], terms[2], rtol=1e-5)


@pytest.mark.parametrize("field", ["weight", "temperature", "direction"])
def test_every_field_of_a_teacher_acts(field, output, batch):
  other = {"weight": 0.6, "temperature": 1.0, "direction": "reverse"}[field]
  changed = dataclasses.replace(MENTOR, **{field: other})
  config = dataclasses.replace(CONFIG, teachers=(changed, TEACHER))
  assert abs(_loss(config, output, batch)[0][0] - _loss(CONFIG, output, batch)[0][0]) > 1e-2


def test_teachers_are_taken_in_the_order_of_the_config(output, batch):
  swapped = batch.replace(teachers=batch.teachers[::-1])
  assert abs(_loss(CONFIG, output, swapped)[0][0] - _loss(CONFIG, output, batch)[0][0]) > 1e-2


@pytest.mark.parametrize("num_cached", [0, 1, 3])
def test_another_number_of_teachers_raises(num_cached, output, batch):
  cached = (batch.teachers * 2)[:num_cached]
  with pytest.raises(ValueError, match="zip"):
    compute_loss(CONFIG, output, batch.replace(teachers=cached))


def test_another_number_of_exits_raises(output, batch):
  with pytest.raises(ValueError, match="zip"):
    compute_loss(dataclasses.replace(CONFIG, exit_weights=(1.0, 1.0)), output, batch)


def test_padding_rows_change_nothing(output, batch):
  def padded(tree, axis):
    return jax.tree.map(lambda x: jnp.concatenate([x, jnp.full_like(x, jnp.nan)], axis=axis), tree)

  longer = batch.replace(
    targets=padded(batch.targets, 0),
    teachers=padded(batch.teachers, 0),
    weight=jnp.concatenate([batch.weight, jnp.zeros_like(batch.weight)]),
  )
  assert len(longer.targets) == 6
  wide = StudentOutput(padded(output.logits, 1), padded(output.confidence, 1))
  short, long = _loss(CONFIG, output, batch), _loss(CONFIG, wide, longer)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), short, long)

  def gradient(output, batch):
    return jax.jit(jax.grad(lambda o: compute_loss(CONFIG, o, batch)[0][0]))(output).logits

  grads = np.asarray(gradient(wide, longer))
  np.testing.assert_allclose(grads[:, :3], gradient(output, batch), rtol=1e-6)
  np.testing.assert_array_equal(grads[:, 3:], 0)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: dataclasses.replace(MENTOR, direction="sideways"), "teachers.direction: 'sideways'"),
    (lambda: dataclasses.replace(MENTOR, temperature=0.0), "teachers.temperature: 0.0"),
    (lambda: dataclasses.replace(CONFIG, teachers=(MENTOR, MENTOR)), "must differ"),
    (lambda: dataclasses.replace(CONFIG, exit_weights=(0.0, 0.0)), "exit_weights"),
    (lambda: dataclasses.replace(CONFIG, exit_weights=()), "exit_weights"),
    (lambda: dataclasses.replace(CONFIG, exit_weights=(2.0, -1.0)), "exit_weights"),
  ],
)
def test_objectives_without_sense_are_refused(make, message):
  with pytest.raises(InputError, match=message):
    make()
