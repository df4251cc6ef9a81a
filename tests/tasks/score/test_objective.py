"""The loss of several exits and teachers, against sums made by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import testing
from vsumjax.ops import reference
from vsumjax.tasks.score.objective import (
  ObjectiveConfig,
  SelfDistillationConfig,
  TeacherConfig,
  compute_loss,
  segments_per_label,
)
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


def _loss(config, output, batch, progress=0.5):
  return jax.device_get(
    jax.jit(lambda o, b, p: compute_loss(config, o, b, p))(output, batch, progress)
  )


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


@pytest.fixture
def half_labelled(batch):
  """Three of the five segments have labels."""
  is_labelled = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
  return batch.replace(targets=batch.targets * is_labelled[..., None])


def test_labels_teach_the_labelled_and_teachers_all_that_exist(output, half_labelled):
  (total, weight), metrics = _loss(CONFIG, output, half_labelled)
  cached = [np.asarray(t.score_logits) for t in half_labelled.teachers]
  targets, exists = np.asarray(half_labelled.targets), np.asarray(half_labelled.weight)
  labelled, expected = exists * (targets.sum(axis=-1) > 0), 0.0
  assert (labelled.sum(), exists.sum()) == (3, 5)
  for exit_weight, logits in zip((1.0, 0.5, 2.0), np.asarray(output.logits), strict=True):
    ce = reference.cross_entropy(logits, targets, labelled)[0]
    kl_mentor = _kl(MENTOR, logits, cached[0], exists)
    kl_teacher = _kl(TEACHER, logits, cached[1], exists)
    expected += exit_weight * (0.8 * ce / 3 + (0.5 * kl_mentor + 0.3 * kl_teacher) / 5)
  np.testing.assert_allclose(total / weight, expected / 3.5, rtol=1e-5)
  assert (metrics["ce"][1], metrics["kl_mentor"][1]) == (3, 5)


def test_unlabelled_rows_leave_alone_what_a_labelled_one_weighs(output, batch):
  """Of the gradient of CE and ranking; for an unlabelled row it is exactly 0."""
  config = ObjectiveConfig(1.0, (1.0, 0.5, 2.0), (), ranking_weight=0.5)
  batch = batch.replace(teachers=())

  def gradient(rows, targets):
    part = batch.replace(targets=targets[:rows], weight=batch.weight[:rows])

    def mean(logits):
      (total, weight), _ = compute_loss(config, output.replace(logits=logits), part, 0.5)
      return total / weight

    return np.asarray(jax.grad(mean)(output.logits[:, :rows]))

  mixed = gradient(3, batch.targets.at[2].set(0.0))
  np.testing.assert_allclose(mixed[:, :2], gradient(2, batch.targets), rtol=1e-5, atol=1e-8)
  assert np.abs(mixed[:, :2]).max() > 0.01
  np.testing.assert_array_equal(mixed[:, 2], 0.0)


def test_microbatches_add_up_whatever_labels_each_has(output, half_labelled):
  config = dataclasses.replace(CONFIG, ce_weight=0.8)
  (total, weight), _ = _loss(config, output, half_labelled)
  per_label = segments_per_label(half_labelled)
  sums = np.zeros(2)
  for row in range(3):
    part = jax.tree.map(lambda x, row=row: x[row : row + 1], half_labelled)
    own = StudentOutput(output.logits[:, row : row + 1], output.confidence[:, row : row + 1])
    sums += compute_loss(config, own, part, 0.5, per_label)[0]
  np.testing.assert_allclose(sums, [total, weight], rtol=1e-5)


def test_a_batch_without_labels_is_taught_by_its_teachers_alone(output, batch):
  unlabelled = batch.replace(targets=jnp.zeros_like(batch.targets))
  (total, weight), metrics = _loss(CONFIG, output, unlabelled)
  (taught, _), _ = _loss(dataclasses.replace(CONFIG, ce_weight=0.0), output, unlabelled)
  np.testing.assert_allclose(total, taught, rtol=1e-6)
  assert weight == 5 and tuple(metrics["ce"]) == (0, 0)


def test_prototypes_of_the_unlabelled_follow_the_mean_of_the_teachers(output, half_labelled):
  cosine = jnp.tanh(output.logits)
  config = dataclasses.replace(CONFIG, prototype_weight=0.7)
  _, metrics = _loss(config, output.replace(prototype_cosine=cosine), half_labelled)
  said = [np.asarray(jax.nn.softmax(t.score_logits)) for t in half_labelled.teachers]
  targets, weight = np.array(half_labelled.targets), np.asarray(half_labelled.weight)
  is_unlabelled = targets.sum(axis=-1) == 0
  targets[is_unlabelled] = ((said[0] + said[1]) / 2)[is_unlabelled]
  expected = reference.cross_entropy(10 * np.asarray(cosine)[-1], targets, weight)[0]
  np.testing.assert_allclose(metrics["prototype"][0], expected, rtol=1e-5)


def test_order_is_learnt_at_every_exit(output, batch):
  (total, _), metrics = _loss(dataclasses.replace(CONFIG, ranking_weight=0.7), output, batch)
  (without, _), _ = _loss(CONFIG, output, batch)
  targets, weight = np.asarray(batch.targets), np.asarray(batch.weight)
  terms = [reference.ranking(logits, targets, weight) for logits in np.asarray(output.logits)]
  expected = 0.7 * (1.0 * terms[0][0] + 0.5 * terms[1][0] + 2.0 * terms[2][0]) / 3.5
  np.testing.assert_allclose(total - without, expected, rtol=1e-4)
  np.testing.assert_allclose(metrics["ranking"], terms[2], rtol=1e-5)


def test_the_last_exit_teaches_the_earlier_ones_and_learns_nothing_from_them(output, batch):
  own = SelfDistillationConfig(0.6, 2.0, "forward")
  config = dataclasses.replace(CONFIG, self_distillation=own)
  (total, _), metrics = _loss(config, output, batch)
  (without, _), _ = _loss(CONFIG, output, batch)
  logits, weight = np.asarray(output.logits), np.asarray(batch.weight)
  terms = [reference.kl(logits[e], logits[2], weight, 2.0, "forward")[0] for e in (0, 1)]
  np.testing.assert_allclose(total - without, 0.6 * (1.0 * terms[0] + 0.5 * terms[1]) / 1.5, 1e-4)
  np.testing.assert_allclose(metrics["kl_self"][0], terms[1], rtol=1e-5)

  def gradient(config):
    return jax.grad(lambda o: compute_loss(config, o, batch, 0.5)[0][0])(output).logits

  changed = np.abs(np.asarray(gradient(config) - gradient(CONFIG))).max(axis=(1, 2, 3))
  assert (changed[:2] > 1e-3).all()
  assert changed[2] == 0


def test_weights_follow_their_schedules(output, batch):
  fading = dataclasses.replace(MENTOR, weight=((0.0, 1.0), (1.0, 0.0)))
  deeper = (((0.0, 1.0), (1.0, 0.0)), 0.5, ((0.0, 0.0), (1.0, 2.0)))
  scheduled = ObjectiveConfig(((0.0, 0.2), (1.0, 1.0)), deeper, (fading, TEACHER))
  for progress in (0.0, 0.25, 1.0):
    now = ObjectiveConfig(
      0.2 + 0.8 * progress,
      (1.0 - progress, 0.5, 2.0 * progress),
      (dataclasses.replace(MENTOR, weight=1.0 - progress), TEACHER),
    )
    found, expected = _loss(scheduled, output, batch, progress), _loss(now, output, batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  assert abs(_loss(scheduled, output, batch, 0.0)[0][0] - found[0][0]) > 1e-2


def test_a_teacher_may_weigh_the_exits_otherwise(output, batch):
  early = dataclasses.replace(MENTOR, exit_weights=(3.0, 0.0, 0.0))
  config = dataclasses.replace(CONFIG, teachers=(early, TEACHER))
  cached, weight = np.asarray(batch.teachers[0].score_logits), np.asarray(batch.weight)
  kl = [_kl(MENTOR, logits, cached, weight) for logits in np.asarray(output.logits)]
  usual = (1.0 * kl[0] + 0.5 * kl[1] + 2.0 * kl[2]) / 3.5
  difference = _loss(config, output, batch)[0][0] - _loss(CONFIG, output, batch)[0][0]
  np.testing.assert_allclose(difference, 0.5 * (kl[0] - usual), rtol=1e-4)


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
    compute_loss(CONFIG, output, batch.replace(teachers=cached), 0.5)


def test_another_number_of_exits_raises(output, batch):
  with pytest.raises(ValueError, match="3 exits, 2 weights"):
    compute_loss(dataclasses.replace(CONFIG, exit_weights=(1.0, 1.0)), output, batch, 0.5)


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
    return jax.jit(jax.grad(lambda o: compute_loss(CONFIG, o, batch, 0.5)[0][0]))(output).logits

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
    (lambda: dataclasses.replace(CONFIG, ce_weight=-1.0), "objective.ce_weight"),
    (lambda: dataclasses.replace(MENTOR, weight=((0.5, 1.0), (0.2, 1.0))), "teachers.weight"),
    (
      lambda: ObjectiveConfig(1.0, (1.0,), (dataclasses.replace(MENTOR, exit_weights=(1.0, 1.0)),)),
      r"teachers\[0\].exit_weights: 2 weights for the 1",
    ),
    (lambda: SelfDistillationConfig(1.0, 0.0), "self_distillation.temperature"),
    (lambda: dataclasses.replace(MENTOR, temperature=float("inf")), "teachers.temperature: inf"),
    (
      lambda: ObjectiveConfig(
        1.0,
        (1.0, 1.0),
        (dataclasses.replace(MENTOR, name="self"),),
        self_distillation=SelfDistillationConfig(1.0),
      ),
      "teachers.name: 'self' is that of objective.self_distillation",
    ),
    (
      lambda: ObjectiveConfig(1.0, (1.0,), (), 0.0, SelfDistillationConfig(1.0)),
      "self_distillation.weight: needs two or more exits",
    ),
    (
      lambda: ObjectiveConfig(1.0, (0.0, 1.0), (), 0.0, SelfDistillationConfig(1.0)),
      "the last left out",
    ),
    (lambda: dataclasses.replace(CONFIG, ranking_weight=-1.0), "objective.ranking_weight"),
    (lambda: ObjectiveConfig(0.0, (1.0,), ()), "objective.ce_weight: no term has a weight"),
    (
      lambda: ObjectiveConfig(0.0, (1.0,), (dataclasses.replace(MENTOR, weight=0.0),)),
      "objective.ce_weight: no term has a weight",
    ),
  ],
)
def test_objectives_without_sense_are_refused(make, message):
  with pytest.raises(InputError, match=message):
    make()


@pytest.mark.parametrize(
  "other",
  [
    {"teachers": (MENTOR,)},
    {"prototype_weight": 0.1},
    {"self_distillation": SelfDistillationConfig(1.0)},
    {"text_weight": 1.0},
    {"ranking_weight": 1.0},
  ],
)
def test_any_term_is_enough_to_learn_by(other):
  ObjectiveConfig(**({"ce_weight": 0.0, "exit_weights": (1.0, 1.0), "teachers": ()} | other))
