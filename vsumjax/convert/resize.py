"""Another resolution, or a larger vocabulary."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.ndimage

from vsumjax.convert import tensors
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Weights
from vsumjax.types import InputError

_POSITIONS, _EMBEDDING = "img/pos_embedding", "llm/embedder/input_embedding"


def with_image_size(weights: Weights, image_size: int) -> Weights:
  """The weights for frames of `image_size` pixels: position embeddings are interpolated.

  Raises:
    InputError: if the patches do not divide `image_size`.
  """
  config = weights.config
  if image_size == config.img.image_size:
    return weights
  img = dataclasses.replace(config.img, image_size=image_size)
  tensor = weights.tensors[_POSITIONS]
  shape = (1, img.num_patches, img.width)
  resized = tensors.mapped(tensor, lambda array: resize_positions(array, img.num_patches), shape)
  return _replace(weights, dataclasses.replace(config, img=img), _POSITIONS, resized)


def resize_positions(position_1PD: np.ndarray, num_patches: int) -> np.ndarray:
  """Position embeddings of a square grid for another: [1, P, D] -> [1, num_patches, D].

  Linear interpolation of the grid in float32, corners on corners, as in big_vision's
  `resample_posemb`. The same grid comes back as it is.
  """
  old, new = math.isqrt(position_1PD.shape[1]), math.isqrt(num_patches)
  if old == new:
    return position_1PD
  grid_hwD = position_1PD.astype(np.float32).reshape(old, old, -1)
  zoomed_hwD = scipy.ndimage.zoom(grid_hwD, (new / old, new / old, 1), order=1)
  return zoomed_hwD.reshape(1, new * new, -1).astype(position_1PD.dtype)


def with_vocab_size(weights: Weights, vocab_size: int) -> Weights:
  """The weights with more rows in the embedding; each new one is the mean of those there.

  A new token so starts as an average one: its logit lies amid the others, in and out.

  Raises:
    InputError: if rows would have to go.
  """
  config, tensor = weights.config, weights.tensors[_EMBEDDING]
  num_new = vocab_size - config.llm.vocab_size
  if num_new == 0:
    return weights
  if num_new < 0:
    raise InputError(
      f"{weights.source}: a vocabulary of {config.llm.vocab_size} cannot shrink to {vocab_size}: "
      "whose rows should go?"
    )
  llm = dataclasses.replace(config.llm, vocab_size=vocab_size)
  rows = np.broadcast_to(_mean_row(tensor), (num_new, llm.width))
  return _replace(
    weights, dataclasses.replace(config, llm=llm), _EMBEDDING, tensors.extended(tensor, rows)
  )


def _mean_row(tensor: LazyTensor) -> np.ndarray:
  total_D = np.zeros(tensor.shape[1], np.float64)
  for region in tensors.blocks(tensor):
    total_D += tensor.read(region).astype(np.float64).sum(axis=0)
  return (total_D / tensor.shape[0]).astype(np.float32)


def _replace(weights: Weights, config, path: str, tensor: LazyTensor) -> Weights:
  return dataclasses.replace(weights, config=config, tensors={**weights.tensors, path: tensor})
