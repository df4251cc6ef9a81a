"""How fast teacher caches are written and read on one core, and what they take on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import example_key
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.types import InputError

ROWS = ("score", token_records.SAMPLED, token_records.TOPK)
PASSES = ("make", "write", "read", "random read")
_KEY = b"8 bytes."


@dataclasses.dataclass(frozen=True)
class Task:
  """What is written and read.

  num_scores: records of scores alone, N = 1 and C = 5.
  num_texts: records of texts, which have scores, too.
  text_tokens: y, of each text.
  vocab_size: V.
  num_draws, num_top: J of the two kinds of records.
  num_made: texts made from logits; the records are these, again and again.
  zipf: exponent of the made-up distributions, p of the r-th likeliest token ~ r ** -zipf; it is
    drawn between these for each token, for entropies of 0.7 to 7.1 nats.
  """

  num_scores: int = 65_536
  num_texts: int = 2048
  text_tokens: int = 32
  vocab_size: int = 257_152
  num_draws: int = 12
  num_top: int = 128
  num_made: int = 4
  zipf: tuple[float, float] = (1.1, 3.0)


@dataclasses.dataclass
class Row:
  """One kind of cache.

  num_bytes: of all shards.
  seconds: {pass: [a value a round]}.
  """

  name: str
  num_records: int
  tokens_per_record: int
  shard_size: int
  num_bytes: int = 0
  seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)


def benchmark_cache(
  root: Path | None = None, *, task: Task | None = None, rounds: int = 5, out: Path | None = None
) -> dict[str, Any]:
  """Times making, writing and reading of each kind of record, prints a table, returns the report.

  The process and its threads are kept on one core where the system can do that. Writing ends when
  the files are on the disk, shard by shard; reading in order begins with opening the cache and so
  includes the digests of the shards; what is read lies in the system's file cache.

  Args:
    root: a folder to write in, made if need be; what is written is removed.
    task: what is written and read.
    rounds: values a median is of, after one round of warming up.
    out: JSON file of all values.

  Raises:
    InputError: no round.
  """
  if rounds < 1:
    raise InputError(f"--rounds: {rounds} must be 1 or more")
  if root is not None:
    root.mkdir(parents=True, exist_ok=True)
  task = task or Task()
  rows = [_row(task, name) for name in ROWS]
  with _one_core() as pinned, progress("benchmark cache") as update:
    turns = [(number, row) for number in range(rounds + 1) for row in rows]
    for done, (number, row) in enumerate(turns):
      what = f"round {number} of {rounds}" if number else "warm-up"
      update(done, len(turns), f"{what}: {row.name}")
      with tempfile.TemporaryDirectory(prefix="cache_benchmark_", dir=root) as folder:
        seconds = _time(task, row, Path(folder))
      for name in seconds if number else ():
        row.seconds.setdefault(name, []).append(seconds[name])
    update(len(turns), len(turns))
  report = _report(task, rows, rounds, pinned)
  if out is not None:
    write_atomically(out, json.dumps(report, indent=1))
  _print_table(report)
  return report


def _row(task: Task, name: str) -> Row:
  num_records = task.num_texts if name in token_records.KINDS else task.num_scores
  tokens = task.text_tokens if name in token_records.KINDS else 0
  return Row(name, num_records, tokens, min(num_records, 8192))


def _time(task: Task, row: Row, folder: Path) -> dict[str, float]:
  """Seconds of each pass, in a folder of its own."""
  seconds = {}
  if row.tokens_per_record:
    logits = [_made_logits(task, seed) for seed in range(task.num_made)]
    with _stopwatch(seconds, "make"):
      texts = [_text(task, row.name, logits_yV) for logits_yV in logits]
  else:
    texts = [None]
  identity = _identity(task, row)
  scores = np.random.default_rng(0).normal(size=(row.num_records, 1, 5)).astype(np.float32)
  answers = [CachedAnswer(s_NC, texts[i % len(texts)]) for i, s_NC in enumerate(scores)]
  with _stopwatch(seconds, "write"):
    writer = CacheWriter(folder, identity, row.shard_size)
    for shard in writer.pending_shards():
      examples = range(shard.start, shard.stop)
      keys = [example_key(identity.examples_digest, i) for i in examples]
      writer.write_shard(shard, keys, answers[shard.start : shard.stop])
  seal(folder, identity, row.shard_size)
  with _stopwatch(seconds, "read"):
    reader = CacheReader(folder, {})
    for example in range(row.num_records):
      reader[example]
  order = np.random.default_rng(1).permutation(row.num_records).tolist()
  with _stopwatch(seconds, "random read"):
    for example in order:
      reader[example]
  row.num_bytes = reader.num_bytes
  return seconds


def _made_logits(task: Task, seed: int) -> np.ndarray:
  """f32[y, V]: logarithms of Zipf's law over a permuted vocabulary, with some noise."""
  rng = np.random.default_rng(seed)
  log_rank_V = np.log(np.arange(1, task.vocab_size + 1, dtype=np.float32))
  exponent_y1 = rng.uniform(*task.zipf, size=(task.text_tokens, 1)).astype(np.float32)
  noise_yV = 0.1 * rng.standard_normal((task.text_tokens, task.vocab_size), dtype=np.float32)
  return -exponent_y1 * log_rank_V[rng.permutation(task.vocab_size)] + noise_yV


def _text(task: Task, kind: str, logits_yV: np.ndarray) -> CachedText:
  tokens = logits_yV.argmax(axis=1).astype(np.int32)
  if kind == token_records.TOPK:
    return CachedText(tokens, *token_records.top_entries(logits_yV, task.num_top, 1.0))
  rng = token_records.draw_rng(_KEY)
  return CachedText(tokens, *token_records.sample_entries(logits_yV, task.num_draws, 1.0, rng))


def _identity(task: Task, row: Row) -> ScoreIdentity:
  identity = ScoreIdentity(
    teacher_digest="made up",
    tokenizer_digest="",
    prompt_digest="",
    examples_digest="0" * 32,
    num_examples=row.num_records,
    window=1,
    num_classes=5,
  )
  if not row.tokens_per_record:
    return identity
  return dataclasses.replace(
    identity,
    text_kind=row.name,
    text_tokens=task.text_tokens,
    text_entries=task.num_top if row.name == token_records.TOPK else task.num_draws,
    vocab_size=task.vocab_size,
  )


@contextlib.contextmanager
def _stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
  start = time.perf_counter()
  yield
  seconds[name] = time.perf_counter() - start


@contextlib.contextmanager
def _one_core() -> Iterator[bool]:
  """Keeps this thread, and those it starts, on one core; yields whether the system can."""
  if not hasattr(os, "sched_setaffinity"):
    yield False
    return
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {max(before)})
  try:
    yield True
  finally:
    os.sched_setaffinity(0, before)


def _report(task: Task, rows: Sequence[Row], rounds: int, pinned: bool) -> dict[str, Any]:
  return {
    "benchmark": "cache",
    "versions": {"python": platform.python_version(), "numpy": np.__version__},
    "rounds": rounds,
    "pinned_to_one_core": pinned,
    "task": dataclasses.asdict(task),
    "rows": [{**dataclasses.asdict(row), "summary": _summary(task, row)} for row in rows],
  }


def _summary(task: Task, row: Row) -> dict[str, Any]:
  """Bytes, and {pass: what a median second does}; made are only `num_made` texts."""
  num_tokens = row.num_records * row.tokens_per_record
  summary: dict[str, Any] = {"bytes_per_record": row.num_bytes / row.num_records}
  if num_tokens:
    summary["bytes_per_token"] = row.num_bytes / num_tokens
  for name, values in row.seconds.items():
    share = task.num_made / row.num_records if name == "make" else 1.0
    per_second = share / statistics.median(values)
    summary[name] = {
      "records_per_s": row.num_records * per_second,
      "tokens_per_s": num_tokens * per_second,
      "mb_per_s": row.num_bytes * per_second / 1e6,
    }
  return summary


def _print_table(report: dict[str, Any]) -> None:
  where = "one core" if report["pinned_to_one_core"] else "one thread, not kept on a core"
  table = rich.table.Table(
    title=f"Teacher caches on {where}, medians of {report['rounds']} rounds",
    box=rich.box.SIMPLE_HEAD,
    title_justify="left",
  )
  table.add_column("")
  for name in ("B/record", "B/token", "pass", "records/s", "tokens/s", "MB/s"):
    table.add_column(name, justify="right")
  for row in report["rows"]:
    summary = row["summary"]
    per_token = f"{summary['bytes_per_token']:.1f}" if row["tokens_per_record"] else ""
    sizes = [row["name"], f"{summary['bytes_per_record']:,.1f}", per_token]
    for name in (each for each in PASSES if each in summary):
      rates = summary[name]
      tokens = f"{rates['tokens_per_s']:,.0f}" if row["tokens_per_record"] else ""
      rate = f"{rates['records_per_s']:,.0f}"
      table.add_row(*sizes, name, rate, tokens, f"{rates['mb_per_s']:.1f}")
      sizes = ["", "", ""]
  rich.console.Console().print(table)
