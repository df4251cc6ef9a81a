"""Teacher caches of a made-up language: what a teacher says of texts, written and read back."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import example_key
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.host.progress import Update
from vsumjax.studies import sparse_students
from vsumjax.types import TokenTargets

SHARD_BATCHES = 4
NUM_THREADS = 2
NO_SCORES = np.zeros((1, 1), np.float32)  # an answer has logits of score classes, too


@dataclasses.dataclass(frozen=True)
class Cache:
  """One cache: records of one kind."""

  folder: Path
  identity: ScoreIdentity

  def entries(self, key: bytes, logits_YV: np.ndarray) -> token_records.Entries:
    """What a record of this cache says of a text."""
    J, temperature = self.identity.text_entries, self.identity.text_temperature
    if self.identity.text_kind == token_records.TOPK:
      return token_records.top_entries(logits_YV, J, temperature)
    return token_records.sample_entries(logits_YV, J, temperature, token_records.draw_rng(key))

  def bytes_per_token(self) -> float:
    """Of the text parts of all records; what a file of records adds depends on its size."""
    answers = [self.reader[example] for example in range(len(self.reader))]
    sizes = [len(token_records.encode_answer(answer, self.identity.form)) for answer in answers]
    num_tokens = sum(len(answer.text.tokens) for answer in answers)
    return (sum(sizes) - len(sizes) * NO_SCORES.nbytes) / num_tokens

  @functools.cached_property
  def reader(self) -> CacheReader:
    return CacheReader(self.folder, dataclasses.asdict(self.identity))

  def read(self, batch_size: int) -> list[TokenTargets]:
    """Targets of every batch, in order."""
    batches = []
    for first in range(0, len(self.reader), batch_size):
      texts = [self.reader[example].text for example in range(first, first + batch_size)]
      _, *columns = map(np.stack, zip(*texts, strict=True))
      batches.append(TokenTargets(*columns))
    return batches


def write(
  caches: Iterable[Cache],
  teacher: sparse_students.Model,
  batches: Sequence[np.ndarray],
  update: Update,
) -> None:
  """Writes and seals all caches of the same texts in one pass of the teacher.

  batches: of texts, i32[B, 1 + Y] each, of which the first token is given.
  """
  shard_size = SHARD_BATCHES * len(batches[0])
  writers = [(cache, CacheWriter(cache.folder, cache.identity, shard_size)) for cache in caches]
  with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
    first, writer = writers[0]
    for shard in writer.pending_shards():
      chosen = batches[shard.index * SHARD_BATCHES :][:SHARD_BATCHES]
      texts = [text for batch in chosen for text in batch]
      logits = [x for batch in chosen for x in np.asarray(sparse_students.logits(*teacher, batch))]
      digest = first.identity.examples_digest
      keys = [example_key(digest, i) for i in range(shard.start, shard.stop)]
      for cache, writer in writers:
        answers = [
          CachedAnswer(NO_SCORES, CachedText(text[1:], *entries))
          for text, entries in zip(texts, pool.map(cache.entries, keys, logits), strict=True)
        ]
        writer.write_shard(shard, keys, answers)
      update(shard.stop, first.identity.num_examples)
  for cache, _ in writers:
    seal(cache.folder, cache.identity, shard_size)
