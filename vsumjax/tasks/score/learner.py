"""What is learnt: the loss of the scores, with that of texts beside it, and what a teacher says."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vsumjax.contract import Learner, Metrics, Progress
from vsumjax.models.student import VideoSummaryStudent, init_params
from vsumjax.tasks.score.objective import ObjectiveConfig, compute_loss, segments_per_label
from vsumjax.tasks.score.text_objective import TextObjective, add_text
from vsumjax.types import Batch, Pair, TeacherTargets

_LEAST_WEIGHT = 1e-6  # as of a step: of a batch of padding alone


@dataclasses.dataclass(frozen=True)
class ScoreLearner(Learner):
  """A learner of `types.Batch`.

  model: gives the output of a batch.
  objective: gives the loss of an output.
  text: what of the batch's texts is trained; its mean over tokens is added to that over segments.
  """

  model: VideoSummaryStudent
  objective: ObjectiveConfig
  text: TextObjective | None = None

  @property
  def teacher_names(self) -> list[str]:
    return [teacher.name for teacher in self.objective.teachers]

  def init(self, key: jax.Array, batch: Batch) -> Any:
    """Boxed parameters.

    Raises:
      InputError: if one of the config's LoRA targets matches no weight.
    """
    return init_params(self.model, batch, key)

  def whole(self, batch: Batch) -> tuple[jax.Array, jax.Array | float]:
    """What brings sums over labelled segments and over tokens to the weight of all segments.

    sum · factor / segments is then the mean of either.
    """
    per_label = segments_per_label(batch)
    if self.text is None:
      return per_label, 0.0
    segments = jnp.maximum(batch.weight.sum(), _LEAST_WEIGHT)
    return per_label, segments / jnp.maximum(batch.text.weight.sum(), 1.0)

  def loss(
    self,
    params: Any,
    batch: Batch,
    progress: Progress,
    rng: jax.Array,
    whole: tuple[jax.Array, jax.Array | float],
  ) -> tuple[Pair, Metrics]:
    """See `objective.compute_loss` and `text_objective.add_text`; nothing is drawn from `rng`."""
    del rng
    output = self.model.apply({"params": params}, batch)
    per_label, per_token = whole
    scores = compute_loss(self.objective, output, batch, progress, per_label)
    if self.text is None:
      return scores
    return add_text(self.text, scores, output, params, batch, progress, per_token)

  def evaluate(self, params: Any, batch: Batch) -> Metrics:
    """Cross entropy on a batch, as (sum, weight): `loss` of all exits, `ce` of the last."""
    labels_only = ObjectiveConfig(1.0, self.objective.exit_weights, ())
    batch = batch.replace(teachers=())
    output = self.model.apply({"params": params}, batch)
    return compute_loss(labels_only, output, batch, jnp.ones(()))[1]

  def teach(self, params: Any, batch: Batch) -> TeacherTargets:
    """What the last exit says."""
    output = self.model.apply({"params": params}, batch.replace(teachers=()))
    return TeacherTargets(jax.lax.stop_gradient(output.logits[-1]))
