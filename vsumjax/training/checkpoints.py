"""Checkpoints by Orbax: {state, data, meta}, async and atomic.

state  the TrainState
data   where the data stream stands: {"step": 120}; the order is a function of the step
meta   what the run is: the flat config and the digests a resumed run must share
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from vsumjax import sharding
from vsumjax.training.state import TrainState
from vsumjax.types import InputError

Meta = Mapping[str, Any]


class Checkpoints:
  """The checkpoints of one workdir, the newest `max_to_keep` of them."""

  def __init__(self, workdir: Path, *, max_to_keep: int = 2, create: bool = True) -> None:
    """create: make the folder if it is missing; False to read only."""
    self.path = (workdir / "checkpoints").absolute()
    self._manager = ocp.CheckpointManager(
      self.path,
      options=ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, create=create),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "data": ocp.JsonCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
      },
    )

  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  def save(self, state: TrainState, step: int, meta: Meta) -> None:
    """Starts an async save. Orbax copies the state to the host before this returns, so the next
    step may take it as its own (donate it)."""
    # Orbax copies by what JAX takes for an implicit transfer, which the loop forbids.
    with jax.transfer_guard_device_to_host("allow"):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          data=ocp.args.JsonSave({"step": step}),
          meta=ocp.args.JsonSave(dict(meta)),
        ),
      )

  def load_meta(self, step: int) -> dict[str, Any]:
    """Raises InputError if there is no checkpoint of that step."""
    if step not in self._manager.all_steps():
      raise InputError(f"{self.path}/{step}: no such checkpoint; train again in another folder")
    return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta

  def restore(self, step: int, abstract: TrainState) -> TrainState:
    """The state at `step`, each leaf into the sharding of `abstract`.

    Raises:
      InputError: if the saved leaves are not those of `abstract`, naming the first.
    """
    self._check_leaves(step, abstract, prefix="")
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
      ),
    )
    if restored.data["step"] != step:
      raise InputError(f"{self.path}/{step}: its data stream stands at {restored.data['step']}")
    return restored.state

  def restore_params(self, step: int, abstract: Any) -> Any:
    """Only the parameters at `step`; the optimizer's state is not read."""
    item = {"params": abstract}
    self._check_leaves(step, item, prefix="params")
    path = self.path / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      restored = checkpointer.restore(
        path,
        args=ocp.args.PyTreeRestore(
          item=item,
          restore_args=ocp.checkpoint_utils.construct_restore_args(item),
          partial_restore=True,
        ),
      )
    return restored["params"]

  def close(self) -> None:
    """Waits for the running save and closes."""
    self._manager.close()

  def _check_leaves(self, step: int, abstract: Any, prefix: str) -> None:
    tree = self._manager.item_metadata(step).state.tree
    saved = {k: v.shape for k, v in sharding.by_path(tree).items() if k.startswith(prefix)}
    wanted = {k: v.shape for k, v in sharding.by_path(abstract).items()}
    for name in sorted(saved.keys() | wanted.keys()):
      if saved.get(name) != wanted.get(name):
        raise InputError(
          f"{self.path}/{step}: checkpoint of another architecture: {name} is "
          f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} in the config"
        )
