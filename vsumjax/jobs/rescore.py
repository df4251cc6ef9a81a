"""Measure a file of scores, anybody's, under the published protocols."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rich.console

from vsumjax.evaluation import context, protocols, report_page
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import Protocol, Result
from vsumjax.evaluation.report import Part, Report, as_json, make_table
from vsumjax.evaluation.score_files import load_scores
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.types import InputError

ALL = "all"
_WIDEST = 400  # characters


def rescore(
  scores: Path,
  videos: Sequence[AnnotatedVideo],
  out: Path | None,
  *,
  known: Sequence[AnnotatedVideo] = (),
  protocol: str = ALL,
  title: str = "",
) -> Report:
  """Measures the scores of a file on videos; prints a table.

  Writes out/evaluation.json and out/evaluation.html.

  Args:
    scores: the file; see `score_files.load_scores`.
    videos: to measure on; the file must have scores of all of them.
    out: folder; None writes nothing.
    known: other videos of the benchmark, which the file may have scores of.
    protocol: names between commas, or "all" for those that the benchmark has what they need for.
    title: of the report.

  Raises:
    InputError: a file that does not fit the videos, an unknown protocol, or one that a video lacks
      a field for.
  """
  chosen, skipped = choose_protocols(protocol, videos)
  predictions = load_scores(scores, videos, known=known)
  # A protocol makes the summary itself; the file's own may be of other segments or another length.
  scored = {id: dataclasses.replace(p, summary_F=None) for id, p in predictions.items()}
  report = Report(
    title or f"{scores.name} on {len(videos)} videos",
    videos,
    predictions,
    measure_all(videos, scored, chosen, scores.stem),
    skipped,
    _notes(videos, predictions),
    {"scores": scores.name},
  )
  show_report(report)
  if out is not None:
    save_report(report, out)
  return report


def choose_protocols(
  names: str, videos: Sequence[AnnotatedVideo]
) -> tuple[tuple[Protocol, ...], dict[str, str]]:
  """The protocols of these names, and why others of "all" were left out, by name.

  Raises:
    InputError: an unknown name; a protocol asked for by its name, or a benchmark, that lacks a
      field in a video.
  """
  if names != ALL:
    chosen = []
    for name in names.split(","):
      if name not in protocols.BY_NAME:
        known = ", ".join(protocols.BY_NAME)
        raise InputError(f"there is no protocol {name!r}; there are {ALL}, {known}")
      chosen.append(protocols.BY_NAME[name])
      protocols.check(videos, chosen[-1])
    return tuple(chosen), {}
  chosen, skipped = [], {}
  for each in protocols.PROTOCOLS:
    lacking = {each.missing(video) for video in videos}
    if "" in lacking or not videos:
      protocols.check(videos, each)  # what only some videos lack is an error
      chosen.append(each)
    else:
      skipped[each.name] = f"the benchmark has no {protocols.FIELDS[lacking.pop()]}"
  return tuple(chosen), skipped


def measure_all(
  videos: Sequence[AnnotatedVideo],
  predictions: Mapping[str, Prediction],
  chosen: Sequence[Protocol],
  name: str,
) -> tuple[Part, ...]:
  """Results of a predictor of this name and the context rows, protocol after protocol."""
  results = protocols.evaluate_all(videos, predictions, chosen, name)
  with progress("measure random scores, priors and annotators") as update:
    rows = context.context_of_all(videos, chosen, update=update)
  return tuple(map(Part, chosen, results, rows))


def show_report(report: Report) -> None:
  """Prints the table, on lines long enough for it, and what a reader has to know."""
  console, table = rich.console.Console(highlight=False), make_table(report)
  # A table that is too wide would lose its last columns.
  needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
  console.width = max(console.width, needed)
  console.print(report.title, style="bold")
  console.print(table)
  for name, why in report.skipped.items():
    console.print(f"{name} left out: {why}")
  for note in report.notes:
    console.print(note)


def save_report(report: Report, out: Path) -> None:
  """Writes evaluation.json and evaluation.html."""
  content = json.dumps(as_json(report), indent=1, ensure_ascii=False, allow_nan=False)
  write_atomically(out / "evaluation.json", content + "\n")
  report_page.save_report_page(out / "evaluation.html", report)


def _notes(
  videos: Sequence[AnnotatedVideo], predictions: Mapping[str, Prediction]
) -> tuple[str, ...]:
  notes = []
  negative = [id for id, prediction in predictions.items() if (prediction.score_F < 0).any()]
  if negative:
    notes.append(
      f"{len(negative)} videos, as {negative[0]}, have scores below 0, which no knapsack takes:"
      " summaries may be shorter than they could be."
    )
  notes += _own_summaries(videos, predictions)
  stated = [p.fscore for p in predictions.values() if p.fscore is not None]
  if stated:
    notes.append(
      f"The file itself states an F1 of {len(stated)} videos, {np.mean(stated):.4g} on average."
    )
  return tuple(notes)


def _own_summaries(
  videos: Sequence[AnnotatedVideo], predictions: Mapping[str, Prediction]
) -> list[str]:
  own = [p for p in predictions.values() if p.summary_F is not None]
  protocol = protocols.BY_NAME["keyshot-f1"]
  if not own or any(protocol.missing(video) for video in videos):
    return []
  if len(own) < len(predictions):
    return [f"Summaries of their own have only {len(own)} videos; they were not measured."]
  result: Result = protocols.evaluate(videos, predictions, protocol, "own")
  mean, best = (100 * result.mean(m.name) for m in protocol.measures)
  return [
    f"The file's own summaries (machine_summary) have an F1 of {mean:.1f} as the mean over"
    f" annotators and {best:.1f} with the best of them."
  ]
