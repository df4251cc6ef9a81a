"""The 0/1 knapsack, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def knapsack(
  values_N: Array | Sequence[float], costs_N: Array | Sequence[int], budget: int
) -> Array:
  """The subset of items with the largest sum of values whose costs fit the budget; exact.

  Ties are broken alike on every run, towards early items: of all best subsets, the one that leaves
  out the last item they differ in. An item worth 0 or less is never taken.

  The dynamic programme keeps only the budgets that some subset uses up exactly, so the unit of the
  costs does not matter: 5,400 pieces of 2,000 ms cost no more than 5,400 pieces of 1. Time and
  memory (one bit each) are N times the number of such budgets, which is at most `budget + 1`.

  Args:
    values_N: real[N].
    costs_N: int[N], >= 0.
    budget: >= 0, in the unit of the costs.

  Returns:
    bool[N].
  """
  values_N, costs_N = np.asarray(values_N, np.float64), np.asarray(costs_N, np.int64)
  budget = min(int(budget), int(costs_N.sum()))
  reachable = _reachable_sums(costs_N, budget)
  sums_R = np.flatnonzero(reachable)
  index_of_sum = np.cumsum(reachable) - 1  # of the largest reachable sum up to each budget

  first_N = np.searchsorted(sums_R, costs_N)  # the smallest sum each item fits in
  is_dense = len(sums_R) == budget + 1

  best_R = np.zeros(len(sums_R))
  taken = []  # for every item, a bit for each sum it fits in: is it in the best subset so far?
  for value, cost, first in zip(values_N.tolist(), costs_N.tolist(), first_N.tolist(), strict=True):
    rest = len(sums_R) - first
    without = best_R[:rest] if is_dense else best_R[index_of_sum[sums_R[first:] - cost]]
    with_item = without + value
    is_better = with_item > best_R[first:]
    np.copyto(best_R[first:], with_item, where=is_better)
    taken.append(np.packbits(is_better))

  selected_N = np.zeros(len(values_N), bool)
  left = budget
  for n in reversed(range(len(values_N))):
    bit = int(index_of_sum[left]) - int(first_N[n])
    if bit >= 0 and taken[n][bit >> 3] >> (7 - (bit & 7)) & 1:
      selected_N[n] = True
      left -= int(costs_N[n])
  return selected_N


def _reachable_sums(costs_N: Array, budget: int) -> Array:
  """bool[budget + 1]: is there a subset of the costs with exactly this sum?"""
  reachable = np.zeros(budget + 1, bool)
  reachable[0] = True
  for cost, num_left in zip(*np.unique(costs_N, return_counts=True), strict=True):
    num_together = 1
    # 1, 2, 4, ... copies at once, and what remains, add up to every number of copies.
    while num_left > 0:
      num_together = min(num_together, num_left)
      shift = int(cost) * int(num_together)
      if 0 < shift <= budget:
        reachable[shift:] |= reachable[:-shift]
      num_left -= num_together
      num_together *= 2
  return reachable
