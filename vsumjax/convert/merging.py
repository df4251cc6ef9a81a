"""Adapters and quantised weights of a trained run, merged block by block into plain weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import qwix

from vsumjax.convert.tensors import FLOATS, LazyTensor, Region, cast
from vsumjax.models import lora
from vsumjax.models.student import StudentConfig

_QVALUE, _SCALE = "/qvalue", "/scale"


def merged(
  tensors: Mapping[str, LazyTensor], config: StudentConfig
) -> tuple[dict[str, LazyTensor], StudentConfig]:
  """What `lora.merge_lora` makes of parameters, of tensors still in their files.

  Args:
    tensors: the leaves of a run's parameters by path; a quantised one is in two leaves.
    config: of the run.

  Returns:
    Plain tensors, and the config without LoRA and quantisation.
  """
  plain_config = dataclasses.replace(config, lora=lora.LoraConfig(), quantize="")
  if not config.lora.rank and not config.quantize:
    return dict(tensors), plain_config
  whole: dict[str, LazyTensor] = {}
  for path, tensor in tensors.items():
    base = path.removesuffix(_QVALUE)
    if path.endswith(_QVALUE) and base + _SCALE in tensors:
      whole[base] = _dequantized(base, tensor, tensors[base + _SCALE])
    elif not (path.endswith(_SCALE) and path.removesuffix(_SCALE) + _QVALUE in tensors):
      whole[path] = tensor
  plain = {}
  for path, tensor in whole.items():
    if path.endswith((lora.A, lora.B)):
      continue
    pair = [whole.get(path + suffix) for suffix in (lora.A, lora.B)]
    adapted = tensor if None in pair else _adapted(tensor, pair, config.lora)
    plain[path] = cast(adapted, FLOATS[config.param_dtype]) if path not in tensors else adapted
  return plain, plain_config


def _dequantized(name: str, qvalue: LazyTensor, scale: LazyTensor) -> LazyTensor:

  def read(region: Region) -> np.ndarray:
    q = qwix.QArray(jnp.asarray(qvalue.read(region[:1])), jnp.asarray(scale.read(region[:1])))
    return np.asarray(qwix.dequantize(q))[_inner(region)]

  return LazyTensor(name, qvalue.shape, FLOATS["float32"], qvalue.source, read, qvalue.split_axes)


def _adapted(weight: LazyTensor, adapters: list[LazyTensor], config: lora.LoraConfig) -> LazyTensor:
  """w + alpha / rank · a · b of the rows of a region; an axis of size 1 is not spanned."""

  def read(region: Region) -> np.ndarray:
    rows = region[:1]
    w, *pair = (
      tensor.read(rows if tensor.shape[0] == weight.shape[0] else ())
      for tensor in (weight, *adapters)
    )
    return np.asarray(lora.merge(w, *pair, config.scale))[_inner(region)]

  return dataclasses.replace(weight, read=read)


def _inner(region: Region) -> Region:
  """The rest of a region whose rows have been read."""
  return (slice(None), *region[1:]) if region else ()
