"""The training objective: CE + weighted KL to any number of teachers, at every exit.

  teacher  CE
  mentor   CE + φ · KL(teacher)
  student  CE + φ · KL(mentor) + ψ · KL(teacher)          (DEEVISum, 2504.21831)

φ and ψ are the weights of the entries of `teachers`; like all weights they may follow a schedule.
`ranking_weight` adds a loss of order, as Kendall's τ measures it, of the labels at every exit.
With `self_distillation` the last exit teaches the earlier ones as well (1905.08094). Prototypes of
the exits (`ExitsConfig`) learn by the cross entropy of their cosines, beside all that.

What is labelled is taught by its labels, all that exists by teachers: CE and ranking are means over
labelled segments, KL and self-distillation over all, and so are prototypes, which follow the
teachers where there is no label. A labelled segment thus has the same part in CE whatever else is
in its batch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vsumjax.ops import losses, schedules
from vsumjax.ops.schedules import Schedule
from vsumjax.types import Batch, InputError, StudentOutput

Pair = tuple[jax.Array, jax.Array]
# Cosines are logits too close to each other; times 10, five classes reach probabilities up to 0.99.
PROTOTYPE_SCALE = 10.0
_SELF = "self"  # the last exit, among the names of teachers


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
  """One teacher.

  workdir: where it was trained; its parameters' digest must be that of the cache.
  cache: folder that `launch/cache_teacher.py` wrote; "" runs the teacher in every step instead
    ("online"), which costs its forward pass and its memory.
  weight: of its KL, a number or a schedule.
  direction: "forward", KL(teacher ‖ student), "reverse", KL(student ‖ teacher), or "js".
  exit_weights: of its KL at the exits, one an exit; () takes those of the objective.
  text_weight: of its KL over the tokens of texts (see `text_objective`), a number or a schedule;
    the temperature must be that of the cache then.
  """

  name: str
  workdir: str
  cache: str
  weight: Schedule
  temperature: float
  direction: str
  exit_weights: tuple[Schedule, ...] = ()
  text_weight: Schedule = 0.0

  def __post_init__(self) -> None:
    _check_divergence("objective.teachers", self.direction, self.temperature)
    schedules.check("objective.teachers.weight", self.weight)
    schedules.check("objective.teachers.text_weight", self.text_weight)
    if self.exit_weights:
      schedules.check_sum("objective.teachers.exit_weights", self.exit_weights)


@dataclasses.dataclass(frozen=True)
class SelfDistillationConfig:
  """The last exit of the student as a teacher of its earlier ones; fields as in `TeacherConfig`."""

  weight: Schedule = 0.0
  temperature: float = 1.0
  direction: str = "forward"

  def __post_init__(self) -> None:
    _check_divergence("objective.self_distillation", self.direction, self.temperature)
    schedules.check("objective.self_distillation.weight", self.weight)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
  """Weights are numbers or schedules.

  ce_weight: of the labels' cross entropy.
  exit_weights: one an exit, the last exit last.
  prototype_weight: of the cross entropy of PROTOTYPE_SCALE · cosine; only with prototypes.
  text_weight: of the cross entropy of the texts that teachers wrote; see `text_objective`.
  ranking_weight: of `losses.ranking_loss`; its pairs are those of a batch, or of a microbatch where
    gradients are accumulated.
  """

  ce_weight: Schedule
  exit_weights: tuple[Schedule, ...]
  teachers: tuple[TeacherConfig, ...]
  prototype_weight: float = 0.0
  self_distillation: SelfDistillationConfig = dataclasses.field(
    default_factory=SelfDistillationConfig
  )
  text_weight: Schedule = 0.0
  ranking_weight: Schedule = 0.0

  def __post_init__(self) -> None:
    schedules.check("objective.ce_weight", self.ce_weight)
    schedules.check("objective.text_weight", self.text_weight)
    schedules.check("objective.ranking_weight", self.ranking_weight)
    schedules.check_sum("objective.exit_weights", self.exit_weights)
    names = [teacher.name for teacher in self.teachers]
    if len(set(names)) < len(names):
      raise InputError(f"objective.teachers.name: {names} must differ from each other")
    if not 0 <= self.prototype_weight < math.inf:
      raise InputError(f"objective.prototype_weight: {self.prototype_weight} must be 0 or more")
    if self.has_self_distillation and _SELF in names:
      raise InputError(
        f"objective.teachers.name: {_SELF!r} is that of objective.self_distillation; rename it"
      )
    for index, teacher in enumerate(self.teachers):
      if teacher.exit_weights and len(teacher.exit_weights) != len(self.exit_weights):
        raise InputError(
          f"objective.teachers[{index}].exit_weights: {len(teacher.exit_weights)} weights for the "
          f"{len(self.exit_weights)} of objective.exit_weights"
        )
    if schedules.is_off(self.ce_weight) and not self._has_other_terms:
      raise InputError("objective.ce_weight: no term has a weight above 0, so nothing is learned")
    if self.has_self_distillation:
      if len(self.exit_weights) < 2:
        raise InputError("objective.self_distillation.weight: needs two or more exits")
      schedules.check_sum("objective.exit_weights, the last left out", self.exit_weights[:-1])

  @property
  def has_self_distillation(self) -> bool:
    return not schedules.is_off(self.self_distillation.weight)

  @property
  def is_taught(self) -> bool:
    """Whether a teacher says something of segments, so that these need no labels."""
    return any(not schedules.is_off(teacher.weight) for teacher in self.teachers)

  @property
  def _has_other_terms(self) -> bool:
    ranked = not schedules.is_off(self.ranking_weight)
    others = self.has_self_distillation or self.trains_text or self.prototype_weight > 0
    return self.is_taught or ranked or others

  @property
  def trains_text(self) -> bool:
    """Whether batches need the texts of the teachers."""
    weights = [self.text_weight, *(teacher.text_weight for teacher in self.teachers)]
    return not all(map(schedules.is_off, weights))


@dataclasses.dataclass(frozen=True)
class _Term:
  """One term of the loss: `loss_at(exit)` is its (sum, weight) there.

  of_labels: it is of labelled segments alone, not of all.
  """

  weight: Schedule
  exit_weights: tuple[Schedule, ...]
  loss_at: Callable[[int], Pair]
  of_labels: bool = False


def compute_loss(
  config: ObjectiveConfig,
  output: StudentOutput,
  batch: Batch,
  progress: jax.Array | float,
  per_label: jax.Array | float | None = None,
) -> tuple[Pair, dict[str, Pair]]:
  """Returns the loss as (sum, weight) and each of its terms at its last exit, likewise.

  The loss is ce_weight · CE + Σ_t weight_t · KL_t + the terms of ranking, prototypes and
  self-distillation, each of them a mean over exits, by `exit_weights` or the term's own.

  Args:
    config: of the terms.
    output: of the student.
    batch: its teachers in the order of the config.
    progress: share of the run that is done, for schedules.
    per_label: segments for each labelled one, of the whole batch that `batch` is a part of; by
      default of `batch`. The weight of the loss is that of all segments.
  """
  per_label = segments_per_label(batch) if per_label is None else per_label
  total, metrics = 0.0, {}
  for name, term in _terms(config, output, batch).items():
    pairs = [term.loss_at(index) for index in range(len(term.exit_weights))]
    at_exits = [schedules.value_at(weight, progress) for weight in term.exit_weights]
    mean = sum(w * pair[0] for w, pair in zip(at_exits, pairs, strict=True)) / sum(at_exits)
    scale = per_label if term.of_labels else 1.0
    total += schedules.value_at(term.weight, progress) * scale * mean
    metrics[name] = pairs[-1]
  loss = (total, batch.weight.sum())
  return loss, {"loss": loss, **metrics}


def segments_per_label(batch: Batch) -> jax.Array:
  """Segments of a batch for each labelled one; 0 in a batch without labels."""
  labels = batch.label_weight.sum()
  return jnp.where(labels > 0, batch.weight.sum() / jnp.maximum(labels, 1e-6), 0.0)


def _terms(config: ObjectiveConfig, output: StudentOutput, batch: Batch) -> dict[str, _Term]:
  if len(output.logits) != len(config.exit_weights):
    raise ValueError(f"{len(output.logits)} exits, {len(config.exit_weights)} weights of exits")
  label_weight_BN = batch.label_weight

  def cross_entropy(index: int) -> Pair:
    return losses.cross_entropy_loss(output.logits[index], batch.targets, label_weight_BN)

  def ranking(index: int) -> Pair:
    return losses.ranking_loss(output.logits[index], batch.targets, label_weight_BN)

  def prototype(targets_BNC: jax.Array, index: int) -> Pair:
    cosine_BNC = PROTOTYPE_SCALE * output.prototype_cosine[index]
    return losses.cross_entropy_loss(cosine_BNC, targets_BNC, batch.weight)

  def kl(to: TeacherConfig | SelfDistillationConfig, teacher_BNC: jax.Array, index: int) -> Pair:
    return losses.kl_loss(
      output.logits[index],
      teacher_BNC,
      batch.weight,
      temperature=to.temperature,
      direction=to.direction,
    )

  exits, partial = config.exit_weights, functools.partial
  terms = {"ce": _Term(config.ce_weight, exits, cross_entropy, of_labels=True)}
  for teacher, said in zip(config.teachers, batch.teachers, strict=True):
    terms[f"kl_{teacher.name}"] = _Term(
      teacher.weight, teacher.exit_weights or exits, partial(kl, teacher, said.score_logits)
    )
  if not schedules.is_off(config.ranking_weight):
    terms["ranking"] = _Term(config.ranking_weight, exits, ranking, of_labels=True)
  if config.prototype_weight:
    terms["prototype"] = _Term(
      config.prototype_weight, exits, partial(prototype, _prototype_targets(output, batch))
    )
  if config.has_self_distillation:
    own = config.self_distillation
    terms[f"kl_{_SELF}"] = _Term(own.weight, exits[:-1], partial(kl, own, output.logits[-1]))
  return terms


def _prototype_targets(output: StudentOutput, batch: Batch) -> jax.Array:
  """f32[B, N, C]: labels, and where there are none the mean of the teachers, or the last exit."""
  said = [teacher.score_logits for teacher in batch.teachers] or [output.logits[-1]]
  taught = jnp.mean(jnp.stack([jax.nn.softmax(logits) for logits in said]), axis=0)
  is_labelled_BN1 = batch.label_weight[..., None] > 0
  return jnp.where(is_labelled_BN1, batch.targets, jax.lax.stop_gradient(taught))


def _check_divergence(key: str, direction: str, temperature: float) -> None:
  if direction not in losses.DIRECTIONS:
    raise InputError(f"{key}.direction: {direction!r} is not one of {losses.DIRECTIONS}")
  if not 0 < temperature < math.inf:
    raise InputError(f"{key}.temperature: {temperature} is not a number above 0")
