"""The tasks that a config may name."""

from __future__ import annotations

import dataclasses
import importlib

from vsumjax.contract import TaskConfig
from vsumjax.tasks.score.task import ScoreConfig
from vsumjax.types import InputError

CONFIGS: dict[str, type[TaskConfig]] = {each.NAME: each for each in (ScoreConfig,)}


def name_of(config: type[TaskConfig]) -> str:
  """What `config_class` takes for it."""
  is_ours = CONFIGS.get(config.NAME) is config
  return config.NAME if is_ours else f"{config.__module__}:{config.__qualname__}"


def config_class(name: str) -> type[TaskConfig]:
  """The config of a task, by its name or, for one from elsewhere, by "module:class".

  Raises:
    InputError: there is none.
  """
  if name in CONFIGS:
    return CONFIGS[name]
  module, colon, cls = name.partition(":")
  if not colon:
    known = ", ".join(CONFIGS)
    raise InputError(f"config key task: {name!r} is not one of {known}, nor module:class")
  try:
    found = getattr(importlib.import_module(module), cls)
  except (ImportError, AttributeError) as error:
    raise InputError(f"config key task: {name!r} cannot be imported: {error}") from None
  if not dataclasses.is_dataclass(found):
    raise InputError(f"config key task: {name!r} is not a task's config (contract.TaskConfig)")
  return found
