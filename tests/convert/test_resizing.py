"""Other resolutions and larger vocabularies."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
from checkpoint_files import assert_same_tensors, random_leaves, small_config, write_npz

from vsumjax.convert import formats, resize, weights
from vsumjax.data import tokenizer
from vsumjax.types import InputError


@pytest.fixture
def leaves():
  return random_leaves(small_config())


@pytest.fixture
def source(leaves, tmp_path):
  return formats.open_weights(write_npz(tmp_path / "x.npz", leaves), small_config())


@pytest.mark.parametrize("size", [8, 32, 24, 56])
def test_positions_are_interpolated_as_scipy_does(source, leaves, size):
  resized = weights.check(resize.with_image_size(source, size))
  grid = leaves["img/pos_embedding"].reshape(4, 4, 16)
  wanted = scipy.ndimage.zoom(grid, (size / 16, size / 16, 1), order=1)
  found = resized.tensors["img/pos_embedding"].array()
  np.testing.assert_array_equal(found, wanted.reshape(1, -1, 16))
  assert resized.config.img.image_size == size
  others = {name: t for name, t in resized.tensors.items() if name != "img/pos_embedding"}
  assert_same_tensors(others, {name: leaves[name] for name in others})


def test_corners_stay_corners(source, leaves):
  found = resize.with_image_size(source, 32).tensors["img/pos_embedding"].array()
  old, new = leaves["img/pos_embedding"].reshape(4, 4, 16), found.reshape(8, 8, 16)
  for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
    np.testing.assert_allclose(new[corner], old[corner], rtol=1e-6)


def test_the_same_size_changes_nothing(source, leaves):
  assert_same_tensors(resize.with_image_size(source, 16).tensors, leaves)
  assert_same_tensors(resize.with_vocab_size(source, 64).tensors, leaves)


def test_bfloat16_is_zoomed_in_float32():
  position = random_leaves(small_config(), "bfloat16")["img/pos_embedding"]
  found = resize.resize_positions(position, 64)
  wanted = resize.resize_positions(position.astype(np.float32), 64)
  assert found.dtype == position.dtype
  np.testing.assert_array_equal(found, wanted.astype(position.dtype))


def test_a_size_that_patches_do_not_divide(source):
  with pytest.raises(InputError, match="patch_size"):
    resize.with_image_size(source, 18)


def test_new_rows_are_the_mean_row(source, leaves, monkeypatch):
  monkeypatch.setattr("vsumjax.convert.tensors.BLOCK_BYTES", 1000)
  extended = weights.check(resize.with_vocab_size(source, 70))
  tensor = extended.tensors["llm/embedder/input_embedding"]
  old = leaves["llm/embedder/input_embedding"]
  found = tensor.array()
  assert extended.config.llm.vocab_size == 70
  np.testing.assert_array_equal(found[:64], old)
  np.testing.assert_allclose(found[64:], np.tile(old.mean(axis=0), (6, 1)), rtol=1e-4, atol=1e-7)
  for rows in (slice(60, 66), slice(66, 70), slice(0, 64), slice(64, 65)):
    np.testing.assert_array_equal(tensor.read((rows, slice(3, 5))), found[rows, 3:5])


def test_a_vocabulary_does_not_shrink(source):
  with pytest.raises(InputError, match="64 cannot shrink to 63"):
    resize.with_vocab_size(source, 63)


def test_a_tokenizer_must_fit(source, tmp_path):
  path = tmp_path / "tokenizer.model"
  tokenizer.train_tokenizer(["the quick farmer"], path, vocab_size=300, num_markers=4)
  with_tokenizer = dataclasses.replace(source, files={path.name: path})
  with pytest.raises(InputError, match=r"tokenizer.model: \d+ pieces, .* 64 rows; give --vocab"):
    formats.check_tokenizer(with_tokenizer)
  formats.check_tokenizer(resize.with_vocab_size(with_tokenizer, 512))
