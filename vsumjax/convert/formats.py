"""Which format a path is, and the door to each: open it, fill a new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from vsumjax.convert import huggingface, native, npz, sidecar
from vsumjax.convert.weights import Weights
from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.lora import LoraConfig
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

NPZ, HUGGINGFACE, NATIVE = FORMATS = ("npz", "hf", "vsumjax")


def format_of(path: Path) -> str:
  """The format of a checkpoint.

  Raises:
    InputError: if it is none that can be opened, saying what was looked for.
  """
  if not path.exists():
    raise InputError(f"{path}: no such file or folder")
  if path.is_file() and (npz.is_npz(path) or path.suffix == ".npz"):
    return NPZ
  if native.is_native(path) or native.is_workdir(path):
    return NATIVE
  if huggingface.is_huggingface(path):
    return HUGGINGFACE
  raise InputError(
    f"{path}: no checkpoint: neither an npz archive, nor a folder with model.json (ours), with "
    "config.json and checkpoints (a training run), or with config.json and model.safetensors or "
    "its index (Hugging Face)"
  )


def open_weights(path: Path, config: StudentConfig | None = None) -> Weights:
  """Opens a checkpoint of any format; no weight is read yet.

  Args:
    path: the file or folder.
    config: the architecture, for an npz of no published size; the other formats say it themselves.

  Raises:
    InputError: naming file and tensor, if anything is broken, missing or left over.
  """
  kind = format_of(path)
  if config is not None and kind != NPZ:
    raise InputError(f"{path}: says itself what model it is; the model is named for npz only")
  if kind == NPZ:
    opened = npz.open_npz(path, config)
  elif kind == HUGGINGFACE:
    opened = huggingface.open_huggingface(path)
  else:
    opened = native.open_native(path) if native.is_native(path) else native.open_workdir(path)
  return opened


def open_for(path: Path, config: StudentConfig) -> Weights:
  """Opens a checkpoint that a model of this config is to start from.

  Raises:
    InputError: as `open_weights` does, and if towers or decoder are of another architecture, naming
      the first key that differs.
  """
  says_nothing = format_of(path) == NPZ and sidecar.read_sidecar(path) is None
  plain = dataclasses.replace(
    config, lora=LoraConfig(), quantize="", exits=ExitsConfig((config.llm.depth,))
  )
  weights = open_weights(path, plain if says_nothing else None)
  for part in ("img", "llm"):
    theirs = dataclasses.asdict(getattr(weights.config, part))
    for name, value in dataclasses.asdict(getattr(config, part)).items():
      if value != theirs[name]:
        raise InputError(
          f"{path}: {part}.{name} is {theirs[name]} there and model.{part}.{name} is {value}; "
          "launch/convert.py changes the sizes of image and vocabulary, and nothing else can"
        )
  return weights


def check_tokenizer(weights: Weights) -> None:
  """Raises InputError if the tokenizer that travels with the weights has more pieces than rows."""
  path = weights.files.get("tokenizer.model")
  if path is None:
    return
  num_pieces, num_rows = load_tokenizer(path).vocab_size, weights.config.llm.vocab_size
  if num_pieces > num_rows:
    raise InputError(
      f"{path}: {num_pieces} pieces, and llm/embedder/input_embedding has {num_rows} rows; "
      f"give --vocab-size {num_pieces} or more"
    )


def write_weights(
  path: Path, kind: str, weights: Weights, max_shard_bytes: int, on_bytes: Callable[[int], None]
) -> None:
  """Writes a checkpoint at a path where there is nothing.

  Args:
    path: the file (npz, with its sidecar beside it) or folder to make.
    kind: one of FORMATS.
    weights: what to write.
    max_shard_bytes: of a safetensors file.
    on_bytes: called with the number of bytes written, block by block.

  Raises:
    InputError: if the format cannot hold this model.
  """
  if kind == NPZ:
    npz.write_npz(path, weights, on_bytes)
    if npz.needs_sidecar(weights):
      sidecar.write_sidecar(*sidecar.paths(path), weights, on_bytes)
    return
  path.mkdir()
  if kind == HUGGINGFACE:
    huggingface.write_huggingface(path, weights, max_shard_bytes, on_bytes)
  else:
    native.write_native(path, weights, on_bytes)
