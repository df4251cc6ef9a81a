"""How fast the data path is, beside bare decoding of the same files, in one run."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.data import pipeline
from vsumjax.data.made import corpora
from vsumjax.data.manifest import load_manifest
from vsumjax.data.order import PADDING_EXAMPLE, GlobalOrder
from vsumjax.data.prepared.preparation import Settings
from vsumjax.data.prompt import PromptConfig
from vsumjax.data.tokenizer import Tokenizer, load_tokenizer
from vsumjax.data.videos import Video
from vsumjax.data.windows import WindowSource
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.jobs import prepare
from vsumjax.jobs.demo import make_corpus
from vsumjax.types import InputError

ROWS = ("bare PyAV", "pipeline, media", "pipeline, prepared")
_STALL_S = 600.0
_PADDING_BATCHES = 8  # of each process; Grain makes 2 * num_threads + 1 ahead
# DEEVISum's example: one frame of 224 pixels a second; the text budget is ours.
PROMPT = PromptConfig(
  window=1,
  segment_s=1.0,
  frames_per_segment=1,
  tokens_per_frame=256,
  image_size=224,
  text_tokens=256,
  title_tokens=32,
  score_tokens=("1", "2", "3", "4", "5"),
)
CORPUS = corpora.CorpusConfig(
  num_train=24, num_validation=0, num_test=0, min_s=20, max_s=20, height=720, width=1280, fps=25
)


@dataclasses.dataclass(frozen=True)
class Task:
  """What is read: the videos of `manifest`, once each, `batch_size` windows at a time."""

  manifest: Path
  tokenizer: Tokenizer
  prompt: PromptConfig = PROMPT
  batch_size: int = 32
  num_workers: int = 2
  num_threads: int = 1  # as bare decoding has, which is the limit


def benchmark_loader(
  root: Path,
  *,
  manifest: Path | None = None,
  tokenizer: Path | None = None,
  num_workers: int = 2,
  rounds: int = 5,
  prompt: PromptConfig = PROMPT,
  corpus: corpora.CorpusConfig = CORPUS,
  out: Path | None = None,
) -> dict[str, Any]:
  """Times bare decoding, the pipeline that decodes and the pipeline from shards, in turns.

  Every row reads the same videos once, in training's order, with `num_workers` processes (bare
  decoding hands whole files to as many). The pipeline starts with an empty store each time.
  Processes have started when a clock does: each process of the pipeline begins with more batches of
  padding, which no file is read for, than it may make ahead, and the clock starts when the first
  one of each has arrived.

  Args:
    root: videos are made there where no manifest is given, and shards are prepared there.
    manifest, tokenizer: of videos of your own.
    num_workers: processes of each row.
    rounds: values a median is of, after one round of warming up.
    prompt: the shape of an example.
    corpus: the videos that are made.
    out: JSON file of all values.

  Raises:
    InputError: nothing to read, or a number of rounds or workers below 1.
  """
  for flag, value in (("--rounds", rounds), ("--num-workers", num_workers)):
    if value < 1:
      raise InputError(f"{flag}: {value} must be 1 or more")
  if (manifest is None) != (tokenizer is None):
    raise InputError("--manifest and --tokenizer go together")
  if manifest is None:
    make_corpus(root, corpus)
    manifest, tokenizer = root / "corpus" / "manifest.jsonl", root / "tokenizer.model"
  task = Task(manifest, load_tokenizer(tokenizer), prompt, num_workers=num_workers)
  prepared = root / "prepared"
  prepare.prepare(
    manifest,
    str(prepared),
    Settings(prompt, sound=False),
    run_tasks=prepare.on_this_machine(num_workers, _STALL_S),
    max_failed_share=0.0,
  )
  report = _measure(task, prepared, rounds)
  if out is not None:
    write_atomically(out, json.dumps(report, indent=1))
  _print_table(report)
  return report


def _measure(task: Task, prepared: Path, rounds: int) -> dict[str, Any]:
  media = load_manifest(task.manifest).videos
  shards = load_manifest(prepared).videos
  seconds: dict[str, list[float]] = {name: [] for name in ROWS}
  num_frames = num_windows = 0
  spawn = multiprocessing.get_context("spawn")
  with (
    concurrent.futures.ProcessPoolExecutor(task.num_workers, mp_context=spawn) as pool,
    progress("benchmark loader") as update,
  ):
    timers: dict[str, Callable[[], tuple[float, int]]] = {
      ROWS[0]: lambda: _time_bare(pool, media),
      ROWS[1]: lambda: _time_pipeline(task, media),
      ROWS[2]: lambda: _time_pipeline(task, shards),
    }
    turns = list(itertools.product(range(rounds + 1), ROWS))
    for done, (number, name) in enumerate(turns):
      update(done, len(turns), f"round {number} of {rounds}: {name}" if number else "warm-up")
      elapsed_s, count = timers[name]()
      if number:
        seconds[name].append(elapsed_s)
      if name == ROWS[0]:
        num_frames = count
      else:
        num_windows = count
    update(len(turns), len(turns))
  return _report(task, rounds, seconds, num_frames, num_windows)


def _time_bare(pool: concurrent.futures.Executor, videos: Sequence[Video]) -> tuple[float, int]:
  """Seconds to decode every frame of every file, and how many there are."""
  list(pool.map(_count_frames, [""] * 64))  # every process is there and has imported PyAV
  start = time.perf_counter()
  counts = list(pool.map(_count_frames, [str(item.media) for item in videos]))
  return time.perf_counter() - start, sum(counts)


def _count_frames(path: str) -> int:
  if not path:
    return 0
  with av.open(path) as container:
    # As many processes as cores leave nothing to threads of a decoder, which only cost.
    container.streams.video[0].thread_type = "NONE"
    return sum(1 for _ in container.decode(video=0))


def _time_pipeline(task: Task, videos: Sequence[Video]) -> tuple[float, int]:
  """Seconds for one epoch in training's order, and its number of windows."""
  source = WindowSource(videos, task.prompt, task.tokenizer, targets="none")
  num_padding = task.num_workers * _PADDING_BATCHES
  num_batches = num_padding + -(-len(source) // task.batch_size)
  order = GlobalOrder(len(source), 0)
  examples_of = functools.partial(_after_padding, order, num_padding, task.batch_size)
  batches = pipeline.batches_of(
    source, examples_of, num_batches, task.num_workers, task.num_threads
  )
  with contextlib.closing(batches):
    for _ in range(task.num_workers):
      next(batches)
    start = time.perf_counter()
    rest = itertools.islice(batches, num_batches - task.num_workers)
    num_windows = sum(int((batch.example != PADDING_EXAMPLE).sum()) for batch in rest)
    return time.perf_counter() - start, num_windows  # before the processes are ended


def _after_padding(order: GlobalOrder, num_padding: int, batch_size: int, index: int) -> np.ndarray:
  """The examples of batch `index`: a row of padding in the first ones, then one epoch."""
  if index < num_padding:
    return np.array([PADDING_EXAMPLE])
  rows = (index - num_padding) * batch_size + np.arange(batch_size)
  examples = order.examples(rows)
  return np.where(rows < order.num_examples, examples, PADDING_EXAMPLE)


def _report(
  task: Task, rounds: int, seconds: dict[str, list[float]], num_frames: int, num_windows: int
) -> dict[str, Any]:
  median_s = {name: statistics.median(values) for name, values in seconds.items()}
  bare, media, prepared = (median_s[name] for name in ROWS)
  return {
    "benchmark": "loader",
    "num_workers": task.num_workers,
    "rounds": rounds,
    "batch_size": task.batch_size,
    "prompt": dataclasses.asdict(task.prompt),
    "num_frames": num_frames,
    "num_windows": num_windows,
    "seconds": seconds,
    "median_s": median_s,
    "share_of_bare": bare / media,
    "times_media": media / prepared,
  }


def _print_table(report: dict[str, Any]) -> None:
  workers, frames, windows = (report[key] for key in ("num_workers", "num_frames", "num_windows"))
  table = rich.table.Table(
    title=f"{frames} frames, {windows} windows, {workers} processes, {report['rounds']} rounds",
    box=rich.box.SIMPLE_HEAD,
    title_justify="left",
  )
  table.add_column("")
  for name in ("median s", "min", "max", "decoded frames/s", "windows/s"):
    table.add_column(name, justify="right")
  for name, values in report["seconds"].items():
    median = report["median_s"][name]
    decoded = "" if name == ROWS[2] else f"{frames / median:,.0f}"
    per_second = "" if name == ROWS[0] else f"{windows / median:,.0f}"
    times = (f"{value:.3f}" for value in (median, min(values), max(values)))
    table.add_row(name, *times, decoded, per_second)
  table.caption = (
    f"The pipeline decodes at {report['share_of_bare']:.0%} of the speed of bare PyAV; "
    f"from prepared shards it is {report['times_media']:.1f} times as fast."
  )
  rich.console.Console().print(table)
