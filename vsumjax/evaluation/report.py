"""What a summariser reaches under every protocol, beside the context rows: JSON and a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from vsumjax.evaluation import context
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import Protocol, Result

SCHEMA = 1
_CORRELATIONS = ("tau", "rho")  # shown as they are; other measures in per cent


@dataclasses.dataclass(frozen=True)
class Part:
  """One protocol: what was measured, and the rows beside it, in the order of `context`."""

  protocol: Protocol
  result: Result
  context: tuple[Result, ...]


@dataclasses.dataclass(frozen=True)
class Report:
  """The results of one predictor on one benchmark.

  Attributes:
    title: what was measured on what.
    videos: those of the means.
    predictions: by video id, whose curves are shown.
    parts: one a protocol.
    skipped: {name of a protocol: why it could not be applied}.
    notes: what a reader has to know, one sentence each.
    about: further facts for the JSON file, by key.
  """

  title: str
  videos: Sequence[AnnotatedVideo]
  predictions: Mapping[str, Prediction]
  parts: tuple[Part, ...]
  skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def as_json(report: Report) -> dict[str, Any]:
  """The report without its curves; all that JSON can hold (a share without a ceiling is null).

      {"schema": 1, "title": ..., "num_videos": 50, "notes": [...], "skipped": {"mrhisum": "..."},
       "protocols": [{"name": "tvsum-rank", "description": ..., "used_by": ...,
                      "rows": [{"predictor": "student", "means": {"tau": 0.104, "rho": 0.136},
                                "intervals": {"tau": [0.096, 0.112], ...},
                                "share_of_ceiling": {"tau": 0.33, ...},
                                "by_video": {"tau": {"video_1": 0.2, ...}, ...}}, ...]}, ...]}

  Correlations are in -1..1, all other measures in 0..1.
  """
  return {
    "schema": SCHEMA,
    "title": report.title,
    **report.about,
    "num_videos": len(report.videos),
    "notes": list(report.notes),
    "skipped": dict(report.skipped),
    "context": dict(context.DESCRIPTIONS),
    "protocols": [
      {
        "name": part.protocol.name,
        "description": part.protocol.description,
        "used_by": part.protocol.used_by,
        "rows": [_row(result, part.context) for result in (part.result, *part.context)],
      }
      for part in report.parts
    ],
  }


def _row(result: Result, rows: Sequence[Result]) -> dict[str, Any]:
  shares = {m: context.share_of_ceiling(result, m, rows) for m in result.by_video}
  return {
    "predictor": result.predictor,
    "means": {measure: result.mean(measure) for measure in result.by_video},
    "intervals": {measure: list(interval) for measure, interval in result.interval.items()},
    "share_of_ceiling": {m: None if math.isnan(share) else share for m, share in shares.items()},
    "by_video": {measure: dict(values) for measure, values in result.by_video.items()},
  }


def make_table(report: Report) -> rich.table.Table:
  """One line a measure: what was measured, its share of the ceiling, then the context rows."""
  names = [
    name
    for name in context.DESCRIPTIONS
    if any(row.predictor == name for part in report.parts for row in part.context)
  ]
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1))
  table.add_column("protocol", no_wrap=True)
  table.add_column("measure", no_wrap=True)
  predictor = report.parts[0].result.predictor if report.parts else ""
  for name in (predictor, "of ceiling", *names):
    table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
  for part in report.parts:
    rows = {row.predictor: row for row in part.context}
    for i, measure in enumerate(part.result.by_video):
      share = context.share_of_ceiling(part.result, measure, part.context)
      table.add_row(
        "" if i else part.protocol.name,
        measure,
        show(part.result, measure),
        "" if math.isnan(share) else f"{share + 0.0:.0%}",
        *(show(rows[name], measure) if name in rows else "" for name in names),
      )
    table.add_section()
  return table


def show(result: Result, measure: str) -> str:
  """A mean with half its interval, if it has one; "" where the row has no such measure."""
  if measure not in result.by_video:
    return ""
  factor, digits = (1, 3) if measure in _CORRELATIONS else (100, 1)
  text = f"{round(factor * result.mean(measure), digits) + 0.0:.{digits}f}"  # no -0.000
  if measure in result.interval:
    low, high = result.interval[measure]
    text += f" ± {factor * (high - low) / 2:.{digits}f}"
  return text
