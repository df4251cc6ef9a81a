"""The whole configuration: each module's own frozen config, composed and strictly converted."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import re
import runpy
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vsumjax.contract import FIRST_TASK, TaskConfig
from vsumjax.models import families
from vsumjax.sharding import LogicalRules, MeshConfig
from vsumjax.tasks import names
from vsumjax.training.loop import TrainConfig
from vsumjax.training.optimizer import OptimizerConfig
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
  """One stage: what is trained and how.

  task: the config of the task, whose keys stand beside the others at the top of a config file, with
    `task`, its name there (see `names.config_class`).
  init_from: a checkpoint to start from, of any format that `launch/convert.py` reads; "" starts
    from random parameters.
  compiler_options: "name=value" of XLA, for the train step; those of the TPU's compiler
    (xla_tpu_..., xla_jf_...) act on a TPU alone.
  """

  task: TaskConfig
  train: TrainConfig
  optimizer: OptimizerConfig
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  rules: LogicalRules = dataclasses.field(default_factory=LogicalRules)
  init_from: str = ""
  compiler_options: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    for option in self.compiler_options:
      if not re.fullmatch(r"\w+=.+", option):
        raise InputError(f"config key compiler_options: {option!r} is not name=value")


def build_config(values: Mapping[str, Any]) -> ExperimentConfig:
  """Turns nested mappings (a ConfigDict or parsed JSON) into the config of a stage.

  Raises:
    InputError: naming the full key if it is unknown, also to the task (with the nearest known one),
      missing, or holds a value of another type.
  """
  _require_group(values, "")
  name = values.get("task", FIRST_TASK)
  if not isinstance(name, str):
    raise InputError(f"config key task: expected a name, got {name!r}")
  cls = names.config_class(name)
  own, shared = _fields(cls), _fields(ExperimentConfig)
  del shared["task"]
  given = {key: value for key, value in values.items() if key != "task"}
  built = _build_fields(given, own | shared, "", f" (task {name!r})")
  task = cls(**{key: value for key, value in built.items() if key in own})
  rest = {key: value for key, value in built.items() if key in shared}
  return ExperimentConfig(task, **rest)


def build_group(values: Mapping[str, Any], cls: type, path: str = "") -> Any:
  """Turns nested mappings into the frozen dataclass `cls`; errors as of `build_config`."""
  _require_group(values, path)
  return cls(**_build_fields(values, _fields(cls), path))


def _require_group(values: Any, path: str) -> None:
  if not isinstance(values, Mapping) and not hasattr(values, "items"):
    name = path.removesuffix(".") or "(top)"
    raise InputError(f"config key {name}: expected a group of keys, got {values!r}")


def _fields(cls: type) -> dict[str, tuple[Any, bool]]:
  """{name: (type, whether it must be given)} of a dataclass."""
  hints, missing = typing.get_type_hints(cls), dataclasses.MISSING
  return {
    field.name: (hints[field.name], field.default is field.default_factory is missing)
    for field in dataclasses.fields(cls)
  }


def _build_fields(
  values: Mapping[str, Any], fields: Mapping[str, tuple[Any, bool]], path: str, to: str = ""
) -> dict[str, Any]:
  for name in values:
    if name not in fields:
      near = difflib.get_close_matches(name, fields, n=1)
      hint = f"; did you mean {path}{near[0]}?" if near else f"; known: {', '.join(fields)}"
      raise InputError(f"config key {path}{name}: unknown{hint}{to}")
  built = {}
  for name, (hint, is_needed) in fields.items():
    if name in values:
      built[name] = _build_value(values[name], hint, path + name)
    elif is_needed:
      raise InputError(f"config key {path}{name}: missing")
  return built


def _build_value(value: Any, hint: Any, path: str) -> Any:
  if dataclasses.is_dataclass(hint):
    return build_group(value, hint, path + ".")
  if typing.get_origin(hint) is tuple:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
      raise InputError(f"config key {path}: expected a list, got {value!r}")
    element = typing.get_args(hint)[0]
    return tuple(_build_value(v, element, f"{path}[{i}]") for i, v in enumerate(value))
  if isinstance(hint, types.UnionType):
    return _build_union(value, hint, path)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    if abs(value) > sys.float_info.max:
      raise InputError(f"config key {path}: a number of {len(str(value))} digits is too large")
    return float(value)
  if type(value) is not hint:
    raise InputError(f"config key {path}: expected {hint.__name__}, got {value!r}")
  return value


def _build_union(value: Any, hint: Any, path: str) -> Any:
  """The first of the union's types that takes the value, as str | tuple[str, ...] | None."""
  for choice in typing.get_args(hint):
    with contextlib.suppress(InputError):
      return _build_value(value, choice, path)
  raise InputError(f"config key {path}: expected {hint}, got {value!r}")


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
  """Plain nested dict, as JSON keeps it; `build_config` reads it back."""
  values = dataclasses.asdict(config)
  return {"task": names.name_of(type(config.task)), **values.pop("task"), **values}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"train": {"seed": 0}} -> {"train.seed": 0}, and [{"seed": 0}] -> {"[0].seed": 0}."""
  flat = {}
  for name, value in values.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{name}.")
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
      for index, item in enumerate(value):
        flat |= flatten(item, f"{prefix}{name}[{index}].")
    else:
      flat[prefix + name] = value
  return flat


def load_config(spec: str, overrides: Mapping[str, str] | None = None) -> ExperimentConfig:
  """Runs a config file and converts what its `get_config` returns.

  Args:
    spec: "path/to/file.py" or "path/to/file.py:argument of get_config".
    overrides: {"train.seed": "3"}: values as JSON (3, 0.1, true, [1, 2]) or else as a string.

  `model` may name one of `models.families.PALIGEMMA` by `model.family`, and then holds only what is
  otherwise than in that: {"family": "paligemma2_3b_224", "lora": {"rank": 16}}.

  Raises:
    InputError: naming the file or the key.
  """
  values = _run_config_file(spec, "get_config")
  for key, text in (overrides or {}).items():
    _override(values, key, text)
  return build_config(_with_family(values))


@dataclasses.dataclass(frozen=True)
class StageConfig:
  """One stage of a chain.

  config: what `--config` takes, "path/to/file.py:argument".
  cache: folder for its logits, for the stages after it; "" for none.
  """

  name: str
  config: str
  workdir: str
  cache: str = ""


@dataclasses.dataclass(frozen=True)
class ChainConfig:
  """The stages of a chain, in the order in which they are trained."""

  stages: tuple[StageConfig, ...]

  def __post_init__(self) -> None:
    if not self.stages:
      raise InputError("stages: names no stage")
    for field in ("name", "workdir", "cache"):
      values = [getattr(stage, field) for stage in self.stages if getattr(stage, field)]
      if len(set(values)) < len(values):
        raise InputError(f"stages.{field}: {values} must differ from each other")


def load_chain(spec: str) -> ChainConfig:
  """Runs a config file and converts what its `get_chain` returns; errors as of `load_config`."""
  return build_group(_run_config_file(spec, "get_chain"), ChainConfig)


def _run_config_file(spec: str, function: str) -> dict[str, Any]:
  path, _, arg = spec.partition(":")
  if not Path(path).is_file():
    raise InputError(f"{path}: no such config file")
  call = f"{function}({arg!r})" if arg else f"{function}()"
  try:
    with _importable(Path(path)):
      found = runpy.run_path(path)
      if function not in found:
        raise InputError(f"{path}: has no {function}")
      return (found[function](arg) if arg else found[function]()).to_dict()
  except InputError:
    raise
  except Exception as error:  # the file is the user's own program: anything may go wrong in it
    raise InputError(f"{path}: {call} failed: {error!r}") from error


@contextlib.contextmanager
def _importable(path: Path) -> Iterator[None]:
  """Within it, a file below a folder `configs` may import others of it: `from configs import x`."""
  above = [folder.parent for folder in path.resolve().parents if folder.name == "configs"]
  before = list(sys.path)
  sys.path[:0] = map(str, above[:1])
  try:
    yield
  finally:
    sys.path[:] = before


def _with_family(values: dict[str, Any]) -> dict[str, Any]:
  """A published model, changed by what else is said: {"model": {"family": "paligemma_3b_224"}}."""
  model = values.get("model")
  if not isinstance(model, dict) or "family" not in model:
    return values
  if not isinstance(model["family"], str):
    raise InputError(f"config key model.family: expected str, got {model['family']!r}")
  said = {name: value for name, value in model.items() if name != "family"}
  return values | {"model": _merged(dataclasses.asdict(families.paligemma(model["family"])), said)}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
  merged = dict(base)
  for name, value in changes.items():
    is_group = isinstance(value, dict) and isinstance(base.get(name), dict)
    merged[name] = _merged(base[name], value) if is_group else value
  return merged


def _override(values: dict[str, Any], key: str, text: str) -> None:
  *groups, name = key.split(".")
  for group in groups:
    values = values.setdefault(group, {})
    if not isinstance(values, dict):
      raise InputError(f"config key {key}: {group} holds a value, not a group of keys")
  try:
    values[name] = json.loads(text)
  except json.JSONDecodeError:
    values[name] = text
  except ValueError as error:  # more digits than Python reads
    raise InputError(f"config key {key}: {error}") from error
