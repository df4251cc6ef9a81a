import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.order import GlobalOrder, MixedOrder, Part

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
  start = time.process_time()
  order = GlobalOrder(10**9, 3)
  examples = [order.example(int(row), 0, 1) for row in rows]
  assert time.process_time() - start < 1
  assert all(0 <= example < 10**9 for example in examples)
  assert len(set(examples)) > 990


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_impossible_sizes_are_refused(n):
  with pytest.raises(ValueError, match="num_examples"):
    GlobalOrder(n, 0)


def test_a_billion_examples_take_no_memory():
  tracemalloc.start()
  try:
    order = MixedOrder([Part(10**9, 1), Part(10**9, 2)], 3)
    order.examples(np.random.default_rng(0).integers(0, 10**12, 1000))
    _, peak_bytes = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak_bytes < 10**6


PARTS = st.lists(
  st.builds(Part, st.integers(1, 200), st.integers(1, 7)), min_size=1, max_size=5
).map(tuple)


def part_of(parts, examples):
  ends = np.cumsum([part.num_examples for part in parts])
  return np.searchsorted(ends, examples, side="right")


@given(PARTS, SEEDS, st.integers(0, 10**6))
def test_every_block_of_a_mixture_holds_each_part_by_its_weight(parts, seed, block):
  divisor = math.gcd(*(part.weight for part in parts))
  size = sum(part.weight for part in parts) // divisor
  rows = np.arange(block * size, (block + 1) * size)
  counts = np.bincount(part_of(parts, MixedOrder(parts, seed).examples(rows)), minlength=len(parts))
  if len(parts) > 1:
    assert counts.tolist() == [part.weight // divisor for part in parts]


@given(PARTS, SEEDS)
def test_every_part_of_a_mixture_has_exact_epochs(parts, seed):
  blocks = max(-(-3 * part.num_examples // part.weight) for part in parts)
  rows = np.arange(min(blocks * sum(part.weight for part in parts), 20_000))
  examples = MixedOrder(parts, seed).examples(rows)
  first = 0
  for k, part in enumerate(parts):
    own = examples[part_of(parts, examples) == k] - first
    first += part.num_examples
    for epoch in range(len(own) // part.num_examples):
      whole = own[epoch * part.num_examples : (epoch + 1) * part.num_examples]
      assert sorted(whole.tolist()) == list(range(part.num_examples))


@given(PARTS, SEEDS, st.lists(st.integers(0, 10**9), max_size=20))
def test_rows_of_a_mixture_may_be_asked_for_in_any_order(parts, seed, rows):
  order = MixedOrder(parts, seed)
  examples = order.examples(np.array(rows, np.int64))
  assert examples.tolist() == [int(order.examples(np.array([row]))[0]) for row in rows]


@given(st.integers(1, 500), SEEDS, st.integers(1, 9))
def test_a_mixture_of_one_is_the_global_order(n, seed, weight):
  rows = np.arange(2 * n)
  one = MixedOrder([Part(n, weight)], seed).examples(rows)
  assert np.array_equal(one, GlobalOrder(n, seed).examples(rows))


@pytest.mark.parametrize("parts", [[], [Part(3, 0)], [Part(2**30, 1), Part(2**30, 1)]])
def test_impossible_mixtures_are_refused(parts):
  with pytest.raises(ValueError):
    MixedOrder(parts, 0)


def test_a_part_of_weight_0_has_numbers_and_no_rows():
  rows = np.arange(300)
  alone = MixedOrder([Part(10, 1)], 7).examples(rows)
  beside = MixedOrder([Part(10, 1), Part(5, 0)], 7).examples(rows)
  np.testing.assert_array_equal(beside, alone)
  behind = MixedOrder([Part(5, 0), Part(10, 1)], 7).examples(rows)
  np.testing.assert_array_equal(behind, alone + 5)
