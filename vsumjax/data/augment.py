"""Random changes of the frames of a training window, drawn from (seed, step, row) alone."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from PIL import Image

from vsumjax.types import InputError

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """How much a training window may be changed; the defaults change nothing.

  Attributes:
    crop: least side of the part of the picture that is shown, as a share, up to 1.
    flip: probability of a mirrored picture.
    jitter: brightness, contrast and saturation are each multiplied by 1 - jitter to 1 + jitter.
    time_shifts: a frame is taken at one of so many places around its own; odd.
  """

  crop: float = 1.0
  flip: float = 0.0
  jitter: float = 0.0
  time_shifts: int = 1

  def __post_init__(self):
    if not 0 < self.crop <= 1:
      raise InputError(f"data.augment.crop: must be above 0 and at most 1, is {self.crop}")
    for field in ("flip", "jitter"):
      if not 0 <= getattr(self, field) <= 1:
        raise InputError(f"data.augment.{field}: must be 0 to 1, is {getattr(self, field)}")
    if self.time_shifts < 1 or self.time_shifts % 2 == 0:
      raise InputError(f"data.augment.time_shifts: must be odd and above 0, is {self.time_shifts}")


class Augmentation:
  """The changes of one window. All its frames are changed alike, so that motion stays motion."""

  def __init__(self, config: AugmentConfig, seed: int, step: int, row: int):
    """The draws depend on nothing but the arguments; `row` is that of the global batch."""
    self._config = config
    key = hashlib.blake2b(f"{seed}:{step}:{row}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
    side = rng.uniform(config.crop, 1.0)
    self._box = (*rng.uniform(0.0, 1.0 - side, 2), side)
    self._is_flipped = rng.random() < config.flip
    self._factors = rng.uniform(1 - config.jitter, 1 + config.jitter, 3).astype(np.float32)
    self._shift_seed = int(rng.integers(2**63))

  def shifts(self, num_segments: int) -> np.ndarray:
    """Which of `time_shifts` places the frames of each segment are taken from. i64[N].

    Asked again, it answers the same.
    """
    rng = np.random.default_rng(self._shift_seed)
    return rng.integers(self._config.time_shifts, size=num_segments)

  def frames(self, frames_NFHW3: np.ndarray) -> np.ndarray:
    """Changed frames, u8 and of the same shape."""
    shape = frames_NFHW3.shape
    changed = frames_NFHW3.reshape(-1, *shape[-3:])
    if self._box[2] < 1:
      changed = np.stack([self._cropped(frame) for frame in changed])
    if self._is_flipped:
      changed = changed[:, :, ::-1]
    if self._config.jitter:
      changed = self._jittered(changed)
    return np.ascontiguousarray(changed).reshape(shape)

  def _cropped(self, frame_HW3: np.ndarray) -> np.ndarray:
    height, width, _ = frame_HW3.shape
    left, top, side = self._box
    box = (left * width, top * height, (left + side) * width, (top + side) * height)
    image = Image.fromarray(frame_HW3)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))

  def _jittered(self, frames: np.ndarray) -> np.ndarray:
    brightness, contrast, saturation = self._factors
    pixels = frames.astype(np.float32) * brightness
    grey = (pixels @ _GREY)[..., None]
    pixels = grey + (pixels - grey) * saturation
    middle = grey.mean(axis=(1, 2, 3), keepdims=True)
    pixels = middle + (pixels - middle) * contrast
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
