"""The report of a cross-validation: its own table, and all protocols beside the context rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.evaluation import context, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.folds import CrossValidation, Interval
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import Protocol, Result
from vsumjax.evaluation.report import Part, Report, show
from vsumjax.evaluation.splits import Split

STUDENT = "student"
Tests = Sequence[tuple[int, Mapping[str, Prediction]]]  # seed and predictions of each training


def make_report(
  result: CrossValidation,
  videos: Sequence[AnnotatedVideo],
  tests: Tests,
  rows: Sequence[tuple[Protocol, tuple[Result, ...]]],
) -> Report:
  """All protocols, of every video the mean over the trainings that test it.

  Intervals of the student are of the seeds: 95 % by Student's t. Curves are means of the scores.

  Args:
    result: of the trainings under one protocol.
    videos: those that any fold tests.
    tests: what each training says of the videos that it tests.
    rows: the protocols, each with its context.
  """
  named = [(seed, _of_ids(videos, predictions), predictions) for seed, predictions in tests]
  chosen = [protocol for protocol, _ in rows]
  measured = [
    (seed, protocols.evaluate_all(of_fold, predictions, chosen, STUDENT))
    for seed, of_fold, predictions in named
  ]
  return Report(
    title=_title(result),
    videos=videos,
    predictions={video.id: mean_prediction(video.id, tests) for video in videos},
    parts=tuple(
      Part(protocol, mean_result([(seed, each[i]) for seed, each in measured]), context_rows)
      for i, (protocol, context_rows) in enumerate(rows)
    ),
    notes=_notes(result),
    about={"cross_validation": result.as_json()},
  )


def _of_ids(
  videos: Sequence[AnnotatedVideo], predictions: Mapping[str, Prediction]
) -> list[AnnotatedVideo]:
  return [video for video in videos if video.id in predictions]


def mean_prediction(video_id: str, tests: Tests) -> Prediction:
  """Of one video, over the tests that have it. A single one is as it is."""
  found = [predictions[video_id] for _, predictions in tests if video_id in predictions]
  if len(found) == 1:
    return found[0]
  return Prediction(
    np.mean([each.score_P for each in found], axis=0),
    np.mean([each.score_F for each in found], axis=0),
  )


def mean_result(results: Sequence[tuple[int, Result]]) -> Result:
  """Of a video the mean over its tests; the interval is that of the means of each seed."""
  by_seed: dict[int, list[Result]] = {}
  for seed, result in results:
    by_seed.setdefault(seed, []).append(result)
  by_video: dict[str, dict[str, float]] = {}
  interval = {}
  first = results[0][1]
  for measure in first.by_video:
    values: dict[str, list[float]] = {}
    for _, result in results:
      for video, value in result.by_video[measure].items():
        values.setdefault(video, []).append(value)
    by_video[measure] = {video: float(np.mean(each)) for video, each in values.items()}
    over_seeds = Interval.of([np.mean([r.mean(measure) for r in of]) for of in by_seed.values()])
    if over_seeds.half is not None:
      mean = float(np.mean(list(by_video[measure].values())))
      interval[measure] = (mean - over_seeds.half, mean + over_seeds.half)
  return dataclasses.replace(first, by_video=by_video, interval=interval)


def _notes(result: CrossValidation) -> tuple[str, ...]:
  gains = ", ".join(
    f"{measure} {result.more_than(context.CENTRE, measure):+}" for measure in result.measures
  )
  return (
    f"Chosen: {result.selection}.",
    "± of the student: 95 % interval over seeds; it says nothing of other videos.",
    f"More than the centre prior, with the 95 % interval over videos: {gains}"
    f" ({result.protocol.name}).",
    *overlap_notes(result.split),
  )


def overlap_notes(split: Split) -> tuple[str, ...]:
  """What a reader of means over folds has to know, if the folds do not test every video once."""
  if split.is_partition:
    return ()
  overlap = split.overlap
  return (
    f"The folds overlap: {overlap.tested_again} videos are tested by several of them and"
    f" {overlap.never_tested} by none.",
  )


def print_table(result: CrossValidation) -> None:
  """The student beside the context, and what it gains on the centre prior, on standard output."""
  title = "\n".join([f"{result.protocol.name}, {_title(result)}", *overlap_notes(result.split)])
  table = rich.table.Table(
    title=title, box=rich.box.SIMPLE_HEAD, title_justify="left", caption_justify="left"
  )
  table.add_column("")
  for measure in result.measures:
    table.add_column(measure, justify="right")
  for name, part in (("student", "test"), ("student, validation videos", "validation")):
    table.add_row(name, *(f"{result.over_seeds(measure, part)}" for measure in result.measures))
  table.add_row(
    "student - centre prior",
    *(f"{result.more_than(context.CENTRE, measure):+}" for measure in result.measures),
  )
  table.add_section()
  for row in result.context:
    means = dataclasses.replace(row, interval={})
    table.add_row(row.predictor, *(show(means, measure) for measure in result.measures))
  table.caption = (
    "95 % intervals: of the student over seeds, of the difference over videos.\n"
    f"Chosen: {result.selection}."
  )
  rich.console.Console().print(table)


def _title(result: CrossValidation) -> str:
  seeds = ", ".join(map(str, result.seeds))
  return f"{STUDENT}: {result.split.name}, {len(result.split.folds)} folds, seeds {seeds}"
