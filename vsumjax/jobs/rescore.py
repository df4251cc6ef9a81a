"""Measure files of scores, anybody's, under the published protocols."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rich.console

from vsumjax.evaluation import context, protocols, report_page
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.folds_report import mean_prediction, mean_result
from vsumjax.evaluation.protocols import Protocol, Result
from vsumjax.evaluation.report import Part, Report, as_json, make_table
from vsumjax.evaluation.score_sets import ScoredSet, load_sets, tested_videos
from vsumjax.evaluation.scored_folds import ScoredFolds
from vsumjax.evaluation.splits import Split
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.types import InputError

ALL = "all"
_WIDEST = 400  # characters


def rescore(
  scores: Sequence[Path],
  videos: Sequence[AnnotatedVideo],
  out: Path | None,
  *,
  split: Split | None = None,
  fold: int | None = None,
  protocol: str = ALL,
  title: str = "",
) -> Report:
  """Measures the scores of files on the videos of a benchmark; prints a table.

  Writes out/evaluation.json and out/evaluation.html. Of a split, each fold's test videos are
  measured: of a video that several folds test, the table has the mean, and means over the folds,
  as papers have them, stand below it.

  Args:
    scores: the files; see `score_sets.load_sets`.
    videos: of the benchmark; the files must have scores of all that are measured.
    out: folder; None writes nothing.
    split: whose test videos are measured; None measures all videos.
    fold: only this one of `split.folds`.
    protocol: names between commas, or "all" for those that the benchmark has what they need for.
    title: of the report.

  Raises:
    InputError: files that do not fit the videos, an unknown protocol, or one that a video lacks a
      field for.
  """
  ids = {v.id for _, of_set in tested_videos(videos, split, fold) for v in of_set}
  tested = [video for video in videos if video.id in ids]
  chosen, skipped = choose_protocols(protocol, tested)
  sets = load_sets(scores, videos, split=split, fold=fold)
  name = scores[0].stem if len(scores) == 1 else "scores"
  results = [_measure(each, chosen, name) for each in sets]
  with progress("measure random scores, priors and annotators") as update:
    rows = context.context_of_all(tested, chosen, update=update)
  of_folds = ScoredFolds(split, sets, results) if split and fold is None else None
  predictions = [(0, each.predictions) for each in sets]
  report = Report(
    title or f"{scores[0].name} on {len(tested)} videos",
    tested,
    {video.id: mean_prediction(video.id, predictions) for video in tested},
    tuple(
      Part(each, mean_result([(0, of_set[i]) for of_set in results]), rows[i])
      for i, each in enumerate(chosen)
    ),
    skipped,
    (*_notes(sets), *(of_folds.notes if of_folds else ())),
    {
      "scores": scores[0].name if len(scores) == 1 else list(map(str, scores)),
      **({"folds": of_folds.as_json()} if of_folds else {}),
    },
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


def _measure(each: ScoredSet, chosen: Sequence[Protocol], name: str) -> tuple[Result, ...]:
  # A protocol makes the summary itself; the file's own may be of other segments or another length.
  scored = {id: dataclasses.replace(p, summary_F=None) for id, p in each.predictions.items()}
  return protocols.evaluate_all(each.videos, scored, chosen, name)


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


def _notes(sets: Sequence[ScoredSet]) -> tuple[str, ...]:
  notes = []
  predictions = [item for each in sets for item in each.predictions.items()]
  negative = dict.fromkeys(id for id, p in predictions if (p.score_F < 0).any())
  if negative:
    notes.append(
      f"{len(negative)} videos, as {next(iter(negative))}, have scores below 0, which no knapsack"
      " takes: summaries may be shorter than they could be."
    )
  notes += _own_summaries(sets)
  stated = [p.fscore for _, p in predictions if p.fscore is not None]
  if stated:
    files = {file for each in sets for file in each.files}
    states = "The file itself states" if len(files) == 1 else "The files themselves state"
    notes.append(f"{states} an F1 of {len(stated)} videos, {np.mean(stated):.4g} on average.")
  return tuple(notes)


def _own_summaries(sets: Sequence[ScoredSet]) -> list[str]:
  predictions = [p for each in sets for p in each.predictions.values()]
  own = [p for p in predictions if p.summary_F is not None]
  protocol = protocols.BY_NAME["keyshot-f1"]
  if not own or any(protocol.missing(video) for each in sets for video in each.videos):
    return []
  if len(own) < len(predictions):
    return [f"Summaries of their own have only {len(own)} videos; they were not measured."]
  results = [protocols.evaluate(each.videos, each.predictions, protocol, "own") for each in sets]
  result = mean_result([(0, each) for each in results])
  mean, best = (100 * result.mean(m.name) for m in protocol.measures)
  return [
    f"The file's own summaries (machine_summary) have an F1 of {mean:.1f} as the mean over"
    f" annotators and {best:.1f} with the best of them."
  ]
