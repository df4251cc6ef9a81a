"""Runs preparation tasks in processes of their own, which may crash or hang without ending the run.

A video at which a process ended is tried once more when nothing else runs, so that one that only
lacked memory gets it; if the process ends there again, the video is left out.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from multiprocessing import resource_tracker

from vsumjax.data.prepared import shards
from vsumjax.data.prepared.preparation import Outcome, Skipped, Task
from vsumjax.host.processes import end_with_parent

_MAX_TRIES = 2
_WAKE_EVERY_S = 1.0
_END_WITHIN_S = 10.0


@dataclasses.dataclass(frozen=True)
class _Death:
  """A process ended, or was ended, at a video of a task.

  position: of the video; None before the first and after the last.
  """

  task: Task
  position: int | None
  reason: Skipped


class _Deaths:
  """How often, and how, processes ended at which video."""

  def __init__(self):
    self._reasons: dict[tuple[int, int | None], list[Skipped]] = collections.defaultdict(list)

  def add(self, death: _Death) -> None:
    """Raises RuntimeError if it is no video's fault and happened too often."""
    reasons = self._reasons[death.task.index, death.position]
    reasons.append(death.reason)
    if death.position is None and len(reasons) > _MAX_TRIES:
      raise RuntimeError(f"{death.reason.reason}, {len(reasons)} times, and at none of its videos")

  def blocked(self, task: Task) -> dict[int, Skipped]:
    """Videos of a task that had all their tries."""
    return {
      position: reasons[-1]
      for (index, position), reasons in self._reasons.items()
      if index == task.index and position is not None and len(reasons) >= _MAX_TRIES
    }


def run_tasks(
  tasks: Iterable[Task],
  *,
  num_workers: int,
  stall_s: float,
  update: Callable[[int], None] = lambda num_videos: None,
) -> Generator[Outcome, None, None]:
  """Yields the outcome of every task as it ends. Closing the iterator ends the processes.

  Args:
    tasks: each makes one shard.
    num_workers: processes at a time.
    stall_s: a process that adds no record for so many seconds is ended.
    update: told, now and then, how many videos of unfinished tasks are done.

  Raises:
    OSError, RuntimeError: a shard cannot be written, or processes end at no video.
  """
  again: collections.deque[Task] = collections.deque()
  deaths = _Deaths()
  for result in _run(collections.deque(tasks), num_workers, stall_s, deaths, update):
    if isinstance(result, Outcome):
      yield result
    else:
      deaths.add(result)
      again.append(result.task)
  while again:
    [result] = _run(collections.deque([again[0]]), 1, stall_s, deaths, update)
    if isinstance(result, Outcome):
      again.popleft()
      yield result
    else:
      deaths.add(result)


def _run(
  waiting: collections.deque[Task],
  num_workers: int,
  stall_s: float,
  deaths: _Deaths,
  update: Callable[[int], None],
) -> Generator[Outcome | _Death, None, None]:
  """Runs every task once."""
  with contextlib.ExitStack() as stack:
    idle: list[_Worker] = []
    busy: list[_Worker] = []
    while waiting or busy:
      while waiting and len(busy) < num_workers:
        if not idle:
          idle.append(_Worker())
          stack.callback(idle[0].stop)
        busy.append(idle.pop())
        task = waiting.popleft()
        busy[-1].begin(task, deaths.blocked(task))
      multiprocessing.connection.wait([worker.connection for worker in busy], timeout=_WAKE_EVERY_S)
      for worker in tuple(busy):
        result = worker.result(stall_s)
        if result is not None:
          busy.remove(worker)
          if isinstance(result, Outcome):
            idle.append(worker)
          yield result
      if busy:
        update(sum(worker.position for worker in busy))


class _Worker:
  """A spawned process, at work on one task at a time."""

  def __init__(self):
    context = multiprocessing.get_context("spawn")
    self.connection, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
    _start_deaf(self._process)
    theirs.close()

  def begin(self, task: Task, blocked: Mapping[int, Skipped]) -> None:
    self._task, self._position, self._heard_s = task, None, time.monotonic()
    with contextlib.suppress(BrokenPipeError):  # `result` tells of a process that ended
      self.connection.send((task, blocked))

  @property
  def position(self) -> int:
    """How many videos of its task are done."""
    return self._position or 0

  def result(self, stall_s: float) -> Outcome | _Death | None:
    """What became of the task; None while it is at work. Raises what the task raised."""
    try:
      while self.connection.poll():
        message = self.connection.recv()
        if isinstance(message, Outcome):
          return message
        if isinstance(message, Exception):
          raise message
        self._position, self._heard_s = message, time.monotonic()
    except (EOFError, ConnectionResetError):
      self._process.join(_END_WITHIN_S)  # a process closes its files a little before it ends
      self.stop()
      return self._death("process ended", f"its process ended with {self._status()}")
    is_at_video = self._position is not None and self._position < len(self._task.videos)
    if is_at_video and time.monotonic() - self._heard_s > stall_s:
      self.stop()
      return self._death("no progress", f"no record was made of it for {stall_s:g} s")
    return None

  def stop(self) -> None:
    self._process.kill()
    self._process.join()
    self.connection.close()

  def _status(self) -> str:
    status = self._process.exitcode
    if status >= 0:
      return f"status {status}"
    hint = ", perhaps for lack of memory" if status == -signal.SIGKILL else ""
    return f"status {status} ({signal.Signals(-status).name}{hint})"

  def _death(self, kind: str, reason: str) -> _Death:
    if self._position is None or self._position == len(self._task.videos):
      return _Death(self._task, None, Skipped("", kind, f"{self._task.shard}: {reason}"))
    item = self._task.videos[self._position]
    return _Death(self._task, self._position, Skipped(item.id, kind, f"{item.media}: {reason}"))


def _start_deaf(process: multiprocessing.process.BaseProcess) -> None:
  """Starts a process that Ctrl-C does not reach: only its parent says what becomes of it."""
  resource_tracker.ensure_running()  # starting it later would lift the block below
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a child inherits
  try:
    process.start()
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: multiprocessing.connection.Connection) -> None:
  """What a process does: tasks, one after the other, until it is ended."""
  end_with_parent()
  while True:
    task, blocked = connection.recv()
    try:
      connection.send(shards.run_task(task, blocked, connection.send))
    except Exception as error:
      error.add_note(traceback.format_exc())
      connection.send(error)
