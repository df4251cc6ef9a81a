"""From examples to host batches: in which batch of which process an example travels.

Order is ours, parallelism is Grain's. The source handed to Grain is made of whole batches, each a
pure function of its step, so Grain neither shuffles, slices, repeats nor batches, and the stream is
the same for any number of processes, workers and threads.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from vsumjax.contract import BusyError, Draw, Source
from vsumjax.data.order import PADDING_EXAMPLE, GlobalOrder, MixedOrder
from vsumjax.host.processes import end_with_parent, leave_sigterm_to_parent
from vsumjax.types import InputError


def training_batches(
  source: Source,
  order: GlobalOrder | MixedOrder,
  batch_size: int,
  *,
  start_step: int,
  num_steps: int,
  seed: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  num_workers: int = 0,
  num_threads: int = 4,
) -> Iterator[Any]:
  """This process's rows of the global batches of steps start_step .. start_step + num_steps - 1.

  Rows follow the order: every example once an epoch, also where the batch does not divide the
  number of examples. The step alone says what a batch holds, so resuming needs no other state, and
  the number of processes may change. Process p holds rows p * B / P .. (p + 1) * B / P - 1.

  Args:
    source: the examples.
    order: of the examples of `source`.
    batch_size: B, over all processes.
    start_step: the first step.
    num_steps: how many follow, it included.
    seed: of what a source changes at random; a row's changes depend on (seed, step, row) alone.
    process_index, process_count: p and P.
    num_workers: Grain processes that make batches; what one decodes serves all.
    num_threads: threads that make batches, in each of them.

  Returns:
    Batches of numpy arrays, one a step. Close the iterator if you leave it early.

  Raises:
    InputError: the batch does not divide among the processes.
  """
  rows = _process_rows(batch_size, process_index, process_count)
  examples_of = functools.partial(_training_examples, order, start_step, batch_size, rows)
  draws_of = functools.partial(_draws, seed, start_step, rows)
  batches = _BatchSource(source, examples_of, num_steps, draws_of)
  return _iterate(batches, num_workers, num_threads)


def sequential_batches(
  source: Source,
  batch_size: int,
  *,
  start: int = 0,
  stop: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  num_workers: int = 0,
  num_threads: int = 4,
) -> Iterator[Any]:
  """Each example once, in order, for scoring; arguments as in `training_batches`.

  The last global batch is filled with padding rows (weight 0, example -1), and every process yields
  the same number of batches. `start` and `stop` narrow it to some examples, as a cache's shard.
  """
  examples = range(len(source))[start:stop]
  rows = _process_rows(batch_size, process_index, process_count)
  examples_of = functools.partial(_sequential_examples, examples, batch_size, rows)
  num_batches = -(-len(examples) // batch_size)
  return batches_of(source, examples_of, num_batches, num_workers, num_threads)


def batches_of(
  source: Source,
  examples_of: Callable[[int], np.ndarray],
  num_batches: int,
  num_workers: int,
  num_threads: int,
) -> Iterator[Any]:
  """Batches of any examples: batch k holds `examples_of(k)`, PADDING_EXAMPLE for padding rows.

  `examples_of` must be picklable where there are workers.
  """
  return _iterate(_BatchSource(source, examples_of, num_batches), num_workers, num_threads)


class _BatchSource:
  """A Grain source whose element k is the k-th batch, as a dict of stacked arrays."""

  def __init__(
    self,
    source: Source,
    examples_of: Callable[[int], np.ndarray],
    num_batches: int,
    draws_of: Callable[[int], list[Draw]] | None = None,
  ):
    self.source = source
    self._examples_of = examples_of
    self._num_batches = num_batches
    self._draws_of = draws_of

  def __len__(self) -> int:
    return self._num_batches

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    end_with_parent()  # Grain's workers outlive a process that is killed
    leave_sigterm_to_parent()

  def __getitem__(self, index: int) -> dict[str, Any]:
    examples = self._examples_of(index).tolist()
    draws = self._draws_of(index) if self._draws_of else [None] * len(examples)
    made: dict[int, dict[str, Any]] = {}
    # What another thread or process is decoding comes last: there is else to do meanwhile.
    for wait in (False, True):
      for row, (example, draw) in enumerate(zip(examples, draws, strict=True)):
        if row not in made:
          with contextlib.suppress(BusyError):
            made[row] = self._row(example, draw, wait)
    return _stack([made[row] for row in range(len(examples))])

  def _row(self, example: int, draw: Draw | None, wait: bool) -> dict[str, Any]:
    if example == PADDING_EXAMPLE:
      return self.source.padding()
    return self.source.example(example, draw, wait=wait)


def _stack(rows: Sequence[Any]) -> Any:
  """Arrays stacked within the dicts and tuples that they lie in, which are alike in all rows."""
  first = rows[0]
  if isinstance(first, dict):
    return {name: _stack([row[name] for row in rows]) for name in first}
  if isinstance(first, tuple):
    return tuple(_stack(column) for column in zip(*rows, strict=True))
  return np.stack(rows)


def _iterate(batches: _BatchSource, num_workers: int, num_threads: int) -> Iterator[Any]:
  # Grain's default buffer holds 500 elements; ours are whole batches of frames.
  read_options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
  dataset = grain.MapDataset.source(batches).to_iter_dataset(read_options)
  if num_workers:
    if not flags.FLAGS.is_parsed():  # Grain reads its flags, also in programs that use none
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
  iterator = iter(dataset)
  try:
    for fields in iterator:
      yield batches.source.collate(fields)
  finally:
    iterator.close()


def _process_rows(batch_size: int, process_index: int, process_count: int) -> range:
  if batch_size % process_count:
    raise InputError(f"batch_size: {batch_size} rows do not divide among {process_count} processes")
  num_rows = batch_size // process_count
  return range(process_index * num_rows, (process_index + 1) * num_rows)


def _training_examples(
  order: GlobalOrder | MixedOrder, start_step: int, batch_size: int, rows: range, index: int
) -> np.ndarray:
  return order.examples((start_step + index) * batch_size + np.array(rows))


def _draws(seed: int, start_step: int, rows: range, index: int) -> list[Draw]:
  return [Draw(seed, start_step + index, row) for row in rows]


def _sequential_examples(examples: range, batch_size: int, rows: range, index: int) -> np.ndarray:
  positions = [index * batch_size + row for row in rows]
  return np.array([examples[p] if p < len(examples) else PADDING_EXAMPLE for p in positions])
