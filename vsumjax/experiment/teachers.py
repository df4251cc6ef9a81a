"""The teachers of a run: caches opened, and models loaded where no cache is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.experiment.experiment import Experiment
from vsumjax.experiment.workdir import load_finished, load_student
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.tasks.score.objective import TeacherConfig
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class Teachers:
  """Every teacher of a config, from its cache or asked in the step.

  caches: of those with a cache, in the order of the config.
  models, params: of the others, by name; on the mesh of the experiment.
  digests: of the parameters of all, in the order of the config.
  """

  caches: tuple[CacheReader, ...]
  models: dict[str, VideoSummaryStudent]
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
  caches, models, params, digests = [], {}, {}, []
  for index, teacher in enumerate(experiment.config.objective.teachers):
    key = f"objective.teachers[{index}]"
    try:
      digests.append(load_finished(Path(teacher.workdir))["params_digest"])
      if teacher.cache:
        caches.append(_open_cache(experiment, teacher, digests[-1]))
      else:
        models[teacher.name], params[teacher.name] = _load_model(experiment, teacher)
    except InputError as error:
      field = "cache" if teacher.cache and len(digests) > index else "workdir"
      raise InputError(f"{key}.{field}: {error}") from None
  return Teachers(tuple(caches), models, params, tuple(digests))


def _open_cache(experiment: Experiment, teacher: TeacherConfig, digest: str) -> CacheReader:
  return CacheReader(
    teacher.cache,
    {
      "teacher_digest": digest,
      "tokenizer_digest": experiment.tokenizer.digest,
      "prompt_digest": experiment.prompt_digest,
    },
  )


def _load_model(experiment: Experiment, teacher: TeacherConfig) -> tuple[VideoSummaryStudent, Any]:
  student = load_student(Path(teacher.workdir), like=experiment)
  require_same_reading(experiment, student.experiment, teacher.workdir)
  return student.experiment.model, student.params


def require_same_reading(experiment: Experiment, teacher: Experiment, where: str) -> None:
  """Raises InputError, naming what differs, unless both are asked in the same words.

  where: of the teacher, for the error.
  """
  for field, here, there in (
    ("tokenizer", experiment.tokenizer.digest, teacher.tokenizer.digest),
    ("prompt", experiment.prompt_digest, teacher.prompt_digest),
  ):
    if here != there:
      raise InputError(
        f"config.{field} is not that of {where} ({here} here, {there} there); a student must read "
        "what its teacher reads"
      )
