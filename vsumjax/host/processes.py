"""Processes that this one starts."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from types import FrameType

_GRACE_S = 10.0  # as `stopping` promises


@functools.cache
def end_with_parent() -> None:
  """Ends this process as soon as the one that started it has ended, be it killed.

  Does nothing in a process that `multiprocessing` did not start.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def leave_sigterm_to_parent() -> None:
  """SIGTERM, which often reaches a whole group of processes, ends this one a little later.

  Until then the parent can end in good order, for which it may need this process. Does nothing in a
  process that `multiprocessing` did not start.
  """
  is_main = threading.current_thread() is threading.main_thread()
  if multiprocessing.parent_process() is not None and is_main:
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
  del frame
  timer = threading.Timer(_GRACE_S, os._exit, (128 + number,))
  timer.daemon = True
  timer.start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
  parent.join()
  os._exit(1)
