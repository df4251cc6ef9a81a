"""Scores of every segment of videos, at every exit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from vsumjax import sharding
from vsumjax.data import pipeline
from vsumjax.data.windows import WindowSource
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.types import Batch, SegmentScores, StudentOutput

OnProgress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Readout:
  """What the model says of one video: logits_ENC f32[E, N, C] over its N segments."""

  logits_ENC: np.ndarray
  span_s_N2: np.ndarray

  @property
  def num_exits(self) -> int:
    return len(self.logits_ENC)

  def at_exit(self, index: int) -> SegmentScores:
    """Scores as exit `index` gives them: the expected level, Σ_c c · p_c with c = 1..C."""
    logits_NC = self.logits_ENC[index].astype(np.float64)
    probs_NC = np.exp(logits_NC - logits_NC.max(axis=-1, keepdims=True))
    probs_NC /= probs_NC.sum(axis=-1, keepdims=True)
    score_N = (probs_NC @ np.arange(1, logits_NC.shape[-1] + 1)).astype(np.float32)
    exits_N = np.full(len(score_N), index, np.int32)
    return SegmentScores(score=score_N, exit=exits_N, span_s=self.span_s_N2)


def _map_rows(change: Callable[[jax.Array, int], Any], output: StudentOutput) -> StudentOutput:
  """`change(array, axis of its rows)` of every array."""
  text_BYD = output.text_hidden
  scores = jax.tree.map(lambda x_EB: change(x_EB, 1), output.replace(text_hidden=None))
  return scores.replace(text_hidden=None if text_BYD is None else change(text_BYD, 0))


def _on_batch_axes(x: jax.Array, axis: int) -> jax.Array:
  return sharding.constrain(x, *[None] * axis, "batch")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def forward(
  model: VideoSummaryStudent,
  mesh: jax.sharding.Mesh,
  rules: sharding.LogicalRules,
  params: Any,
  batch: Batch,
) -> StudentOutput:
  """Compiled once for all scorers of a process that share model, mesh and batch size."""
  with sharding.use_mesh(mesh, rules):
    output = model.apply({"params": params}, batch)
    return _map_rows(_on_batch_axes, output)


@dataclasses.dataclass(frozen=True)
class Scorer:
  """A model on a mesh."""

  model: VideoSummaryStudent
  params: Any
  mesh: jax.sharding.Mesh
  rules: sharding.LogicalRules
  batch_size: int

  def outputs(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, StudentOutput]]:
    """Each host batch with its output on the host; the device is kept one batch ahead.

    With several processes each gives its rows and gets the output of these; all must give as many
    batches.
    """
    pending = None
    for batch in batches:
      on_device = sharding.to_global(batch, self.mesh, self.rules)
      output = forward(self.model, self.mesh, self.rules, self.params, on_device)
      if pending is not None:
        yield pending[0], _map_rows(sharding.local_rows, pending[1])
      pending = (batch, output)
    if pending is not None:
      yield pending[0], _map_rows(sharding.local_rows, pending[1])

  def read(self, source: WindowSource, on_progress: OnProgress) -> list[Readout]:
    """Scores every segment of every video of the source, in its order."""
    logits: list[list[np.ndarray]] = [[] for _ in source.videos]
    done = 0
    batches = pipeline.sequential_batches(source, self.batch_size)
    for batch, output in self.outputs(batches):
      for row, example in enumerate(batch.example):
        if example < 0:
          continue
        exists_N = batch.weight[row] > 0
        logits[source.window(example)[0]].append(output.logits[:, row][:, exists_N])
        done += 1
      on_progress(done, len(source), "windows")
    return [
      Readout(np.concatenate(parts, axis=1), source.spans(video))
      for video, parts in enumerate(logits)
    ]
