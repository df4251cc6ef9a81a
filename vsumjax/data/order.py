"""The order of training examples: exact permutations and proportions, computed and never stored."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from vsumjax.contract import Part

PADDING_EXAMPLE = -1
_NUM_ROUNDS = 8  # each half is changed four times; fewer leave neighbours visibly close


@dataclasses.dataclass(frozen=True)
class GlobalOrder:
  """Maps (step, row of the global batch) to an example, the same for any number of processes.

  The rows of all steps form one line, g = step * batch_size + row. Row g is at place g % n of epoch
  g // n, and each epoch is a permutation of its own of the n examples. Nothing is ever lost or
  repeated, whether or not the batch divides n, and the step alone says where to go on.

  The permutation is a Feistel network over pairs (left, right) of Z_a x Z_b with a * b >= n and
  modular addition in place of xor (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
  2002), walked along its cycle until it lands below n. a * b exceeds n by less than a, so nearly
  every walk is one step. Memory does not grow with n.

  Attributes:
    num_examples: n, 1 to 2**31 - 1 (example indices travel as int32).
    seed: another seed gives other permutations.
  """

  num_examples: int
  seed: int

  def __post_init__(self):
    if not 1 <= self.num_examples < 2**31:
      raise ValueError(f"num_examples must be 1 to 2**31 - 1, is {self.num_examples}")

  def example(self, step: int, row: int, batch_size: int) -> int:
    """The example at `row` of the global batch of `step`."""
    return int(self.examples(np.array([step * batch_size + row]))[0])

  def examples(self, rows_G: np.ndarray) -> np.ndarray:
    """The examples at global rows (i64[G], from 0, in any order): i64[G]."""
    epoch_G, place_G = np.divmod(np.asarray(rows_G, np.uint64), np.uint64(self.num_examples))
    key_G = _mix(epoch_G + np.uint64(self._seed_key))
    example_G = self._permute(place_G, key_G)
    outside_G = example_G >= self.num_examples
    while outside_G.any():
      example_G[outside_G] = self._permute(example_G[outside_G], key_G[outside_G])
      outside_G = example_G >= self.num_examples
    return example_G.astype(np.int64)

  @property
  def _seed_key(self) -> int:
    """64 bits from the seed, so that seeds 0 and 1 share no permutation at shifted epochs."""
    return int.from_bytes(hashlib.blake2b(str(self.seed).encode(), digest_size=8).digest())

  def _permute(self, place_G: np.ndarray, key_G: np.ndarray) -> np.ndarray:
    """A permutation of 0 .. a * b - 1 for each key. u64[G], u64[G] -> u64[G]."""
    a = math.isqrt(self.num_examples - 1) + 1
    b = -(-self.num_examples // a)
    left_G, right_G = np.divmod(place_G, np.uint64(b))
    for turn in range(_NUM_ROUNDS):
      turn_key_G = _mix(key_G + np.uint64(turn))
      if turn % 2:
        right_G = (right_G + _mix(left_G ^ turn_key_G) % np.uint64(b)) % np.uint64(b)
      else:
        left_G = (left_G + _mix(right_G ^ turn_key_G) % np.uint64(a)) % np.uint64(a)
    return left_G * np.uint64(b) + right_G


class MixedOrder:
  """Mixes sets of examples in exact proportions; as `GlobalOrder` where there is only one.

  The line of rows is cut into blocks as long as the weights add up to. Every block holds `weight`
  rows of each part, at places permuted anew in each block, and the rows of one part, one after the
  other, follow that part's own `GlobalOrder`: exact epochs for each part, exact proportions in
  each block, and the step alone says where to go on. With weights (2, 1) of parts a and b:

    a0 b0 a1 | b1 a2 a3 | a4 a5 b2 | ...    (a3: row 3 of the order of a)

  Examples are numbered through all parts, one after the other; those of a part with weight 0 have
  numbers and no rows. Memory is that of one block.
  """

  def __init__(self, parts: Sequence[Part], seed: int):
    """Raises ValueError without a part with a weight above 0, or with 2**31 examples or more."""
    if min((part.weight for part in parts), default=0) < 0 or not any(p.weight for p in parts):
      raise ValueError(f"a mixture needs weights of 0 or more, and one above 0, has {parts}")
    is_mixed = sum(part.weight > 0 for part in parts) > 1
    divisor = math.gcd(*(part.weight for part in parts))
    self._weights = [part.weight // divisor for part in parts]
    sizes = [part.num_examples for part in parts]
    GlobalOrder(sum(sizes), seed)  # refuses impossible sizes
    seeds = [_part_seed(seed, k) if is_mixed else seed for k in range(len(parts))]
    self._orders = [GlobalOrder(*each) for each in zip(sizes, seeds, strict=True)]
    self._first_example = np.cumsum([0, *sizes])
    self._part_of_slot = np.repeat(np.arange(len(parts)), self._weights)
    self._slots = GlobalOrder(sum(self._weights), seed)

  def examples(self, rows_G: np.ndarray) -> np.ndarray:
    """The examples at global rows (i64[G], from 0, in any order): i64[G]."""
    rows_G = np.asarray(rows_G, np.int64)
    size = self._slots.num_examples
    block_G, place_G = np.divmod(rows_G, size)
    blocks, block_index_G = np.unique(block_G, return_inverse=True)
    slots = self._slots.examples((blocks[:, None] * size + np.arange(size)).ravel())
    part_of_place = self._part_of_slot[slots].reshape(-1, size)
    example_G = np.empty_like(rows_G)
    for part, order in enumerate(self._orders):
      is_of_part = part_of_place == part
      num_before = np.cumsum(is_of_part, axis=1) - 1
      is_own_G = is_of_part[block_index_G, place_G]
      own_row_G = block_G * self._weights[part] + num_before[block_index_G, place_G]
      example_G[is_own_G] = order.examples(own_row_G[is_own_G]) + self._first_example[part]
    return example_G


def _part_seed(seed: int, part: int) -> int:
  return int.from_bytes(hashlib.blake2b(f"{seed}:{part}".encode(), digest_size=8).digest())


def _mix(word_G: np.ndarray) -> np.ndarray:
  """SplitMix64's finaliser (Steele, Lea and Flood, 2014): a bijection that scatters 64 bits."""
  word_G = word_G + np.uint64(0x9E3779B97F4A7C15)
  word_G = (word_G ^ (word_G >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  word_G = (word_G ^ (word_G >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return word_G ^ (word_G >> np.uint64(31))
