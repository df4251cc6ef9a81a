"""A one-page HTML report of an evaluation: tables, bars from random to ceiling, curves."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vsumjax.evaluation import comparisons, context, keyshots
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import Protocol, Result
from vsumjax.evaluation.report import Part, Report, show
from vsumjax.host import templates
from vsumjax.host.files import write_atomically
from vsumjax.media.segments import clock

Array = np.ndarray

MAX_DOTS = 100  # videos; of more than that the sorted values are drawn
MAX_CURVES = 60  # videos
_MAX_BINS = 400  # of a curve

# Units of the drawings of curves, which the page stretches to its width.
_WIDTH, _HEIGHT = 1000, 200

_KINDS = {
  context.RANDOM: "random",
  context.HUMAN: "human",
  context.CEILING: "ceiling",
  context.ORACLE: "ceiling",
}


def save_report_page(path: str | os.PathLike[str], report: Report) -> None:
  """Writes the page, which needs no network and no other file.

  A table, a chart and every video's value for each protocol; then, for the videos that have a
  prediction, its curve beside the annotators'. Of more than `MAX_DOTS` videos the sorted values are
  drawn; of more than `MAX_CURVES` the best, the worst and those around the median have curves.

  Args:
    path: of the HTML file.
    report: what was measured.
  """
  used = {row.predictor for part in report.parts for row in part.context}
  first = next((part for part in report.parts if part.result.by_video), None)
  write_atomically(
    path,
    templates.render(
      Path(__file__).with_name("report_page.html"),
      report=report,
      sections=[_section(part, report.videos) for part in report.parts],
      descriptions={name: text for name, text in context.DESCRIPTIONS.items() if name in used},
      first=first,
      groups=_groups(report, first) if first else [],
      plot=(_WIDTH, _HEIGHT),
    ),
  )


# --- one protocol


@dataclasses.dataclass(frozen=True)
class _Axis:
  """Of one measure, wide enough for some values and 0, with round numbers marked on it."""

  measure: str
  low: float
  high: float
  ticks: tuple[float, ...]

  @classmethod
  def over(cls, measure: str, values: Iterable[float]) -> _Axis:
    values = [0.0, *values]
    low = min(values)
    length = max(values) - low or 1.0
    step = 10.0 ** math.floor(math.log10(length / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= length / 5)
    low, high = low - 0.04 * length, low + 1.04 * length
    ticks = range(math.ceil(low / step), math.floor(high / step) + 1)
    return cls(measure, low, high, tuple(step * tick for tick in ticks))

  @property
  def labels(self) -> list[tuple[float, str]]:
    return [(self.percent(tick), _number(tick, self.measure)) for tick in self.ticks]

  def percent(self, value: float) -> float:
    """How far along the axis a value lies."""
    return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclasses.dataclass(frozen=True)
class _Mark:
  """A value on an axis, and the ends of its interval; where it has none, itself."""

  name: str
  kind: str  # of its symbol
  shown: str
  x: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class _Chart:
  """What the rows of a protocol reach by one measure, the best first."""

  axis: _Axis
  marks: list[_Mark]
  span: tuple[float, float] | None  # random and ceiling


@dataclasses.dataclass(frozen=True)
class _Line:
  """All values of a row, ascending."""

  path: str
  told: str  # the lowest, the median and the highest


@dataclasses.dataclass(frozen=True)
class _Values:
  """What some of the rows reach on each video: marks of each, or a line a row if those are many."""

  axis: _Axis
  series: list[tuple[str, str]]  # name and kind, the measured predictor first
  videos: list[tuple[AnnotatedVideo, list[_Mark]]]
  lines: list[_Line]


@dataclasses.dataclass(frozen=True)
class _Row:
  """A line of a protocol's table."""

  name: str
  kind: str
  cells: list[tuple[str, str]]  # value and share of the ceiling by each measure


@dataclasses.dataclass(frozen=True)
class _Section:
  protocol: Protocol
  measures: list[str]
  rows: list[_Row]
  charts: list[_Chart]
  values: _Values | None


def _section(part: Part, videos: Sequence[AnnotatedVideo]) -> _Section:
  measures = list(part.result.by_video)
  rows = [
    _Row(row.predictor, _kind(part, row), [_cell(part, row, measure) for measure in measures])
    for row in (part.result, *part.context)
  ]
  return _Section(
    protocol=part.protocol,
    measures=measures,
    rows=rows,
    charts=[_chart(part, measure) for measure in measures],
    values=_values(part, measures[0], videos) if measures else None,
  )


def _kind(part: Part, row: Result) -> str:
  return "predictor" if row is part.result else _KINDS.get(row.predictor, "other")


def _cell(part: Part, row: Result, measure: str) -> tuple[str, str]:
  if measure not in row.by_video:
    return "", ""
  share = context.share_of_ceiling(row, measure, part.context)
  return show(row, measure), "" if math.isnan(share) else f"{round(share, 2) + 0.0:.0%}"  # no -0%


def _number(value: float, measure: str) -> str:
  return show(Result("", "", {measure: {"": value}}), measure)


def _chart(part: Part, measure: str) -> _Chart:
  rows = [row for row in (part.result, *part.context) if measure in row.by_video]
  rows.sort(key=lambda row: -row.mean(measure))
  intervals = [row.interval.get(measure, (row.mean(measure),) * 2) for row in rows]
  axis = _Axis.over(measure, [*np.ravel(intervals), *(row.mean(measure) for row in rows)])
  marks = [
    _Mark(
      row.predictor,
      _kind(part, row),
      show(row, measure),
      *(axis.percent(value) for value in (row.mean(measure), low, high)),
    )
    for row, (low, high) in zip(rows, intervals, strict=True)
  ]
  ends = _row(part, measure, context.RANDOM), _ceiling(part, measure)
  span = None if None in ends else tuple(axis.percent(row.mean(measure)) for row in ends)
  return _Chart(axis, marks, span)


def _row(part: Part, measure: str, *names: str) -> Result | None:
  """The first of these context rows that is there and has the measure."""
  rows = {row.predictor: row for row in part.context if measure in row.by_video}
  return next((rows[name] for name in names if name in rows), None)


def _ceiling(part: Part, measure: str) -> Result | None:
  return context.ceiling(measure, part.context)


def _values(part: Part, measure: str, videos: Sequence[AnnotatedVideo]) -> _Values:
  beside = (_row(part, measure, name) for name in (context.RANDOM, context.HUMAN))
  rows = [part.result, *filter(None, beside), *filter(None, [_ceiling(part, measure)])]
  by_row = [row.by_video[measure] for row in rows]
  axis = _Axis.over(measure, [value for values in by_row for value in values.values()])
  series = [(row.predictor, _kind(part, row)) for row in rows]
  if len(videos) > MAX_DOTS:
    lines = [_sorted_line(axis, list(values.values())) for values in by_row]
    return _Values(axis, series, [], lines)
  ranked = sorted(videos, key=lambda video: -by_row[0][video.id])
  marks = [
    [_mark(axis, values[video.id], *named) for values, named in zip(by_row, series, strict=True)]
    for video in ranked
  ]
  return _Values(axis, series, list(zip(ranked, marks, strict=True)), [])


def _mark(axis: _Axis, value: float, name: str, kind: str) -> _Mark:
  x = axis.percent(value)
  return _Mark(name, kind, _number(value, axis.measure), x, x, x)


def _sorted_line(axis: _Axis, values: list[float]) -> _Line:
  quantiles = np.quantile(values, (0, 0.5, 1))
  return _Line(
    "M" + _steps(np.array([axis.percent(v) / 100 for v in _bin_means(np.sort(values))])),
    " · ".join(_number(value, axis.measure) for value in quantiles),
  )


# --- curves


@dataclasses.dataclass(frozen=True)
class _Curves:
  """Paths of one video's plot; "" for a band or summary that it does not have."""

  video: AnnotatedVideo
  shown: str  # its value by the first measure
  source: str  # of the annotators' curve
  times: tuple[str, ...]
  predicted: str
  annotators: str
  band: str
  kept: str
  annotators_kept: str


def _groups(report: Report, first: Part) -> list[tuple[str, list[_Curves]]]:
  """The videos with curves, best first, under headings where these are not all."""
  measure, values = next(iter(first.result.by_video.items()))
  videos = [video for video in report.videos if video.id in report.predictions]
  videos.sort(key=lambda video: -values[video.id])
  groups = [("", videos)]
  if len(videos) > MAX_CURVES:
    third = MAX_CURVES // 3
    middle = (len(videos) - third) // 2
    groups = [
      (f"The {third} best", videos[:third]),
      (f"The {third} around the median", videos[middle : middle + third]),
      (f"The {third} worst", videos[-third:]),
    ]
  return [
    (
      heading,
      [
        _curves(
          video, report.predictions[video.id], f"{measure} {_number(values[video.id], measure)}"
        )
        for video in chosen
      ],
    )
    for heading, chosen in groups
    if chosen
  ]


def _curves(video: AnnotatedVideo, prediction: Prediction, shown: str) -> _Curves:
  source, reference_xB = _reference(video)
  annotators, *band = _scaled(reference_xB)
  kept = annotators_kept = ""
  if video.segments_K2 is not None:
    budget = keyshots.budget_of_segments(video)
    kept = _area(_bin_means(comparisons.summary_of(video, prediction, budget)))
    if video.levels_AF is not None or video.summary_AF is not None:
      said = comparisons.with_summaries(video, budget=keyshots.budget_of_segments).summary_AF
      annotators_kept = _area(_bin_means(said.mean(axis=0)))
  return _Curves(
    video=video,
    shown=shown,
    source=source,
    times=tuple(_time(video, share) for share in (0, 0.5, 1)),
    predicted="M" + _steps(*_scaled(_bin_means(prediction.score_F)[None])),
    annotators="M" + _steps(annotators),
    band=_area(*band) if band else "",
    kept=kept,
    annotators_kept=annotators_kept,
  )


def _reference(video: AnnotatedVideo) -> tuple[str, Array]:
  """What predictions are drawn beside, in words and as f64[1, B], or with a band as f64[3, B].

  The band, upper edge first, is the middle half of the annotators' levels. One annotator's yes and
  no say less than the gtscore that they were made from.
  """
  said_AF = video.summary_AF if video.levels_AF is None else video.levels_AF
  if video.gtscore_P is not None and (said_AF is None or len(said_AF) < 2):
    return "gtscore", _bin_means(Prediction.from_picks(video, video.gtscore_P).score_F)[None]
  mean_B = _bin_means(said_AF.mean(axis=0))
  if video.levels_AF is None:
    return "the share of annotators who kept the frame", mean_B[None]
  quartiles_2B = np.quantile(_bin_means(video.levels_AF), (0.75, 0.25), axis=0)
  return "the annotators' mean level", np.stack([mean_B, *quartiles_2B])


def _time(video: AnnotatedVideo, share: float) -> str:
  frame = share * video.num_frames
  return clock(round(frame / video.fps)) if video.fps else f"frame {round(frame):,}"


def _bin_means(values_xF: Array) -> Array:
  """f64[..., B]: means over B = min(F, 400) stretches of almost the same length."""
  num_frames = values_xF.shape[-1]
  num_bins = min(num_frames, _MAX_BINS)
  edges = np.arange(num_bins + 1) * num_frames // num_bins
  return np.add.reduceat(values_xF, edges[:-1], axis=-1, dtype=np.float64) / np.diff(edges)


def _scaled(curves_xB: Array) -> Array:
  """To 0..1, all with the same scale; 0.5 if they are constant."""
  low, high = curves_xB.min(), curves_xB.max()
  return (curves_xB - low) / (high - low) if high > low else np.full_like(curves_xB, 0.5)


def _area(top_B: Array, bottom_B: Array | None = None) -> str:
  bottom_B = np.zeros(1) if bottom_B is None else bottom_B
  return f"M{_steps(top_B)}L{_steps(bottom_B, backwards=True)}Z"


def _steps(height_B: Array, *, backwards: bool = False) -> str:
  """SVG path of bars' upper edges without its first letter, for heights in 0..1."""
  x = np.rint(np.linspace(0, _WIDTH, len(height_B) + 1)).astype(int)
  y = np.rint(_HEIGHT * (1 - height_B)).astype(int)
  if backwards:
    x, y = x[::-1], y[::-1]
  changes = np.flatnonzero(np.diff(y)) + 1
  steps = "".join(f"H{x[change]}V{y[change]}" for change in changes)
  return f"{x[0]} {y[0]}{steps}H{x[-1]}"
