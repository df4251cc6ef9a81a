"""Processes that this one starts."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading


@functools.cache
def end_with_parent() -> None:
  """Ends this process as soon as the one that started it has ended, be it killed.

  Does nothing in a process that `multiprocessing` did not start.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def leave_sigterm_to_parent() -> None:
  """Ignores SIGTERM, which reaches a whole group of processes: the parent says when to end.

  Does nothing in a process that `multiprocessing` did not start.
  """
  is_main = threading.current_thread() is threading.main_thread()
  if multiprocessing.parent_process() is not None and is_main:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
  parent.join()
  os._exit(1)
