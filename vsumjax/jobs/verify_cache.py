"""Check a finished teacher cache: every byte of it, and a sample of it against its teacher."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.contract import Source, TaskConfig
from vsumjax.data import pipeline
from vsumjax.data.order import PADDING_EXAMPLE
from vsumjax.data.teacher_cache.reader import CacheReader, verify
from vsumjax.data.teacher_cache.schema import Shard
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.experiment.workdir import Trained, as_student, load_trained
from vsumjax.host.together import on_all, progress_on_first
from vsumjax.inference.teach import Teacher
from vsumjax.jobs.cache_teacher import ask, source_of
from vsumjax.jobs.cached_text import TextConfig, TextTeacher
from vsumjax.sharding import MeshConfig
from vsumjax.training.state import params_digest
from vsumjax.types import InputError

_NUM_RECOMPUTED = 64  # and at least one of each shard
# Of a logit, absolute and relative: what another machine or another batch size may change.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Checked:
  """What was found in order.

  num_bytes: of all shards.
  num_recomputed: examples that the teacher was asked again.
  largest_difference: of a value of these.
  tolerance: absolute and relative.
  """

  num_records: int
  num_shards: int
  num_bytes: int
  num_recomputed: int
  largest_difference: float
  tolerance: float


def verify_cache(
  checkpoint: Path,
  out: Path,
  *,
  split: str = "",
  manifests: Sequence[str] = (),
  batch_size: int = 64,
  mesh: MeshConfig | None = None,
) -> Checked:
  """Reads every record of the cache back, and asks its teacher for some of them again.

  Compared are the size and digest of every shard, the key and form of every record, the digest of
  the teacher's parameters as they are in its checkpoint, and for 64 examples of all shards the
  score logits and, of every token of a text, logsumexp, entropy and the log probabilities of the
  likeliest. Draws are not compared: the last bit of a logit may change one. Prints what was
  checked.

  Args:
    checkpoint: workdir of the teacher.
    out: the cache.
    split: that was cached, by default the teacher's training split.
    manifests: data sets that were cached in place of the teacher's.
    batch_size: of all devices together.
    mesh: of all devices; by default the one on which the teacher was trained.

  Raises:
    InputError: naming the first file, field or example that is not as it should be.
  """
  trained = load_trained(checkpoint, mesh=mesh)
  schema = trained.experiment.config.task.CACHE_SCHEMA
  with progress_on_first(f"verify {out}") as update:
    verify(out, update, schema)
  found = params_digest(trained.params)
  if found != trained.params_digest:
    raise InputError(
      f"{checkpoint}: the parameters of its checkpoint have digest {found}, and FINISHED.json says "
      f"{trained.params_digest}; the checkpoint was changed, train again in another folder"
    )
  source = source_of(trained, split, manifests)
  reader = CacheReader(out, {}, schema)
  teacher = ask(trained, source, min(batch_size, len(_sample(reader.shards))))
  if texts := _ask_about_texts(trained, teacher, reader, out):
    teacher = texts
  reader.require(dataclasses.asdict(teacher.identity))
  checked = _recompute(teacher, trained.experiment.config.task, source, reader)
  if jax.process_index() == 0:
    _print_table(out, checked)
  return checked


def _ask_about_texts(
  trained: Trained, scores: Teacher, reader: CacheReader, out: Path
) -> TextTeacher | None:
  """The teacher, asked about the texts that the cache holds, if it holds any."""
  said = reader.identity
  if not (isinstance(said, ScoreIdentity) and said.text_kind):
    return None
  config = TextConfig(said.text_kind, said.text_entries, said.text_temperature, texts_of=out)
  return TextTeacher(as_student(trained), scores.identity, config, scores.batch_size)


def _recompute(
  teacher: Teacher | TextTeacher, config: TaskConfig, source: Source, reader: CacheReader
) -> Checked:
  """Asks the teacher again; each process for its share of the sample."""
  tolerance = _TOLERANCES[config.dtype]
  sample = _sample(reader.shards)
  num_rows = teacher.batch_size // jax.process_count()
  mine = sample[jax.process_index() :: jax.process_count()]
  num_batches = -(-len(sample) // teacher.batch_size)
  examples_of = functools.partial(_rows, mine, num_rows)
  batches = pipeline.batches_of(source, examples_of, num_batches, 0, config.num_threads)
  said = teacher.answers(batches)
  answers: list[Any] = []
  with progress_on_first("recompute") as update, contextlib.closing(said):
    for answers_of_batch in said:
      answers += answers_of_batch
      update(min(len(answers) * jax.process_count(), len(sample)), len(sample))
  difference = on_all(lambda: _largest_difference(source, reader, mine, answers, tolerance))
  return Checked(
    num_records=len(reader),
    num_shards=len(reader.shards),
    num_bytes=reader.num_bytes,
    num_recomputed=len(sample),
    largest_difference=difference,
    tolerance=tolerance,
  )


def _sample(shards: Sequence[Shard]) -> list[int]:
  """Some examples of every shard, the same each time."""
  rng = np.random.default_rng(0)
  num_each = -(-_NUM_RECOMPUTED // len(shards))
  chosen = []
  for shard in shards:
    size = shard.stop - shard.start
    chosen += (shard.start + rng.choice(size, min(num_each, size), replace=False)).tolist()
  return chosen


def _rows(examples: Sequence[int], num_rows: int, index: int) -> np.ndarray:
  rows = np.full(num_rows, PADDING_EXAMPLE)
  here = examples[index * num_rows : (index + 1) * num_rows]
  rows[: len(here)] = here
  return rows


def _largest_difference(
  source: Source,
  reader: CacheReader,
  examples: Sequence[int],
  answers: Sequence[Any],
  tolerance: float,
) -> float:
  differences, compared = [0.0], reader.identity.compared
  for example, answer in zip(examples, answers, strict=True):
    cached = compared(reader[example])
    for name, here in compared(answer).items():
      differences.append(float(np.abs(here - cached[name]).max(initial=0.0)))
      if not np.allclose(here, cached[name], rtol=tolerance, atol=tolerance):
        raise InputError(
          f"{source.describe([example])}: {name} of the teacher and the cache differ by up to "
          f"{differences[-1]:.2g}, with a tolerance of {tolerance}; make the cache again in "
          "another folder"
        )
  return max(differences)


def _print_table(out: Path, checked: Checked) -> None:
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=str(out), title_justify="left")
  for name in ("checked", "in order"):
    table.add_column(name)
  shards = f"{checked.num_shards} ({checked.num_bytes:,} bytes)"
  table.add_row("shards: size, digest", shards)
  table.add_row("records: key, form", f"{checked.num_records:,}")
  table.add_row("teacher: digest of its parameters", "recomputed from the checkpoint")
  table.add_row("tokenizer, prompt, examples", "those of the teacher")
  difference = f"differ by {checked.largest_difference:.1g} at most, tolerance {checked.tolerance}"
  table.add_row("teacher asked again", f"{checked.num_recomputed} examples; {difference}")
  rich.console.Console().print(table)
