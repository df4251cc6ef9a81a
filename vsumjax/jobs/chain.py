"""A whole chain of stages from one config: each is trained and, for those after it, cached."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
import rich.rule

from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import is_sealed
from vsumjax.experiment.config import ChainConfig, ExperimentConfig, StageConfig, load_config
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.experiment.teachers import require_same_reading
from vsumjax.experiment.workdir import load_finished
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.train import train
from vsumjax.ops import schedules
from vsumjax.types import InputError

Stages = Sequence[tuple[StageConfig, ExperimentConfig]]


def run_chain(chain: ChainConfig, overrides: Mapping[str, str] | None = None) -> None:
  """Runs every stage that is not finished, and goes on with the one that was interrupted.

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
    heading(f"{done}/{parts} {stage.name}: {_losses(config)}", started)
    train(config, Path(stage.workdir))
    if stage.cache:
      done += 1
      heading(f"{done}/{parts} {stage.name}: its logits to {stage.cache}", started)
      if not _is_sealed(stage):
        cache_teacher(Path(stage.workdir), Path(stage.cache))


def _is_sealed(stage: StageConfig) -> bool:
  """Whether the cache is finished, found out without the model; InputError if it is another's."""
  if not is_sealed(stage.cache):
    return False
  digest = load_finished(Path(stage.workdir))["params_digest"]
  CacheReader(stage.cache, {"teacher_digest": digest})
  return True


def check_stages(stages: Stages) -> None:
  """Raises InputError, naming stage and field, where a stage cannot learn from its teachers."""
  experiments: dict[str, tuple[str, Experiment]] = {}
  caches = {stage.workdir: stage.cache for stage, _ in stages}
  for stage, config in stages:
    experiment = build_experiment(config)
    for index, teacher in enumerate(config.objective.teachers):
      key = f"stage {stage.name!r} ({stage.config}): objective.teachers[{index}]"
      if teacher.workdir not in experiments:
        if teacher.workdir in caches:
          raise InputError(f"{key}.workdir: {teacher.workdir} is trained by a later stage")
        _require_finished(key, Path(teacher.workdir))
        continue
      if teacher.cache not in ("", caches[teacher.workdir]):
        raise InputError(
          f"{key}.cache: {teacher.cache} is not the cache of {teacher.workdir}, "
          f"{caches[teacher.workdir] or 'which has none'}"
        )
      _require_fit(key, experiment, *experiments[teacher.workdir])
      if teacher.cache:
        _require_examples(key, experiment, *experiments[teacher.workdir])
      if not (schedules.is_off(teacher.text_weight) or is_sealed(teacher.cache)):
        raise InputError(
          f"{key}.text_weight: a chain caches scores alone; write {teacher.cache} before, with "
          "launch/cache_teacher.py --text"
        )
    experiments[stage.workdir] = (stage.name, experiment)


def _require_finished(key: str, workdir: Path) -> None:
  try:
    load_finished(workdir)
  except InputError as error:
    raise InputError(f"{key}.workdir: of no stage of this chain, and {error}") from None


def _require_fit(key: str, experiment: Experiment, name: str, teacher: Experiment) -> None:
  """A student reads its teacher's answers by example, so that both must be asked the same."""
  try:
    require_same_reading(experiment, teacher, f"stage {name!r}")
  except InputError as error:
    raise InputError(f"{key}: {error}") from None


def _require_examples(key: str, experiment: Experiment, name: str, teacher: Experiment) -> None:
  """A cache holds the examples of its teacher."""
  here, there = experiment.config.data, teacher.config.data
  for field in ("sets", "train_split", "without"):
    if getattr(here, field) != getattr(there, field):
      raise InputError(
        f"{key}.cache: lacks examples of this stage: config.data.{field} is "
        f"{getattr(here, field)!r} here and {getattr(there, field)!r} in stage {name!r}"
      )


def _losses(config: ExperimentConfig) -> str:
  return " + ".join(["cross entropy", *(f"KL to {t.name}" for t in config.objective.teachers)])


def heading(text: str, started: float) -> None:
  """A line across the screen, with the seconds since `started`."""
  console = rich.console.Console(file=sys.stderr)
  console.print(rich.rule.Rule(f"{text} ({time.monotonic() - started:.0f} s)", align="left"))
