"""Measure a trained model on a labelled split."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import rich.box
import rich.console
import rich.table

from vsumjax.evaluation import labelled
from vsumjax.experiment.workdir import load_student
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Rows of every exit (the last exit last) and the context rows of the same videos."""

  exits: tuple[labelled.Row, ...]
  context: tuple[labelled.Row, ...]

  @property
  def last(self) -> labelled.Row:
    return self.exits[-1]

  def row(self, name: str) -> labelled.Row:
    return next(row for row in (*self.exits, *self.context) if row.name == name)


def evaluate(
  checkpoint: Path,
  out: Path | None,
  *,
  manifest: str = "",
  split: str = "",
  without: frozenset[str] = frozenset(),
  show: bool = True,
  batch_size: int = 64,
) -> Evaluation:
  """Scores every exit of the model in workdir `checkpoint`, prints a table, writes evaluation.json.

  Args:
    manifest, split: default to the config's.
    without: inputs taken away, of `reading.INPUTS`.

  Raises:
    InputError: a video of the split has no labels.
  """
  student = load_student(checkpoint, manifest)
  split = split or student.task.config.data.test_split
  source = student.task.source(split, without=without)
  labels = {}
  for video in source.videos:
    if video.labels is None:
      raise InputError(f"video {video.id!r} has no labels")
    labels[video.id] = (video.labels.unit_s, video.labels.levels_AN)
  with progress(f"score {split}") as update:
    readouts = student.scorer(batch_size).read(source, update)
  layers = student.task.config.model.exits.layers
  exits = tuple(
    labelled.evaluate_scores(
      {v.id: r.at_exit(index) for v, r in zip(source.videos, readouts, strict=True)},
      labels,
      f"exit after layer {layer}",
    )
    for index, layer in enumerate(layers)
  )
  result = Evaluation(exits, labelled.context_rows(labels))
  about = {
    "protocol": labelled.UNIFORM_SEGMENTS.name,
    "description": labelled.UNIFORM_SEGMENTS.description,
    "parameters_digest": student.params_digest,
    "manifest_digest": student.task.data.digest,
    "split": split,
    "num_videos": len(labels),
    "without": sorted(without),
  }
  if out is not None:
    write_atomically(
      out / "evaluation.json", json.dumps(about | _as_json(result), indent=1, allow_nan=False)
    )
  if show:
    lacking = f", without {' and '.join(sorted(without))}" if without else ""
    print_table(f"{len(labels)} videos of split {split}{lacking}", result)
  return result


def print_table(title: str, result: Evaluation) -> None:
  """The exits and the context rows as a table on standard output."""
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("")
  for name in ("τ", "ρ", "F1", "τ / ceiling"):
    table.add_column(name, justify="right")
  for rows in (result.exits, result.context):
    for row in rows:
      share = labelled.share_of_ceiling(row, result.context)
      table.add_row(row.name, f"{row.tau:.3f}", f"{row.rho:.3f}", f"{row.f1:.3f}", f"{share:.0%}")
    table.add_section()
  table.caption = (
    f"Protocol '{labelled.UNIFORM_SEGMENTS.name}': means over annotators, then videos."
  )
  rich.console.Console().print(table)


def _as_json(result: Evaluation) -> dict[str, Sequence[dict]]:
  def rows(group: Sequence[labelled.Row]) -> list[dict]:
    return [
      dataclasses.asdict(row) | {"share_of_ceiling": None if math.isnan(share) else share}
      for row in group
      for share in (labelled.share_of_ceiling(row, result.context),)
    ]

  return {"exits": rows(result.exits), "context": rows(result.context)}
