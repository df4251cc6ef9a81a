import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.order import GlobalOrder

SEEDS = st.integers(0, 2**63)


@given(st.integers(1, 2000), SEEDS, st.integers(0, 10**6))
def test_every_epoch_is_a_permutation(n, seed, epoch):
  rows = np.arange(epoch * n, (epoch + 1) * n)
  assert np.array_equal(np.sort(GlobalOrder(n, seed).examples(rows)), np.arange(n))


@given(st.integers(20, 2000), SEEDS, st.integers(0, 1000))
def test_epochs_and_seeds_differ(n, seed, epoch):
  def permutation(seed, epoch):
    return GlobalOrder(n, seed).examples(np.arange(epoch * n, (epoch + 1) * n)).tolist()

  own = permutation(seed, epoch)
  assert own != permutation(seed, epoch + 1)
  assert own != permutation(seed + 1, epoch)
  assert permutation(seed, epoch + 1) != permutation(seed + 1, epoch)


@given(st.integers(1, 300), SEEDS, st.integers(1, 40), st.integers(0, 50))
def test_one_row_is_the_same_as_many(n, seed, batch_size, step):
  order = GlobalOrder(n, seed)
  rows = order.examples(step * batch_size + np.arange(batch_size))
  assert [order.example(step, row, batch_size) for row in range(batch_size)] == rows.tolist()


def test_every_example_comes_at_every_place_equally_often():
  n, num_epochs = 12, 12_000
  examples = GlobalOrder(n, 7).examples(np.arange(n * num_epochs)).reshape(num_epochs, n)
  counts = np.array([np.bincount(examples[:, place], minlength=n) for place in range(n)])
  expected = num_epochs / n
  assert ((counts - expected) ** 2 / expected).sum() < 190  # chi-square, 121 degrees: p = 7e-5


def test_neighbours_in_the_data_are_not_neighbours_in_the_order():
  n = 5000
  examples = GlobalOrder(n, 0).examples(np.arange(n))
  assert abs(np.corrcoef(examples, np.arange(n))[0, 1]) < 0.05
  assert abs(np.corrcoef(examples[1:], examples[:-1])[0, 1]) < 0.05


def test_a_billion_examples_cost_no_more():
  rows = np.random.default_rng(0).integers(0, 10**12, 1000)
  start = time.perf_counter()
  order = GlobalOrder(10**9, 3)
  examples = [order.example(int(row), 0, 1) for row in rows]
  assert time.perf_counter() - start < 1
  assert all(0 <= example < 10**9 for example in examples)
  assert len(set(examples)) > 990


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_impossible_sizes_are_refused(n):
  with pytest.raises(ValueError, match="num_examples"):
    GlobalOrder(n, 0)
