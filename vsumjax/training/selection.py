"""The parameters that a finished run is used with, where they are not those of its last checkpoint.

They lie in `selected/STEP` of the workdir in the form of a checkpoint: {"params": ...} as its
state, and in its meta, beside that of the run, the metric they were chosen by and its value.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsumjax.training.checkpoints import Checkpoints, Meta
from vsumjax.types import InputError

FOLDER = "selected"
_METRIC, _VALUE = "selected.metric", "selected.value"


class Selection:
  """Keeps the parameters with the lowest value of a metric, or, without a metric, the last ones.

  What the two newest checkpoints of the run knew as the best stays on the disk, so that a run that
  resumes from one of them has what it had.
  """

  def __init__(self, workdir: Path, metric: str, meta: Meta, resumed: int | None) -> None:
    """
    Args:
      workdir: of the run.
      metric: its lowest value is the best; "" for the last.
      meta: of the run.
      resumed: the step it resumes from. What was chosen later is dropped: it is chosen again.
    """
    self._metric, self._meta = metric, dict(meta)
    self._saver = Checkpoints(workdir, folder=FOLDER, max_to_keep=None)
    values = {}
    for step in self._saver.steps():
      if resumed is None or step > resumed:
        self._saver.delete(step)
      else:
        values[step] = self._saver.load_meta(step)[_VALUE]
    self._best = min(values, key=values.__getitem__, default=None)
    self._value = values.get(self._best, math.inf)
    self._needed = deque(sorted(values), maxlen=2)

  @property
  def metric(self) -> str:
    return self._metric

  def offer(self, step: int, metrics: Mapping[str, float], params: Any) -> None:
    """Keeps `params` if they are the best so far. Returns when they are on the disk.

    Raises:
      FloatingPointError: if the metric is not finite.
    """
    value = metrics[self._metric] if self._metric else 0.0
    if not math.isfinite(value):
      raise FloatingPointError(f"{self._metric} is {value} at step {step}; see train.keep_best")
    if self._best is not None and value >= self._value:
      return
    self._saver.save({"params": params}, step, self._meta | {_METRIC: self._metric, _VALUE: value})
    self._saver.wait()
    self._best, self._value = step, value
    self._drop_all_but({step, *self._needed})

  def recorded(self) -> None:
    """Call it when a checkpoint of the run is saved: it relies on the best so far."""
    if self._best is not None:
      self._needed.append(self._best)

  def finish(self) -> None:
    """Drops all but the best."""
    self._drop_all_but({self._best})

  def close(self) -> None:
    self._saver.close()

  def _drop_all_but(self, kept: set[int | None]) -> None:
    for step in set(self._saver.steps()) - kept:
      self._saver.delete(step)


def meta_of_run(meta: Meta) -> Meta:
  """The meta of the run alone, without what was selected by."""
  return {name: value for name, value in meta.items() if name not in (_METRIC, _VALUE)}


def load_selected(workdir: Path, abstract: Any) -> tuple[Any, dict[str, Any]]:
  """The parameters that were chosen, each leaf as in `abstract`, and what FINISHED.json says of it.

  Raises:
    InputError: if there are none.
  """
  saver = Checkpoints(workdir, folder=FOLDER, create=False)
  try:
    step = saver.latest_step()
    if step is None:
      raise InputError(f"{saver.path}: holds no parameters; train again in another folder")
    meta, params = saver.load_meta(step), saver.restore_params(step, abstract)
  finally:
    saver.close()
  about = {"step": step, "folder": FOLDER}
  if meta[_METRIC]:
    about |= {"metric": meta[_METRIC], "value": meta[_VALUE]}
  return params, about
