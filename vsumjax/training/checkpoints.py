"""Checkpoints by Orbax: {state, data, meta}, async and atomic.

state  the TrainState
data   where the data stream stands, as the order is a function of the step, and whether all that
       was due at the step is done: {"step": 120, "is_evaluated": true}
meta   what the run is: the flat config and the digests a resumed run must share
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from vsumjax import sharding
from vsumjax.training.state import TrainState
from vsumjax.types import InputError

Meta = Mapping[str, Any]
FOLDER = "checkpoints"
_DISK_ERRORS = tuple(
  os.strerror(code)
  for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
)


class Checkpoints:
  """The checkpoints of one workdir, the newest `max_to_keep` of them."""

  def __init__(
    self,
    workdir: Path,
    *,
    folder: str = FOLDER,
    max_to_keep: int | None = 2,
    create: bool = True,
  ) -> None:
    """
    Args:
      workdir: of the run.
      folder: in it.
      max_to_keep: None keeps all.
      create: make the folder if it is missing; False to read only.
    """
    self.path = (workdir / folder).absolute()
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

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def save(self, state: Any, step: int, meta: Meta, *, is_evaluated: bool = True) -> None:
    """Starts an async save. Orbax copies the state to the host before this returns, so the next
    step may take it as its own (donate it).

    Raises:
      OSError: if the save before this one failed, or this one at once.
    """
    # Orbax copies by what JAX takes for an implicit transfer, which the loop forbids.
    with jax.transfer_guard_device_to_host("allow"), self._told_in_one_line():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          data=ocp.args.JsonSave({"step": step, "is_evaluated": is_evaluated}),
          meta=ocp.args.JsonSave(dict(meta)),
        ),
        # Else Orbax asks by itself whether the process is to end; see `stopping`.
        force=True,
      )

  def wait(self) -> None:
    """Until the running save is on the disk; OSError if it failed."""
    with self._told_in_one_line():
      self._manager.wait_until_finished()

  def delete(self, step: int) -> None:
    self._manager.delete(step)

  def load_meta(self, step: int) -> dict[str, Any]:
    """Raises InputError if there is no checkpoint of that step."""
    if step not in self._manager.all_steps():
      raise InputError(f"{self.path}/{step}: no such checkpoint; train again in another folder")
    return self._load_json(step, "meta")

  def is_evaluated(self, step: int) -> bool:
    """Whether the evaluation that was due at that step was done before it was saved."""
    return self._load_json(step, "data")["is_evaluated"]

  def _load_json(self, step: int, item: str) -> dict[str, Any]:
    args = ocp.args.Composite(**{item: ocp.args.JsonRestore()})
    with self._damage_named(step):
      return self._manager.restore(step, args=args)[item]

  def restore(self, step: int, abstract: TrainState) -> TrainState:
    """The state at `step`, each leaf into the sharding of `abstract`.

    Raises:
      InputError: a damaged checkpoint, or leaves that are not those of `abstract`.
    """
    self._check_leaves(step, abstract, prefix="")
    with self._damage_named(step):
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
    """Only the parameters at `step`; the optimizer's state is not read. Errors as of `restore`."""
    item = {"params": abstract}
    self._check_leaves(step, item, prefix="params")
    path = self.path / str(step) / "state"
    with (
      self._damage_named(step),
      ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
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
    """Waits for the running save and closes; OSError if it failed."""
    with self._told_in_one_line():
      self._manager.close()

  @contextlib.contextmanager
  def _told_in_one_line(self) -> Iterator[None]:
    """What the disk refuses reaches us as errors of many kinds and lines, from other threads."""
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      reasons = [reason for reason in _DISK_ERRORS if reason in str(error)]
      if not reasons:
        raise
      raise OSError(
        f"{self.path}: a checkpoint cannot be written: {reasons[0]}; what was saved before is "
        "kept, and the same command resumes from it"
      ) from error

  @contextlib.contextmanager
  def _damage_named(self, step: int) -> Iterator[None]:
    """A file that is cut or missing reaches us as an error of Orbax, TensorStore or JSON."""
    try:
      yield
    except (ValueError, KeyError, AttributeError, OSError) as error:
      reason = next(iter(str(error).splitlines()), "no reason given")
      raise InputError(
        f"{self.path}/{step}: the checkpoint is damaged ({type(error).__name__}: {reason}); delete "
        "that folder to go on from an earlier one, or train again in another folder"
      ) from error

  def _check_leaves(self, step: int, abstract: Any, prefix: str) -> None:
    with self._damage_named(step):
      tree = self._manager.item_metadata(step).state.tree
    saved = {k: v.shape for k, v in sharding.by_path(tree).items() if k.startswith(prefix)}
    wanted = {k: v.shape for k, v in sharding.by_path(abstract).items()}
    for name in sorted(saved.keys() | wanted.keys()):
      if saved.get(name) != wanted.get(name):
        raise InputError(
          f"{self.path}/{step}: checkpoint of another architecture: {name} is "
          f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} in the config"
        )
