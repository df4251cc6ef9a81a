"""A whole chain of stages from one config: each is trained and, for those after it, cached."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
import rich.rule

from vsumjax.contract import TaskConfig, TeacherRef
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import is_sealed
from vsumjax.experiment.config import ChainConfig, ExperimentConfig, StageConfig, load_config
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.experiment.teachers import require_same_task
from vsumjax.experiment.workdir import load_finished
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.train import train
from vsumjax.types import InputError

Stages = Sequence[tuple[StageConfig, ExperimentConfig]]


def run_chain(chain: ChainConfig, overrides: Mapping[str, str] | None = None) -> None:
  """Runs every stage that is not finished, and resumes the one that was interrupted.

  Args:
    chain: the stages.
    overrides: of every stage's config, as `load_config` takes them.

  Raises:
    InputError: the config of a stage cannot be used, or does not fit those that teach it; nothing
      is trained then.
  """
  stages = [(stage, load_config(stage.config, overrides)) for stage in chain.stages]
  check_stages(stages)
  started, parts = time.monotonic(), sum(1 + bool(stage.cache) for stage in chain.stages)
  done = 0
  for stage, config in stages:
    done += 1
    heading(f"{done}/{parts} {stage.name}: {config.task.losses()}", started)
    train(config, Path(stage.workdir))
    if stage.cache:
      done += 1
      heading(f"{done}/{parts} {stage.name}: its logits to {stage.cache}", started)
      if not _is_sealed(stage, config.task):
        cache_teacher(Path(stage.workdir), Path(stage.cache))


def _is_sealed(stage: StageConfig, task: TaskConfig) -> bool:
  """Whether the cache is finished, found out without the model; InputError if it is another's."""
  if not is_sealed(stage.cache):
    return False
  digest = load_finished(Path(stage.workdir))["params_digest"]
  CacheReader(stage.cache, {"teacher_digest": digest}, task.CACHE_SCHEMA)
  return True


def check_stages(stages: Stages) -> None:
  """Raises InputError, naming stage and field, where a stage cannot learn from its teachers."""
  experiments: dict[str, tuple[str, Experiment]] = {}
  caches = {stage.workdir: stage.cache for stage, _ in stages}
  for stage, config in stages:
    experiment = build_experiment(config)
    for teacher in experiment.task.teachers:
      try:
        if teacher.workdir in experiments:
          _require_fit(experiment, teacher, caches[teacher.workdir], *experiments[teacher.workdir])
        elif teacher.workdir in caches:
          raise InputError(f"{teacher.key}.workdir: {teacher.workdir} is trained by a later stage")
        else:
          _require_finished(teacher)
      except InputError as error:
        raise InputError(f"stage {stage.name!r} ({stage.config}): {error}") from None
    experiments[stage.workdir] = (stage.name, experiment)


def _require_finished(teacher: TeacherRef) -> None:
  try:
    load_finished(Path(teacher.workdir))
  except InputError as error:
    raise InputError(f"{teacher.key}.workdir: of no stage of this chain, and {error}") from None


def _require_fit(
  experiment: Experiment, teacher: TeacherRef, cache: str, name: str, of: Experiment
) -> None:
  """A student reads its teacher's answers by example, so that both must be asked the same.

  Args:
    experiment: of the student.
    teacher: as the student's config names it.
    cache: of the teacher's stage.
    name, of: the teacher's stage.
  """
  if teacher.cache not in ("", cache):
    raise InputError(
      f"{teacher.key}.cache: {teacher.cache} is not the cache of {teacher.workdir}, "
      f"{cache or 'which has none'}"
    )
  where = f"stage {name!r}"
  try:
    require_same_task(experiment, of, where)
    experiment.task.require_same_reading(of.task, where)
  except InputError as error:
    raise InputError(f"{teacher.key}: {error}") from None
  if teacher.cache:
    try:
      experiment.task.require_same_examples(of.task, where)
    except InputError as error:
      raise InputError(f"{teacher.key}.cache: {error}") from None
  if not (teacher.cache and is_sealed(teacher.cache)):
    experiment.task.require_cached(teacher)


def heading(text: str, started: float) -> None:
  """A line across the screen, with the seconds since `started`."""
  console = rich.console.Console(file=sys.stderr)
  console.print(rich.rule.Rule(f"{text} ({time.monotonic() - started:.0f} s)", align="left"))
