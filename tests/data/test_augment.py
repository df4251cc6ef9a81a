"""Augmentation: the same draw gives the same frames, and each change does what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.augment import Augmentation, AugmentConfig
from vsumjax.types import InputError

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 16, 3)).astype(np.uint8)
FULL = AugmentConfig(crop=0.5, flip=0.5, jitter=0.4, time_shifts=5)


@given(st.integers(0, 2**40), st.integers(0, 10**7), st.integers(0, 10**5))
def test_the_draw_depends_on_seed_step_and_row_alone(seed, step, row):
  def draw(*key):
    changes = Augmentation(FULL, *key)
    return changes.shifts(4).tolist(), changes.frames(FRAMES)

  shifts, frames = draw(seed, step, row)
  again = draw(seed, step, row)
  assert shifts == again[0] and np.array_equal(frames, again[1])
  assert frames.shape == FRAMES.shape and frames.dtype == np.uint8
  others = [draw(seed + 1, step, row), draw(seed, step + 1, row), draw(seed, step, row + 1)]
  assert not any(np.array_equal(frames, other) for _, other in others)


def test_the_defaults_change_nothing():
  changes = Augmentation(AugmentConfig(), 0, 1, 2)
  assert np.array_equal(changes.frames(FRAMES), FRAMES)
  assert changes.shifts(3).tolist() == [0, 0, 0]


def test_a_flip_mirrors_half_of_the_windows():
  mirrored = [
    np.array_equal(
      Augmentation(AugmentConfig(flip=0.5), 0, 0, row).frames(FRAMES), FRAMES[..., ::-1, :]
    )
    for row in range(400)
  ]
  assert 150 < sum(mirrored) < 250
  certain = Augmentation(AugmentConfig(flip=1.0), 0, 0, 0).frames(FRAMES)
  assert np.array_equal(certain, FRAMES[..., ::-1, :])


def test_a_crop_shows_a_part_of_the_picture_the_same_in_every_frame():
  ramp = np.linspace(0, 255, 64).astype(np.uint8)
  frames = np.broadcast_to(ramp[None, None, None, :, None], (2, 1, 64, 64, 3)).copy()
  widths = []
  for row in range(100):
    cropped = Augmentation(AugmentConfig(crop=0.5), 3, 0, row).frames(frames)
    assert np.array_equal(cropped[0], cropped[1])
    line = cropped[0, 0, 0, :, 0].astype(int)
    assert (np.diff(line) >= 0).all()
    widths.append((line[-1] - line[0]) / 255)
  assert 0.45 < min(widths) < 0.6 and 0.9 < max(widths) <= 1


def test_jitter_keeps_grey_grey_and_moves_brightness_both_ways():
  grey = np.full((1, 1, 8, 8, 3), 100, np.uint8)
  means = []
  for row in range(100):
    frames = Augmentation(AugmentConfig(jitter=0.3), 0, 0, row).frames(grey)
    assert (frames == frames[..., :1]).all()
    means.append(frames.mean())
  assert 68 < min(means) < 80 and 120 < max(means) < 132


def test_shifts_asked_again_are_the_same():
  changes = Augmentation(FULL, 0, 0, 0)
  assert changes.shifts(8).tolist() == changes.shifts(8).tolist()


def test_every_shift_is_drawn():
  drawn = [tuple(Augmentation(FULL, 0, 0, row).shifts(2)) for row in range(300)]
  assert {shift for pair in drawn for shift in pair} == set(range(5))
  assert len(set(drawn)) == 25


@pytest.mark.parametrize(
  ("field", "value"),
  [("crop", 0.0), ("crop", 1.1), ("flip", -0.1), ("jitter", 2.0), ("time_shifts", 2)],
)
def test_impossible_values_are_refused_by_key(field, value):
  with pytest.raises(InputError, match=rf"data\.augment\.{field}"):
    AugmentConfig(**{field: value})
