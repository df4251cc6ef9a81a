"""The train step and the evaluation step: pure functions of state and batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vsumjax import sharding
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.tasks.score.objective import ObjectiveConfig, Pair, compute_loss
from vsumjax.tasks.score.text_objective import TextObjective, add_text
from vsumjax.training import partition
from vsumjax.training.state import TrainState, in_float32
from vsumjax.types import Batch, TeacherTargets

Metrics = dict[str, Pair]
_LEAST_WEIGHT = 1e-6  # a batch of padding alone has weight 0 and gives zero gradients, not NaN


def make_train_step(
  model: VideoSummaryStudent,
  objective: ObjectiveConfig,
  tx: optax.GradientTransformation,
  *,
  num_steps: int,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  freeze: tuple[str, ...] = (),
  online: Mapping[str, VideoSummaryStudent] | None = None,
  text: TextObjective | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """A step of gradient descent on sum / weight over the global batch.

  Of what is frozen there is neither a gradient nor a state of the optimizer nor a running mean; see
  `partition.split`.

  Args:
    model: gives the output of a batch.
    objective: gives the loss of an output.
    tx: the optimizer.
    num_steps: of the whole training.
    accumulate: microbatches a batch is cut into, one after the other on the device.
    ema_decay: of the running mean of the parameters, which `state.ema` holds if it is above 0.
    freeze: patterns of the parameters that are not trained.
    online: models of those teachers, by name, that are asked in the step and not read from a cache.
    text: what of the batch's texts is trained; its mean over tokens is added to that over segments.

  Returns:
    (state, batch, online_params) -> (state, metrics); `online_params` are those of `online`, by
    name. `batch.teachers` holds the others, in the order of the objective.
  """
  online = online or {}

  def train_step(
    state: TrainState, batch: Batch, online_params: Mapping[str, Any] | None = None
  ) -> tuple[TrainState, Metrics]:
    trained, frozen = partition.split(state.params, freeze)
    progress = state.step.astype(jnp.float32) / num_steps
    segments_per_token = 0.0 if text is None else _segments_per_token(batch)

    def loss(trained: Any, batch: Batch) -> tuple[Pair, Metrics]:
      answers = {name: ask(of, online_params[name], batch) for name, of in online.items()}
      params, answered = partition.join(trained, frozen), _with_answers(objective, batch, answers)
      output = model.apply({"params": params}, batch)
      scores = compute_loss(objective, output, answered, progress)
      if text is None:
        return scores
      return add_text(text, scores, output, params, answered, progress, segments_per_token)

    grads, metrics = _gradient_over(loss, trained, batch, accumulate)
    updates, opt_state = tx.update(grads, state.opt_state, trained)
    metrics["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))
    trained, step = optax.apply_updates(trained, updates), state.step + 1
    ema = _running_mean(state.ema, trained, ema_decay, step) if ema_decay else state.ema
    params = partition.join(trained, frozen)
    return TrainState(step=step, params=params, opt_state=opt_state, ema=ema), metrics

  return train_step


def ask(model: VideoSummaryStudent, params: Any, batch: Batch) -> TeacherTargets:
  """What a model says of a batch at its last exit; no gradient flows to it."""
  output = model.apply({"params": params}, batch.replace(teachers=()))
  return TeacherTargets(jax.lax.stop_gradient(output.logits[-1]))


def _with_answers(
  objective: ObjectiveConfig, batch: Batch, answers: Mapping[str, TeacherTargets]
) -> Batch:
  cached = iter(batch.teachers)
  named = [answers.get(teacher.name) for teacher in objective.teachers]
  return batch.replace(teachers=tuple(next(cached) if said is None else said for said in named))


def _segments_per_token(batch: Batch) -> jax.Array:
  """What brings a sum over tokens to the weight of segments: sum / segments is then its mean."""
  return jnp.maximum(batch.weight.sum(), _LEAST_WEIGHT) / jnp.maximum(batch.text.weight.sum(), 1.0)


LossFn = Callable[[Any, Batch], tuple[Pair, Metrics]]


def gradient(loss: LossFn, params: Any, batch: Batch) -> tuple[Any, Metrics]:
  """Gradient of sum / weight of a loss, and its metrics."""

  def mean(params: Any) -> tuple[jax.Array, Metrics]:
    (total, weight), metrics = loss(params, batch)
    return total / jnp.maximum(weight, _LEAST_WEIGHT), metrics

  return jax.grad(mean, has_aux=True)(params)


def accumulated_gradient(loss: LossFn, params: Any, microbatches: Batch) -> tuple[Any, Metrics]:
  """What `gradient` gives of the whole batch, with the memory of one of its microbatches.

  Sums, weights and gradients of the microbatches are added in float32 and divided last, so that a
  row counts the same in whichever of them it is.
  """

  def total(params: Any, batch: Batch) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
    (total, weight), metrics = loss(params, batch)
    return total, (weight, metrics)

  def add(sums: Any, batch: Batch) -> tuple[Any, None]:
    terms = in_float32(jax.grad(total, has_aux=True)(params, batch))
    return jax.tree.map(jnp.add, sums, terms), None

  first = jax.tree.map(lambda x: x[0], microbatches)
  _, aux = jax.eval_shape(total, params, first)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (params, aux))
  (grads, (weight, metrics)), _ = jax.lax.scan(add, zeros, microbatches)
  return jax.tree.map(lambda g: g / jnp.maximum(weight, _LEAST_WEIGHT), grads), metrics


def cut(batch: Batch, num_microbatches: int) -> Batch:
  """[B, ...] -> [M, B / M, ...], each microbatch spread over all devices as the batch was.

  Microbatch m holds rows m, m + M, m + 2 M, ...: of a device's rows 0 .. 3, 0 and 2 are in the
  first of two microbatches, and no row moves to another device.
  """

  def cut_rows(x: jax.Array) -> jax.Array:
    rows = x.reshape(-1, num_microbatches, *x.shape[1:])
    return sharding.constrain(jnp.moveaxis(rows, 1, 0), None, "batch")

  return jax.tree.map(cut_rows, batch)


def _gradient_over(
  loss: LossFn, params: Any, batch: Batch, num_microbatches: int
) -> tuple[Any, Metrics]:
  if num_microbatches == 1:
    return gradient(loss, params, batch)
  return accumulated_gradient(loss, params, cut(batch, num_microbatches))


def _running_mean(ema: Any, trained: Any, decay: float, step: jax.Array) -> Any:
  rate = ema_rate(decay, step)
  return jax.tree.map(lambda m, p: (1 - rate) * m + rate * p, ema, in_float32(trained))


def ema_rate(decay: float, step: jax.Array) -> jax.Array:
  """The weight of the newest parameters in the running mean after `step` (1, 2, ...) steps.

  (1 - d) / (1 - d^step): the mean that starts at 0 and is divided by 1 - d^step, as Adam's moments
  (1412.6980, section 3), without the division: the first step's parameters have weight 1.
  Example: decay 0.5 gives 1, 2/3, 4/7, 8/15, ..., and in the end 1/2.
  """
  return (1 - decay) / -jnp.expm1(step.astype(jnp.float32) * math.log(decay))


def make_eval_step(
  model: VideoSummaryStudent, objective: ObjectiveConfig
) -> Callable[[object, Batch], Metrics]:
  """Cross entropy on a batch, as (sum, weight): `loss` of all exits, `ce` of the last."""
  labels_only = ObjectiveConfig(1.0, objective.exit_weights, ())

  def eval_step(params: object, batch: Batch) -> Metrics:
    output = model.apply({"params": params}, batch.replace(teachers=()))
    return compute_loss(labels_only, output, batch.replace(teachers=()), jnp.ones(()))[1]

  return eval_step
