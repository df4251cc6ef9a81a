"""Texts after prompts: slots, masks, and where each token is predicted."""

import numpy as np
import pytest

from vsumjax.data import answers
from vsumjax.types import Batch

PAD = 0


def batch_of(tokens_BT, input_mask_BT):
  B, T = tokens_BT.shape
  return Batch(
    frames=np.zeros((B, 1, 0, 4, 4, 3), np.uint8),
    tokens=tokens_BT.astype(np.int32),
    mask_ar=np.zeros((B, T), np.int32),
    input_mask=input_mask_BT,
    score_pos=np.zeros((B, 1), np.int32),
    targets=np.zeros((B, 1, 5), np.float32),
    weight=np.ones((B, 1), np.float32),
    teachers=(),
    example=np.arange(B, dtype=np.int32),
  )


@pytest.fixture
def forced():
  """Prompts of 4 and 2 of 5 tokens; texts of two tokens, and of all four."""
  prompts = np.array([[11, 12, 13, 14, 99], [21, 22, 99, 99, 99]])
  batch = batch_of(prompts, prompts != 99)
  text = np.array([[31, 32, PAD, PAD], [41, 42, 43, 44]])
  return answers.with_text(batch, text, np.array([2, 4]))


def test_the_slots_after_the_prompt_hold_the_text_but_its_last_token(forced):
  assert forced.tokens.tolist() == [
    [11, 12, 13, 14, 99, 31, 32, PAD],
    [21, 22, 99, 99, 99, 41, 42, 43],
  ]
  assert forced.input_mask.astype(int).tolist() == [
    [1, 1, 1, 1, 0, 1, 1, 0],
    [1, 1, 0, 0, 0, 1, 1, 1],
  ]
  assert forced.mask_ar.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]] * 2


def test_each_token_is_predicted_where_the_one_before_it_is_read(forced):
  assert forced.text.ids.tolist() == [[31, 32, PAD, PAD], [41, 42, 43, 44]]
  assert forced.text.weight.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
  assert forced.text.position.tolist() == [[3, 5, 6, 7], [1, 5, 6, 7]]
  dtypes = [forced.tokens.dtype, forced.text.ids.dtype, forced.text.position.dtype]
  assert dtypes == [np.int32] * 3 and forced.text.weight.dtype == np.float32


def test_a_row_without_a_text_weighs_nothing():
  prompts = np.array([[11, 12]])
  forced = answers.with_text(batch_of(prompts, prompts > 0), np.array([[PAD] * 3]), np.array([0]))
  assert not forced.text.weight.any()
  assert forced.input_mask.tolist() == [[True, True, False, False]]
  assert forced.tokens.tolist() == [[11, 12, PAD, PAD]]


def test_a_text_of_one_token_needs_no_slot():
  prompts = np.array([[11, 12]])
  forced = answers.with_text(batch_of(prompts, prompts > 0), np.array([[7]]), np.array([1]))
  assert forced.tokens.tolist() == [[11, 12]]
  assert forced.text.position.tolist() == [[1]]
