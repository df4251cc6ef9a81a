"""Hugging Face directories: config.json, safetensors in one file or in shards with an index."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vsumjax.convert import hf_config, mapping, sidecar, tensors, weights
from vsumjax.convert.safetensors import open_safetensors, write_safetensors
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Facts, Weights
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
CARRIED = (
  "tokenizer.model",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "preprocessor_config.json",
  "processor_config.json",
  "generation_config.json",
  "chat_template.json",
  "chat_template.jinja",
)


def is_huggingface(path: Path) -> bool:
  """Whether a path is a directory of Hugging Face's kind."""
  return (path / CONFIG).is_file() and any((path / name).exists() for name in (INDEX, _SINGLE))


def open_huggingface(path: Path) -> Weights:
  """Opens a directory; only headers are read, and a tied LM head where there is one.

  Raises:
    InputError: naming file, tensor or key, if anything is broken, missing, left over, or of an
      architecture other than PaliGemma's.
  """
  values = sidecar.read_json(path / CONFIG)
  config = hf_config.read_config(values, str(path / CONFIG))
  theirs = _open_tensors(path)
  layout = mapping.find_layout(theirs, str(path))
  ours = mapping.from_theirs(theirs, config, layout, str(path))
  if layout.head:
    _check_tied(theirs[layout.head], ours["llm/embedder/input_embedding"])
  facts = {
    "origin": path.name,
    "image_token_id": values.get("image_token_index", values.get("image_token_id", -1)),
  }
  if beside := sidecar.read_sidecar(path):
    config = _with_exits(config, beside[0], path)
    ours |= beside[1]
    facts = beside[2] | facts
  huggingface = {"layout": dataclasses.asdict(layout), "config": values}
  return weights.check(
    Weights(
      config,
      ours,
      Facts(**facts | {"huggingface": huggingface}),
      {name: path / name for name in CARRIED if (path / name).is_file()},
      str(path),
    )
  )


def _with_exits(config: StudentConfig, beside: StudentConfig, path: Path) -> StudentConfig:
  """The sidecar's config, which says more, if it is of the same model."""
  if (beside.img, beside.llm) != (config.img, config.llm):
    raise InputError(
      f"{path / sidecar.JSON}: of another model than {path / CONFIG}; take it and "
      f"{sidecar.EXITS} away to convert without exits"
    )
  return beside


def _open_tensors(path: Path) -> dict[str, LazyTensor]:
  index = path / INDEX
  if not index.exists():
    return open_safetensors(path / _SINGLE)
  table = sidecar.read_json(index).get("weight_map")
  if not isinstance(table, dict):
    raise InputError(f"{index}: it has no weight_map")
  found: dict[str, LazyTensor] = {}
  for file in sorted(set(map(str, table.values()))):
    if not (path / file).is_file():
      raise InputError(f"{index}: it names {file}, which is not there")
    found |= _open_shard(path / file, {name for name in table if table[name] == file}, index)
  return found


def _open_shard(path: Path, named: set[str], index: Path) -> dict[str, LazyTensor]:
  shard = open_safetensors(path)
  if missing := sorted(named - shard.keys()):
    raise InputError(f"{path}: {', '.join(missing)}: not in it, where {index.name} puts them")
  if unknown := sorted(shard.keys() - named):
    raise InputError(f"{path}: {', '.join(unknown)}: in it, and not in {index.name}")
  return shard


def _check_tied(head: LazyTensor, embedding: LazyTensor) -> None:
  """Raises unless the LM head is the embedding, as in our model."""
  same = head.dtype == embedding.dtype and all(
    np.array_equal(_bits(head.read(region)), _bits(embedding.read(region)))
    for region in tensors.blocks(head)
  )
  if not same:
    raise InputError(f"{head.describe()}: differs from {embedding.name}, to which it must be tied")


def _bits(array: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(array).view(np.uint8)


def write_huggingface(
  path: Path, ours: Weights, max_shard_bytes: int, on_bytes: Callable[[int], None]
) -> None:
  """Fills a new directory, which `from_pretrained` loads.

  Args:
    path: an empty folder.
    ours: what to write. Spelled as it came, if it came from Hugging Face.
    max_shard_bytes: a file holds more only if a single tensor is larger.
    on_bytes: called with the number of bytes written, block by block.

  Raises:
    InputError: if Hugging Face's model cannot be built like this one.
  """
  known = ours.facts.huggingface
  layout = mapping.Layout(**known["layout"]) if known else mapping.Layout()
  theirs = mapping.to_theirs(ours.tower(), ours.config, layout)
  values = _config(ours, known.get("config", {}))
  (path / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
  _write_shards(path, theirs, max_shard_bytes, on_bytes)
  for name, file in ours.files.items():
    shutil.copyfile(file, path / name)
  if "generation_config.json" not in ours.files:
    generation = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    (path / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
  if _needs_sidecar(ours):
    sidecar.write_sidecar(*sidecar.paths(path), ours, on_bytes)


def _config(ours: Weights, base: Mapping[str, Any]) -> Mapping[str, Any]:
  """The config.json that the weights came with as long as it is true; else one that is."""
  dtype = ours.tensors["llm/embedder/input_embedding"].dtype.name
  if base:
    came = hf_config.read_config(base, CONFIG)
    as_came = base.get("dtype", base.get("torch_dtype", dtype)) == dtype
    if as_came and (came.img, came.llm) == (ours.config.img, ours.config.llm):
      return base
  image_token_id = ours.facts.image_token_id
  if image_token_id < 0:
    raise InputError(
      f"{ours.source}: the id of the image slots is not known, and config.json needs it; put the "
      "tokenizer.model beside the weights"
    )
  return hf_config.write_config(ours.config, image_token_id, dtype, base)


def _needs_sidecar(ours: Weights) -> bool:
  return bool(ours.exits() or ours.facts.score_ids or ours.facts.prompt)


def _write_shards(
  path: Path,
  theirs: Mapping[str, LazyTensor],
  max_shard_bytes: int,
  on_bytes: Callable[[int], None],
) -> None:
  shards = _split(theirs, max_shard_bytes)
  if len(shards) == 1:
    write_safetensors(path / _SINGLE, theirs, on_bytes)
    return
  table = {}
  for number, shard in enumerate(shards, 1):
    file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    write_safetensors(path / file, shard, on_bytes)
    table |= dict.fromkeys(shard, file)
  metadata = {"total_size": sum(tensor.nbytes for tensor in theirs.values())}
  content = {"metadata": metadata, "weight_map": dict(sorted(table.items()))}
  (path / INDEX).write_text(json.dumps(content, indent=2) + "\n")


def _split(theirs: Mapping[str, LazyTensor], max_bytes: int) -> list[dict[str, LazyTensor]]:
  shards: list[dict[str, LazyTensor]] = [{}]
  size = 0
  for name, tensor in sorted(theirs.items()):
    if shards[-1] and size + tensor.nbytes > max_bytes:
      shards.append({})
      size = 0
    shards[-1][name] = tensor
    size += tensor.nbytes
  return shards
