"""SIGTERM: what is done so far is saved, and the process ends with a status that says so.

with stopping.Stop() as stop:
  for shard in shards:
    if stop.is_due():
      raise stopping.Stopped("stopped; 3 of 8 shards are written; the same command resumes")
    write(shard)
    stop.defer()
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_Item = TypeVar("_Item")
_END: Any = object()
STATUS = 128 + signal.SIGTERM  # as shells give it


class Stopped(Exception):
  """The process was told to end and has saved its work; the message says what was saved."""


class Interrupted(Exception):
  """SIGTERM came while nothing was done but waiting; see `Stop.interrupts`."""


class Stop:
  """Whether the process was told to end. A context manager; what SIGTERM did before, it does after.

  Of several processes one may be told alone: they vote at every call of `is_due`, and all learn at
  the same later call that one of them is to end.
  """

  def __init__(self) -> None:
    self._asked = self._may_interrupt = self._is_deferred = False
    self._previous: Any = None
    self._vote: jax.Array | None = None

  def __enter__(self) -> Stop:
    return self

  def __exit__(self, *error: object) -> None:
    if self._is_deferred:
      # None is a handler that Python did not set and cannot set again.
      signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

  def defer(self) -> None:
    """From now on there is something to save: SIGTERM no longer ends the process by itself.

    In a thread, which cannot take signals, it does nothing.
    """
    if not self._is_deferred and threading.current_thread() is threading.main_thread():
      self._is_deferred = True
      self._previous = signal.signal(signal.SIGTERM, self._on_signal)

  def is_due(self) -> bool:
    """Whether to save and end now. All processes must call it equally often."""
    if jax.process_count() == 1:
      return self._asked
    # The last vote is read, not this one, which stands behind what the device has to do.
    last, self._vote = self._vote, _is_any(self._asked)
    return last is not None and bool(jax.device_get(last))

  @contextlib.contextmanager
  def interrupts(self) -> Iterator[None]:
    """Within it SIGTERM raises `Interrupted`: for waiting, which may last for long.

    So does, after SIGTERM, an error: what is waited for may have been told to end, too. Neither is
    so where other processes would go on without this one.
    """
    self._may_interrupt = jax.process_count() == 1
    try:
      if self._asked and self._may_interrupt:
        raise Interrupted
      yield
    except Exception as error:  # of whatever is waited for, which may be ending, too
      if self._asked and self._may_interrupt:
        raise Interrupted from error
      raise
    finally:
      self._may_interrupt = False

  def waiting_for(self, items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; waiting for one of them may be interrupted. It does not close `items`."""
    while True:
      with self.interrupts():
        item = next(items, _END)
      if item is _END:
        return
      yield item

  def _on_signal(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self._asked = True
    if self._may_interrupt:
      raise Interrupted


def _is_any(asked: bool) -> jax.Array:
  """bool[], whether any process was asked; it is computed while this process continues."""
  mesh = Mesh(np.array(jax.devices()), ("devices",))
  votes = np.full(jax.local_device_count(), asked)
  with jax.transfer_guard_host_to_device("allow"):
    spread = jax.make_array_from_process_local_data(
      NamedSharding(mesh, PartitionSpec("devices")), votes
    )
  return _any(spread, NamedSharding(mesh, PartitionSpec()))


@functools.partial(jax.jit, static_argnums=1)
def _any(votes: jax.Array, replicated: NamedSharding) -> jax.Array:
  return jax.lax.with_sharding_constraint(votes.any(), replicated)
