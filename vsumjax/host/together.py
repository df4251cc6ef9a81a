"""What the processes of one job agree on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vsumjax.host.progress import Update, progress
from vsumjax.types import InputError


def gather(*values: int | bool) -> tuple[np.ndarray, ...]:
  """Each value of every process, i32[P]; every process must call it."""
  gathered = multihost_utils.process_allgather(np.array(values, np.int32))
  return tuple(gathered.T)


def on_all(run: Callable[[], Any]) -> Any:
  """Runs on every process and returns its own result; ends when all have ended.

  Raises:
    InputError: on those that succeeded, where another failed, so that none waits for it.
  """
  failure, result = None, None
  try:
    result = run()
  except Exception as error:  # whatever it is, the others must not wait for this process
    failure = error
  (failed,) = gather(failure is not None)
  if failure is not None:
    raise failure
  if failed.any():
    raise InputError(f"process {int(failed.argmax())} failed; its own output says why")
  return result


def on_first(run: Callable[[], Any]) -> None:
  """Runs on the first process, while the others wait."""
  on_all(run if jax.process_index() == 0 else lambda: None)


def progress_on_first(what: str) -> contextlib.AbstractContextManager[Update]:
  """`progress`, shown by one process of the job."""
  if jax.process_index():
    return contextlib.nullcontext(lambda done, total, note="": None)
  return progress(what)
