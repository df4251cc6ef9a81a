"""A trained model asked, batch after batch, for what a teacher cache keeps of its answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax

from vsumjax import sharding
from vsumjax.contract import Learner, Task


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A trained task on a mesh.

  identity: of the cache that its answers are for.
  batch_size: rows at once, of all devices together.
  """

  task: Task
  params: Any
  mesh: jax.sharding.Mesh
  rules: sharding.LogicalRules
  batch_size: int
  identity: Any

  def answers(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Of each host batch what the cache keeps; the device is kept one batch ahead.

    With several processes each gives its rows and gets the answers to these; all must give as many
    batches.
    """
    pending = None
    for batch in batches:
      on_device = sharding.to_global(batch, self.mesh, self.rules)
      said = teach(self.task.learner, self.mesh, self.rules, self.params, on_device)
      if pending is not None:
        yield self._on_host(*pending)
      pending = (batch, said)
    if pending is not None:
      yield self._on_host(*pending)

  def _on_host(self, batch: Any, said: Any) -> list[Any]:
    rows = jax.tree.map(functools.partial(sharding.local_rows, axis=0), said)
    return self.task.cached_answers(batch, rows)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def teach(
  learner: Learner,
  mesh: jax.sharding.Mesh,
  rules: sharding.LogicalRules,
  params: Any,
  batch: Any,
) -> Any:
  with sharding.use_mesh(mesh, rules):
    said = learner.teach(params, batch)
    return jax.tree.map(lambda x: sharding.constrain(x, "batch"), said)
