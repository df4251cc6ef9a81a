"""Our own checkpoints: a folder with `model.json` and `params/`, or a finished training workdir.

  model.json       format, version, the StudentConfig, and the `Facts` of the checkpoint
  params/          the tree of parameters as Orbax keeps it; `StandardCheckpointer` restores it too
  tokenizer.model  and other carried files

Orbax writes an array that is in memory; the handler below writes a `LazyTensor` block by block, in
chunks of one layer, so that a layer of a stacked tensor is read and written alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint import type_handlers

from vsumjax.convert import merging, sidecar, tensors, weights
from vsumjax.convert.huggingface import CARRIED
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Facts, Weights
from vsumjax.data import prompt
from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.types import InputError

MODEL, PARAMS = "model.json", "params"
_FORMAT, _VERSION = "vsumjax", 1
_METADATA = "_METADATA"  # Orbax's table of the tree
_CHUNK_BYTES = 32 * 2**20
# Of files that Orbax writes into; a multiple of the chunks, and small enough for object stores.
_DATA_FILE_BYTES = 512 * 2**20


def is_native(path: Path) -> bool:
  """Whether a path is a folder that `write_native` wrote."""
  return (path / MODEL).is_file()


def is_workdir(path: Path) -> bool:
  """Whether a path is a folder of a training run."""
  return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def open_native(path: Path) -> Weights:
  """Opens what `write_native` wrote.

  Raises:
    InputError: naming file and tensor, if anything is broken, missing or left over.
  """
  values = sidecar.read_json(path / MODEL)
  config = sidecar.config_of(values, _FORMAT, _VERSION, path / MODEL)
  return weights.check(
    Weights(
      config,
      _open_orbax(path / PARAMS, ""),
      Facts(**sidecar.facts_of(values, path / MODEL)),
      {name: path / name for name in CARRIED if (path / name).is_file()},
      str(path),
    )
  )


def open_workdir(path: Path) -> Weights:
  """Opens the parameters of a finished training run, its adapters merged into plain weights.

  Raises:
    InputError: if it has not finished, or a file of it is broken.
  """
  if not (path / "FINISHED.json").exists():
    raise InputError(f"{path}: training has not finished there (FINISHED.json is missing)")
  finished = sidecar.read_json(path / "FINISHED.json")
  values = sidecar.read_json(path / "config.json")
  config = weights.config_from_dict(values.get("model"), str(path / "config.json"))
  tokenizer = load_tokenizer(path / "tokenizer.model")
  try:
    fields = values["prompt"] | {"score_tokens": tuple(values["prompt"]["score_tokens"])}
    prompt_config = prompt.PromptConfig(**fields)
  except (KeyError, TypeError) as error:
    raise InputError(f"{path / 'config.json'}: prompt: {error}") from error
  facts = Facts(
    origin=path.name,
    image_token_id=tokenizer.image_id,
    score_tokens=prompt_config.score_tokens,
    score_ids=tuple(map(tokenizer.piece_id, prompt_config.score_tokens)),
    prompt=dataclasses.asdict(prompt_config),
    prompt_digest=prompt.prompt_digest(prompt_config, tokenizer),
  )
  folder = path / finished.get("folder", "checkpoints") / str(finished.get("step"))
  found = _open_orbax(folder / "state", "params")
  found, config = merging.merged(found, config)
  files = {"tokenizer.model": path / "tokenizer.model"}
  return weights.check(Weights(config, found, facts, files, str(path)))


def _open_orbax(path: Path, group: str) -> dict[str, LazyTensor]:
  """The arrays under a group ("" for all) of an Orbax checkpoint, by path.

  Orbax's own `metadata` would open every array of the optimizer, too.
  """
  metadata = sidecar.read_json(path / _METADATA)
  try:
    keys = [
      [key["key"] for key in leaf["key_metadata"]]
      for leaf in metadata["tree_metadata"].values()
      if leaf["value_metadata"]["value_type"] != "None"
    ]
    driver = "zarr3" if metadata["use_zarr3"] else "zarr"
    lead = [group] if group else []
    names = {"/".join(k[len(lead) :]): ".".join(k) for k in keys if k[: len(lead)] == lead}
    return {name: _open_array(path, name, key, driver) for name, key in names.items()}
  except (OSError, ValueError, KeyError, TypeError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise InputError(f"{path}: not a checkpoint of Orbax, or broken: {reason}") from error


def _open_array(path: Path, name: str, key: str, driver: str) -> LazyTensor:
  base = f"file://{path.absolute()}"
  kvstore = {"driver": "ocdbt", "base": base, "path": f"{key}/"}
  store = tensorstore.open({"driver": driver, "kvstore": kvstore}, open=True, read=True).result()
  shape = tuple(store.shape)

  def read(region: tensors.Region) -> np.ndarray:
    try:
      return store[tensors.full(region, shape)].read().result()
    except ValueError as error:
      raise InputError(f"{path}: {name}: cannot be read: {error}".splitlines()[0]) from error

  return LazyTensor(name, shape, np.dtype(store.dtype.numpy_dtype), str(path), read, len(shape))


def write_native(path: Path, ours: Weights, on_bytes: Callable[[int], None]) -> None:
  """Fills a new folder.

  Args:
    path: an empty folder.
    ours: what to write.
    on_bytes: called with the number of bytes written, block by block.
  """
  content = {"format": _FORMAT, "version": _VERSION, "model": dataclasses.asdict(ours.config)}
  content |= dataclasses.asdict(ours.facts)
  (path / MODEL).write_text(json.dumps(content, indent=2) + "\n")
  for name, file in ours.files.items():
    shutil.copyfile(file, path / name)
  registry = type_handlers.create_type_handler_registry((LazyTensor, _LazyHandler(on_bytes)))
  handler = ocp.PyTreeCheckpointHandler(
    # Weights are noise to a compressor; it would be most of the time of a conversion.
    use_compression=False,
    type_handler_registry=registry,
  )
  with contextlib.closing(ocp.Checkpointer(handler)) as checkpointer:
    args = ocp.args.PyTreeSave(
      weights.nested(ours.tensors), ocdbt_target_data_file_size=_DATA_FILE_BYTES
    )
    checkpointer.save((path / PARAMS).absolute(), args=args)


class _LazyHandler(type_handlers.NumpyHandler):
  """Writes a `LazyTensor` as Orbax writes a NumPy array: any of its handlers reads it back."""

  def __init__(self, on_bytes: Callable[[int], None]) -> None:
    super().__init__(deepcopy_host_arrays=False)
    self._on_bytes = on_bytes
    self._one_at_a_time = asyncio.Lock()

  async def _open_and_write(
    self, value: LazyTensor, tspec: dict[str, Any], ts_context: tensorstore.Context
  ) -> None:
    tspec["metadata"]["chunks"] = list(chunk_shape(value))
    async with self._one_at_a_time:
      store = await tensorstore.open(
        tensorstore.Spec(tspec), create=True, open=True, context=ts_context
      )
      for region in tensors.blocks(value):
        block = value.read(region)
        await store[tensors.full(region, value.shape)].write(block)
        self._on_bytes(block.nbytes)


def chunk_shape(tensor: LazyTensor) -> tuple[int, ...]:
  """Shape of the pieces that are stored, and read, as one: at most a layer, of about 32 MiB.

  Leading axes are cut to 1 until a row is small enough, then the next is divided.
  Example: float32[18, 2, 2048, 16384] is kept in chunks of [1, 1, 512, 16384].
  """
  shape, itemsize = list(tensor.shape), tensor.dtype.itemsize
  for axis, size in enumerate(tensor.shape):
    row_bytes = math.prod(tensor.shape[axis + 1 :]) * itemsize
    if (axis == 0 and tensor.ndim > 2) or row_bytes > _CHUNK_BYTES:
      shape[axis] = 1
      continue
    shape[axis] = min(size, max(1, _CHUNK_BYTES // row_bytes))
    break
  return tuple(shape)
