"""The train step and the evaluation step: pure functions of state and batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vsumjax.models import lora
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.training.objective import ObjectiveConfig, Pair, compute_loss
from vsumjax.training.state import TrainState
from vsumjax.types import Batch

Metrics = dict[str, Pair]


def make_train_step(
  model: VideoSummaryStudent,
  objective: ObjectiveConfig,
  tx: optax.GradientTransformation,
  num_steps: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """A step of gradient descent on sum / weight over the global batch.

  Of a frozen base there is neither a gradient nor a state of the optimizer; see `lora.split`.
  """

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    trained, frozen = lora.split(state.params)

    def loss_fn(trained):
      output = model.apply({"params": lora.join(trained, frozen)}, batch)
      (total, weight), metrics = compute_loss(
        objective, output, batch, progress=state.step / num_steps
      )
      # A batch of padding alone has weight 0 and gives zero gradients, not NaN.
      return total / jnp.maximum(weight, 1e-6), metrics

    grads, metrics = jax.grad(loss_fn, has_aux=True)(trained)
    updates, opt_state = tx.update(grads, state.opt_state, trained)
    one = jnp.ones(())
    metrics["grad_norm"] = (optax.tree.norm(grads), one)
    params = lora.join(optax.apply_updates(trained, updates), frozen)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

  return train_step


def make_eval_step(
  model: VideoSummaryStudent, objective: ObjectiveConfig
) -> Callable[[object, Batch], Metrics]:
  """Cross entropy on a batch, as (sum, weight): `loss` of all exits, `ce` of the last."""
  labels_only = ObjectiveConfig(1.0, objective.exit_weights, ())

  def eval_step(params: object, batch: Batch) -> Metrics:
    output = model.apply({"params": params}, batch.replace(teachers=()))
    return compute_loss(labels_only, output, batch.replace(teachers=()), 1.0)[1]

  return eval_step
