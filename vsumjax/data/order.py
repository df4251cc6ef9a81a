"""The order of training examples: one exact permutation an epoch, computed and never stored."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np

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


def _mix(word_G: np.ndarray) -> np.ndarray:
  """SplitMix64's finaliser (Steele, Lea and Flood, 2014): a bijection that scatters 64 bits."""
  word_G = word_G + np.uint64(0x9E3779B97F4A7C15)
  word_G = (word_G ^ (word_G >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  word_G = (word_G ^ (word_G >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return word_G ^ (word_G >> np.uint64(31))
