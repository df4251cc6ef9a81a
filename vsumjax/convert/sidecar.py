"""What PaliGemma has no place for, beside an exported checkpoint: `vsumjax.json` and the exits.

`vsumjax.json` is an object of

  format             "vsumjax sidecar"
  version            1
  model              the StudentConfig; `model.exits.layers`: after which layers a score is read
  image_token_id     id of an image slot, -1 if unknown
  score_tokens       pieces of the score classes, worst first; [] if unknown
  score_ids          their token ids; the last exit is the tied LM head restricted to them
  prompt             the PromptConfig the model was trained with; {} if unknown
  prompt_digest      its digest, "" if unknown

`exits.safetensors` holds every parameter under `exits/` by its path, and is there if the model has
early exits (E of them, of width D, with C classes) or prototypes:

  exits/norm       [E, D]         scale of the RMS norm before the head
  exits/kernel     [E, D, C]      the head
  exits/bias       [E, C]
  exits/prototype  [E + 1, C, D]  a prototype of each class, for the last exit too

Beside a single file, as x.npz, the two are named x.npz.vsumjax.json and x.npz.exits.safetensors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsumjax.convert.safetensors import open_safetensors, write_safetensors
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Facts, Weights, config_from_dict
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

JSON, EXITS = "vsumjax.json", "exits.safetensors"
_FORMAT, _VERSION = "vsumjax sidecar", 1
_FACTS = ("image_token_id", "score_tokens", "score_ids", "prompt", "prompt_digest")


def paths(target: Path) -> tuple[Path, Path]:
  """Where the sidecar of a folder, or of a single file, lies: (JSON, exits)."""
  if target.suffix == ".npz":
    return tuple(target.with_name(f"{target.name}.{name}") for name in (JSON, EXITS))
  return target / JSON, target / EXITS


def write_sidecar(
  json_path: Path, exits_path: Path, weights: Weights, on_bytes: Callable[[int], None]
) -> None:
  """Writes the JSON, and the exits if there are any."""
  facts = dataclasses.asdict(weights.facts)
  content = {"format": _FORMAT, "version": _VERSION, "model": dataclasses.asdict(weights.config)}
  content |= {name: facts[name] for name in _FACTS}
  json_path.write_text(json.dumps(content, indent=2) + "\n")
  if exits := weights.exits():
    write_safetensors(exits_path, exits, on_bytes)


def read_sidecar(
  target: Path,
) -> tuple[StudentConfig, dict[str, LazyTensor], dict[str, Any]] | None:
  """(config, tensors under `exits/`, fields of `Facts`), or None where there is no sidecar.

  Raises:
    InputError: naming the file, if it is broken or its exits are missing.
  """
  json_path, exits_path = paths(target)
  if not json_path.exists():
    return None
  values = read_json(json_path)
  config = config_of(values, _FORMAT, _VERSION, json_path)
  has_exits = len(config.exits.layers) > 1 or config.exits.prototypes
  exits = open_safetensors(exits_path) if has_exits else {}
  return config, exits, facts_of(values, json_path)


def config_of(values: dict, name: str, version: int, path: Path) -> StudentConfig:
  """The config in one of our JSON files, once its format and version are known to be ours."""
  if values.get("format") != name or values.get("version") != version:
    raise InputError(
      f"{path}: format {values.get('format')!r} version {values.get('version')!r} is not "
      f"{name!r} version {version}, which this version of the library reads"
    )
  return config_from_dict(values.get("model"), str(path))


def facts_of(values: dict, path: Path) -> dict[str, Any]:
  """The fields of `Facts` that lie in one of our JSON files."""
  known = {field.name for field in dataclasses.fields(Facts)}
  try:
    facts = {name: value for name, value in values.items() if name in known}
    pairs = {name: tuple(facts[name]) for name in ("score_tokens", "score_ids")}
  except (KeyError, TypeError) as error:
    raise InputError(f"{path}: broken: {error}") from error
  return facts | pairs


def read_json(path: Path) -> dict[str, Any]:
  """A JSON object; InputError naming the file if it is none."""
  try:
    values = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: cannot be read: {error}") from error
  if not isinstance(values, dict):
    raise InputError(f"{path}: not a JSON object")
  return values
