"""The teachers of a run: caches opened, and models loaded where no cache is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from vsumjax.contract import Learner, TeacherRef
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.experiment.experiment import Experiment
from vsumjax.experiment.workdir import load_finished, load_trained
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class Teachers:
  """Every teacher of a config, from its cache or asked in the step.

  caches: of those with a cache, in the order of the config.
  learners, params: of the others, by name; on the mesh of the experiment.
  digests: of the parameters of all, in the order of the config.
  """

  caches: tuple[CacheReader, ...]
  learners: dict[str, Learner]
  params: dict[str, Any]
  digests: tuple[str, ...]

  @property
  def params_shardings(self) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, self.params)


def load_teachers(experiment: Experiment) -> Teachers:
  """Opens the caches, and loads the models of those that have none.

  Raises:
    InputError: naming the teacher's key: a cache or model of another teacher, prompt or tokenizer.
  """
  caches, learners, params, digests = [], {}, {}, []
  for teacher in experiment.task.teachers:
    opened = len(digests)
    try:
      digests.append(load_finished(Path(teacher.workdir))["params_digest"])
      if teacher.cache:
        caches.append(_open_cache(experiment, teacher, digests[-1]))
      else:
        learners[teacher.name], params[teacher.name] = _load_model(experiment, teacher)
    except InputError as error:
      field = "cache" if teacher.cache and len(digests) > opened else "workdir"
      raise InputError(f"{teacher.key}.{field}: {error}") from None
  return Teachers(tuple(caches), learners, params, tuple(digests))


def _open_cache(experiment: Experiment, teacher: TeacherRef, digest: str) -> CacheReader:
  expected = {"teacher_digest": digest, **experiment.task.digests()}
  return CacheReader(teacher.cache, expected, experiment.config.task.CACHE_SCHEMA)


def _load_model(experiment: Experiment, teacher: TeacherRef) -> tuple[Learner, Any]:
  trained = load_trained(Path(teacher.workdir), like=experiment)
  require_same_task(experiment, trained.experiment, teacher.workdir)
  experiment.task.require_same_reading(trained.experiment.task, teacher.workdir)
  return trained.experiment.task.learner, trained.params


def require_same_task(experiment: Experiment, teacher: Experiment, where: str) -> None:
  """Raises InputError unless the teacher, of `where`, was trained for the same task."""
  here, there = type(experiment.config.task), type(teacher.config.task)
  if here is not there:
    raise InputError(
      f"{where} was trained for the task {there.NAME!r}, and this one is {here.NAME!r}"
    )
