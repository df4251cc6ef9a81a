"""Write a trained model's score logits over a split to a teacher cache."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from vsumjax.data import pipeline, teacher_cache
from vsumjax.data.windows import WindowSource
from vsumjax.progress import progress
from vsumjax.types import InputError
from vsumjax.workdir import Student, load_student


def cache_teacher(
  checkpoint: Path, out: Path, *, split: str = "", batch_size: int = 64, shard_size: int = 1024
) -> Path:
  """Caches the teacher of workdir `checkpoint` over `split` (its training split by default).

  Shards that are already there are kept, so an interrupted run goes on where it stopped.

  Raises:
    InputError: if `out` holds the cache of another teacher, prompt or data set.
  """
  if jax.process_count() > 1:
    raise InputError("cache_teacher: runs on one process; start it on one host")
  student = load_student(checkpoint)
  data = student.experiment.config.data
  source = student.experiment.source(split or data.train_split)
  identity = _identity(student, source)
  writer = teacher_cache.CacheWriter(out, identity, shard_size)
  scorer = student.scorer(batch_size)
  with progress(f"cache {out}") as update:
    for shard in writer.pending_shards():
      batches = pipeline.sequential_batches(
        source, scorer.batch_size, start=shard.start, stop=shard.stop, num_threads=data.num_threads
      )
      logits_BNC = []
      for batch, output in scorer.outputs(batches):
        logits_BNC.append(output.logits[-1][batch.example >= 0])
        update(shard.start + sum(map(len, logits_BNC)), len(source))
      keys = [source.example_key(i) for i in range(shard.start, shard.stop)]
      answers = [teacher_cache.CachedAnswer(logits_NC) for logits_NC in np.concatenate(logits_BNC)]
      writer.write_shard(shard, keys, answers)
  teacher_cache.seal(out, identity, shard_size)
  return out


def _identity(student: Student, source: WindowSource) -> teacher_cache.CacheIdentity:
  experiment = student.experiment
  return teacher_cache.CacheIdentity(
    teacher_digest=student.params_digest,
    tokenizer_digest=experiment.tokenizer.digest,
    prompt_digest=experiment.prompt_digest,
    examples_digest=source.examples_digest,
    num_examples=len(source),
    window=experiment.config.prompt.window,
    num_classes=len(experiment.config.prompt.score_tokens),
  )
