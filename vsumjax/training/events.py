"""Metrics for TensorBoard: event files, written at once and without TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2


class EventsFile:
  """One event file of a run in `folder`, beside those that earlier processes left.

  tensorboardX's own `SummaryWriter` writes in a thread, which a full disk would end silently.
  """

  def __init__(self, folder: Path, first_step: int) -> None:
    """What earlier files say of `first_step` and later ones, TensorBoard passes over."""
    folder.mkdir(parents=True, exist_ok=True)
    # The time in the name is in whole seconds: two processes may share it.
    self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{first_step}")
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(first_step, session_log=start)

  def append(self, step: int, values: Mapping[str, float]) -> None:
    scalars = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
    self._write(step, summary=summary_pb2.Summary(value=scalars))

  def close(self) -> None:
    self._writer.close()

  def _write(self, step: int, **content: object) -> None:
    self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))
    self._writer.flush()
