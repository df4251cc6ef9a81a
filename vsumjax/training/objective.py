"""The training objective: CE + weighted KL to cached teachers, at every exit.

  teacher  CE
  mentor   CE + φ · KL(teacher)
  student  CE + φ · KL(mentor) + ψ · KL(teacher)          (DEEVISum, 2504.21831)

φ and ψ are the weights of the entries of `teachers`. Prototypes of the exits (`ExitsConfig`) learn
by the cross entropy of their cosines, beside all that.
"""

from __future__ import annotations

import dataclasses

import jax

from vsumjax.ops import losses
from vsumjax.types import Batch, InputError, StudentOutput

Pair = tuple[jax.Array, jax.Array]
# Cosines are logits too close to each other; times 10, five classes reach probabilities up to 0.99.
PROTOTYPE_SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
  """One cached teacher.

  workdir: where it was trained; its parameters' digest must be that of the cache.
  cache: folder that `launch/cache_teacher.py` wrote.
  direction: of the divergence, one of `losses.DIRECTIONS`; over a text it is always forward.
  text_weight: of its KL over the tokens of texts; the temperature must be that of the cache.
  """

  name: str
  workdir: str
  cache: str
  weight: float
  temperature: float
  direction: str
  text_weight: float = 0.0

  def __post_init__(self) -> None:
    if self.direction not in losses.DIRECTIONS:
      raise InputError(
        f"objective.teachers.direction: {self.direction!r} is none of {losses.DIRECTIONS}"
      )
    if not self.temperature > 0:
      raise InputError(f"objective.teachers.temperature: {self.temperature} is not above 0")
    if not self.text_weight >= 0:
      raise InputError(f"objective.teachers.text_weight: {self.text_weight} is less than 0")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
  """exit_weights: one a exit, the last exit last. ce_weight: of the labels' cross entropy.

  prototype_weight: of the cross entropy of PROTOTYPE_SCALE · cosine; only with prototypes.
  text_weight: of the cross entropy of the teachers' texts; see `text_objective`.
  """

  ce_weight: float
  exit_weights: tuple[float, ...]
  teachers: tuple[TeacherConfig, ...]
  prototype_weight: float = 0.0
  text_weight: float = 0.0

  def __post_init__(self) -> None:
    if not (sum(self.exit_weights) > 0 and min(self.exit_weights) >= 0):
      raise InputError(f"objective.exit_weights: {self.exit_weights} must be >= 0, not all 0")
    names = [teacher.name for teacher in self.teachers]
    if len(set(names)) < len(names):
      raise InputError(f"objective.teachers.name: {names} must differ from each other")
    if not self.text_weight >= 0:
      raise InputError(f"objective.text_weight: {self.text_weight} is less than 0")

  @property
  def trains_text(self) -> bool:
    """Whether batches need the texts of the teachers."""
    return self.text_weight > 0 or any(teacher.text_weight > 0 for teacher in self.teachers)


def compute_loss(
  config: ObjectiveConfig, output: StudentOutput, batch: Batch
) -> tuple[Pair, dict[str, Pair]]:
  """Returns the loss as (sum, weight) and each of its terms at the last exit, likewise.

  The loss is the mean over exits (by `exit_weights`) of ce_weight · CE + Σ_t weight_t · KL_t, and
  of prototype_weight · CE(prototypes).
  """
  total, metrics, weight = 0.0, {}, None
  exits = zip(config.exit_weights, output.logits, strict=True)
  for index, (exit_weight, logits_BNC) in enumerate(exits):
    terms = {"ce": losses.cross_entropy_loss(logits_BNC, batch.targets, batch.weight)}
    scales = {"ce": config.ce_weight}
    for teacher, cached in zip(config.teachers, batch.teachers, strict=True):
      terms[f"kl_{teacher.name}"] = losses.kl_loss(
        logits_BNC,
        cached.score_logits,
        batch.weight,
        temperature=teacher.temperature,
        direction=teacher.direction,
      )
      scales[f"kl_{teacher.name}"] = teacher.weight
    if config.prototype_weight:
      cosine_BNC = PROTOTYPE_SCALE * output.prototype_cosine[index]
      terms["prototype"] = losses.cross_entropy_loss(cosine_BNC, batch.targets, batch.weight)
      scales["prototype"] = config.prototype_weight
    total += exit_weight * sum(scales[name] * terms[name][0] for name in terms)
    metrics, weight = terms, terms["ce"][1]
  loss = (total / sum(config.exit_weights), weight)
  return loss, {"loss": loss, **metrics}
