"""Write what a trained model says of a split to a teacher cache."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vsumjax.contract import Source, TaskConfig
from vsumjax.data import pipeline
from vsumjax.data.order import PADDING_EXAMPLE
from vsumjax.data.teacher_cache.schema import Shard, example_key
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.experiment.workdir import Trained, as_student, load_finished, load_trained
from vsumjax.host.together import gather, on_all, on_first, progress_on_first
from vsumjax.inference.teach import Teacher
from vsumjax.jobs.cached_text import TextConfig, TextTeacher
from vsumjax.sharding import MeshConfig

_SHARDS, _LEAST, _MOST = 64, 1024, 8192


def cache_teacher(
  checkpoint: Path,
  out: Path,
  *,
  split: str = "",
  manifests: Sequence[str] = (),
  batch_size: int = 64,
  shard_size: int = 0,
  text: TextConfig | None = None,
  mesh: MeshConfig | None = None,
) -> Path:
  """Caches the teacher of workdir `checkpoint` over `split` (its training split by default).

  Every process of a job writes shards of its own, and the first one seals. Shards that are already
  there are kept, so an interrupted run resumes where it stopped. What is written does not depend on
  the number of processes, only on the devices and on how many rows of a batch each has.

  Args:
    checkpoint: workdir of the teacher.
    out: folder of the cache, which every process sees.
    split: of the data.
    manifests: data sets in place of the teacher's: those of the stage that it is to teach.
    batch_size: of all devices together.
    shard_size: examples of a file, 0 for `default_shard_size`.
    text: what is cached of texts beside the scores, if anything.
    mesh: of all devices; by default the one on which the teacher was trained.

  Raises:
    InputError: `out` holds the cache of another teacher, prompt or data set, or another process of
      the job failed.
    OSError: the disk is full or failing; what is finished stays.
  """
  on_first(lambda: load_finished(checkpoint))  # which the first process may be about to write
  trained = load_trained(checkpoint, mesh=mesh)
  source = source_of(trained, split, manifests)
  teacher = ask(trained, source, batch_size)
  if text is not None:
    teacher = TextTeacher(as_student(trained), teacher.identity, text, batch_size)
  shard_size = shard_size or default_shard_size(len(source))
  open_writer = functools.partial(CacheWriter, out, teacher.identity, shard_size)
  on_first(open_writer)
  _write_pending(teacher, trained.experiment.config.task, source, on_all(open_writer), shard_size)
  on_first(lambda: seal(out, teacher.identity, shard_size))
  return out


def source_of(trained: Trained, split: str, manifests: Sequence[str]) -> Source:
  """The examples of a split (by default that of training) of other data sets or the model's own."""
  task = trained.experiment.task
  return (task.over(manifests) if manifests else task).source(split or task.config.train_split)


def ask(trained: Trained, source: Source, batch_size: int) -> Teacher:
  """The trained model as the teacher of these examples."""
  experiment = trained.experiment
  return Teacher(
    experiment.task,
    trained.params,
    experiment.mesh,
    experiment.rules,
    trained.batch_size(batch_size),
    experiment.task.cache_identity(source, trained.params_digest),
  )


def default_shard_size(num_examples: int) -> int:
  """A 64th of the examples, but at least 1,024 and at most 8,192.

  A file takes 64 KiB more than its records, and a shard is what a restart does again.
  """
  return min(max(-(-num_examples // _SHARDS), _LEAST), _MOST)


def _write_pending(
  teacher: Teacher | TextTeacher,
  config: TaskConfig,
  source: Source,
  writer: CacheWriter,
  shard_size: int,
) -> None:
  """Asks the teacher and writes, shard after shard, in step with the other processes.

  The forward pass is one program of all processes, and after a restart one of them may have fewer
  shards left: it then feeds padding rows until the last is done.
  """
  num_rows = teacher.batch_size // jax.process_count()
  pending = writer.pending_shards(jax.process_index(), jax.process_count())
  batches_per_shard = -(-min(shard_size, len(source)) // num_rows)
  examples_of = functools.partial(_examples, pending, num_rows, batches_per_shard)
  num_pending = sum(shard.stop - shard.start for shard in pending)
  num_batches, num_left = gather(_num_batches(pending, num_rows, batches_per_shard), num_pending)
  if not num_batches.any():
    return
  batches = pipeline.batches_of(
    source, examples_of, int(num_batches.max()), config.num_workers, config.num_threads
  )
  said = teacher.answers(batches)
  finished = len(source) - int(num_left.sum())
  with progress_on_first(f"cache {writer.folder}") as update, contextlib.closing(said):
    for first in range(0, int(num_batches.max()), batches_per_shard):
      answers: list[Any] = []
      for number, answers_of_batch in enumerate(itertools.islice(said, batches_per_shard), first):
        answers += answers_of_batch
        share = (number + 1) / num_batches.max()
        update(finished + round(share * num_left.sum()), len(source))
      shard = pending[first // batches_per_shard] if answers else None
      on_all(functools.partial(_write, writer, source, shard, answers))


def _write(
  writer: CacheWriter, source: Source, shard: Shard | None, answers: Sequence[Any]
) -> None:
  if shard is not None:
    digest = source.examples_digest
    keys = [example_key(digest, example) for example in range(shard.start, shard.stop)]
    writer.write_shard(shard, keys, answers)


def _num_batches(pending: Sequence[Shard], num_rows: int, batches_per_shard: int) -> int:
  """Every shard but the last of a cache is of full size."""
  if not pending:
    return 0
  last = pending[-1]
  return (len(pending) - 1) * batches_per_shard - (-(last.stop - last.start) // num_rows)


def _examples(
  pending: Sequence[Shard], num_rows: int, batches_per_shard: int, index: int
) -> np.ndarray:
  """The examples of this process's rows of batch `index`; a shard begins with a batch."""
  number, batch = divmod(index, batches_per_shard)
  if number >= len(pending):
    return np.full(num_rows, PADDING_EXAMPLE)
  shard = pending[number]
  examples = shard.start + batch * num_rows + np.arange(num_rows)
  return np.where(examples < shard.stop, examples, PADDING_EXAMPLE)
