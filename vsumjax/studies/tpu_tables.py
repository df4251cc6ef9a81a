"""The tables of docs/tpu.md: every full-size config on the slices it is meant for."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vsumjax.experiment.config import load_config
from vsumjax.jobs.compile_check import check
from vsumjax.tpu import topologies
from vsumjax.types import InputError

START, END = "<!-- tpu-tables -->", "<!-- end of tpu-tables -->"
_STUDENT = "configs/tpu/student_3b.py"
_SQUARE = {"mesh.data": "16", "mesh.fsdp": "16"}
_448 = {
  "model.family": "paligemma2_3b_448",
  "prompt.image_size": "448",
  "prompt.tokens_per_frame": "1024",
}
_WINDOW = {"prompt.window": "8", "prompt.tokens_per_frame": "64", "prompt.text_tokens": "510"}


@dataclasses.dataclass(frozen=True)
class Row:
  """One program: `what` names it, `changes` are overrides of the config."""

  what: str
  config: str
  topology: str
  program: str = "train"
  changes: dict[str, str] = dataclasses.field(default_factory=dict)


ROWS = (
  Row("student 3B, 224 px", f"{_STUDENT}:rows=176", "v5e:4x4"),
  Row("student 3B, 224 px", f"{_STUDENT}:rows=128", "v5e:4x4"),
  Row("student 3B, 224 px", f"{_STUDENT}:rows=32", "v5e:4x4"),
  Row("student 3B, 224 px", f"{_STUDENT}:rows=2816", "v5e:16x16", changes=_SQUARE),
  Row("student 3B, 224 px", f"{_STUDENT}:rows=128,vmem=0", "v5p:2x2x4"),
  Row("student 3B, 224 px", f"{_STUDENT}:rows=128", "v6e:4x4"),
  Row("student 3B, 448 px", f"{_STUDENT}:rows=32", "v5e:4x4", changes=_448),
  Row("student 3B, 8 segments of 64 tokens", f"{_STUDENT}:rows=32", "v5e:4x4", changes=_WINDOW),
  Row("mentor 10B, LoRA, int4", "configs/deevisum/mentor_10b.py", "v5e:4x4"),
  Row("teacher 28B, LoRA, int4", "configs/deevisum/teacher_28b.py", "v5e:4x4"),
  Row("teacher 28B, all of it", "configs/tpu/teacher_28b.py:rows=64", "v5p:4x4x4"),
  Row("caching by the mentor 10B", "configs/deevisum/mentor_10b.py", "v5e:4x4", "cache"),
  Row("caching by the teacher 28B", "configs/deevisum/teacher_28b.py", "v5e:4x4", "cache"),
  Row("scoring by the student 3B", f"{_STUDENT}:rows=128", "v5e:4x4", "score"),
)


def tpu_tables(doc: Path, rows: Sequence[Row] = ROWS) -> list[dict]:
  """Compiles every row, a minute each, and writes the table between the marks of `doc`.

  Raises:
    InputError: without the marks, before anything is compiled.
  """
  _around_table(doc)
  reports, started = [], time.monotonic()
  for number, row in enumerate(rows):
    spent = time.monotonic() - started
    left = f", {spent / number * (len(rows) - number) / 60:.0f} min left" if number else ""
    print(f"{number + 1} of {len(rows)}: {row.what} on {row.topology}{left}", file=sys.stderr)
    topology = topologies.parse(row.topology)
    reports.append(check(load_config(row.config, row.changes), topology, row.program).report)
  lines = [_HEAD, *(_line(row, report) for row, report in zip(rows, reports, strict=True))]
  before, after = _around_table(doc)  # which may have been edited meanwhile
  doc.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}")
  return reports


def _around_table(doc: Path) -> tuple[str, str]:
  before, start, rest = doc.read_text().partition(START)
  _, end, after = rest.partition(END)
  if not start or not end:
    raise InputError(f"{doc}: the marks {START} and {END} are missing")
  return before, after


_HEAD = (
  "| | program | slice | rows | predicted | MFU | waits for links | HBM peak of capacity |\n"
  "|---|---|---|---|---|---|---|---|"
)


def _line(row: Row, report: dict) -> str:
  gib = 1 << 30
  peak, capacity = report["hbm_peak_bytes"] / gib, report["hbm_capacity_bytes"] / gib
  return (
    f"| {row.what} | {row.program} | {row.topology} | {report['rows']} "
    f"| {report['predicted_ms']:,.0f} ms | {100 * report['mfu']:.1f} % "
    f"| {report['exposed_collective_ms']:,.0f} ms | {peak:.2f} of {capacity:.2f} GiB |"
  )
