"""The train step: a pure function of state and batch, of any task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vsumjax import sharding
from vsumjax.contract import Learner, Metrics, Pair
from vsumjax.training import partition
from vsumjax.training.state import TrainState, in_float32

_LEAST_WEIGHT = 1e-6  # a batch of padding alone has weight 0 and gives zero gradients, not NaN


def make_train_step(
  learner: Learner,
  tx: optax.GradientTransformation,
  *,
  num_steps: int,
  seed: int = 0,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  freeze: tuple[str, ...] = (),
  online: Mapping[str, Learner] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """A step of gradient descent on sum / weight over the global batch.

  Of what is frozen there is neither a gradient nor a state of the optimizer nor a running mean; see
  `partition.split`.

  Args:
    learner: gives the loss of a batch.
    tx: the optimizer.
    num_steps: of the whole training.
    seed: of what the loss draws: in every step, and in every microbatch, something else.
    accumulate: microbatches a batch is cut into, one after the other on the device.
    ema_decay: of the running mean of the parameters, which `state.ema` holds if it is above 0.
    freeze: patterns of the parameters that are not trained.
    online: those teachers, by name, that are asked in the step and not read from a cache.

  Returns:
    (state, batch, online_params) -> (state, metrics); `online_params` are those of `online`, by
    name. The batch holds the answers of the others.
  """
  online = online or {}

  def train_step(
    state: TrainState, batch: Any, online_params: Mapping[str, Any] | None = None
  ) -> tuple[TrainState, Metrics]:
    trained, frozen = partition.split(state.params, freeze)
    progress = state.step.astype(jnp.float32) / num_steps
    whole, key = learner.whole(batch), jax.random.fold_in(jax.random.key(seed), state.step)

    def loss(trained: Any, batch: Any, number: jax.Array | int) -> tuple[Pair, Metrics]:
      answers = {name: of.teach(online_params[name], batch) for name, of in online.items()}
      params = partition.join(trained, frozen)
      taught = learner.taught(batch, answers) if online else batch
      return learner.loss(params, taught, progress, jax.random.fold_in(key, number), whole)

    grads, metrics = _gradient_over(loss, trained, batch, accumulate)
    updates, opt_state = tx.update(grads, state.opt_state, trained)
    metrics["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))
    trained, step = optax.apply_updates(trained, updates), state.step + 1
    ema = _running_mean(state.ema, trained, ema_decay, step) if ema_decay else state.ema
    params = partition.join(trained, frozen)
    return TrainState(step=step, params=params, opt_state=opt_state, ema=ema), metrics

  return train_step


LossFn = Callable[[Any, Any, jax.Array | int], tuple[Pair, Metrics]]  # the number of a microbatch


def gradient(loss: LossFn, params: Any, batch: Any) -> tuple[Any, Metrics]:
  """Gradient of sum / weight of a loss, and its metrics."""

  def mean(params: Any) -> tuple[jax.Array, Metrics]:
    (total, weight), metrics = loss(params, batch, 0)
    return total / jnp.maximum(weight, _LEAST_WEIGHT), metrics

  return jax.grad(mean, has_aux=True)(params)


def accumulated_gradient(loss: LossFn, params: Any, microbatches: Any) -> tuple[Any, Metrics]:
  """What `gradient` gives of the whole batch, with the memory of one of its microbatches.

  Sums, weights and gradients of the microbatches are added in float32 and divided last, so that a
  row counts the same in whichever of them it is.
  """

  def total(params: Any, batch: Any, number: Any) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
    (total, weight), metrics = loss(params, batch, number)
    return total, (weight, metrics)

  def add(sums: Any, numbered: tuple[jax.Array, Any]) -> tuple[Any, None]:
    number, batch = numbered
    terms = in_float32(jax.grad(total, has_aux=True)(params, batch, number))
    return jax.tree.map(jnp.add, sums, terms), None

  numbers = jnp.arange(jax.tree.leaves(microbatches)[0].shape[0])
  first = jax.tree.map(lambda x: x[0], microbatches)
  _, aux = jax.eval_shape(total, params, first, 0)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (params, aux))
  (grads, (weight, metrics)), _ = jax.lax.scan(add, zeros, (numbers, microbatches))
  return jax.tree.map(lambda g: g / jnp.maximum(weight, _LEAST_WEIGHT), grads), metrics


def cut(batch: Any, num_microbatches: int) -> Any:
  """[B, ...] -> [M, B / M, ...], each microbatch spread over all devices as the batch was.

  Microbatch m holds rows m, m + M, m + 2 M, ...: of a device's rows 0 .. 3, 0 and 2 are in the
  first of two microbatches, and no row moves to another device.
  """

  def cut_rows(x: jax.Array) -> jax.Array:
    rows = x.reshape(-1, num_microbatches, *x.shape[1:])
    return sharding.constrain(jnp.moveaxis(rows, 1, 0), None, "batch")

  return jax.tree.map(cut_rows, batch)


def _gradient_over(
  loss: LossFn, params: Any, batch: Any, num_microbatches: int
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
