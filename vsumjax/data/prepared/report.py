"""What a preparation did, and what it skipped and why: on the screen, as JSON and as a page."""

from __future__ import annotations

import collections
import dataclasses
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jinja2
import rich.console
import rich.table

from vsumjax.data.prepared.preparation import Outcome, Skipped, Task

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Prepared videos: {{ report.folder }}</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 1080px; margin: 0 auto; padding: 24px; font: 15px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; margin: 8px 0 24px; }
td, th { border-bottom: 1px solid #8884; padding: 4px 16px 4px 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<h1>Prepared videos</h1>
<p>{{ report.folder }}{% if not report.is_finished %} (unfinished){% endif %}</p>
<table>
{%- for name, value in figures %}
<tr><td>{{ name }}</td><td class="number">{{ value }}</td></tr>
{%- endfor %}
</table>
{%- if report.skipped %}
<h2>Skipped</h2>
<table>
<tr><th>kind</th><th>videos</th></tr>
{%- for kind, count in report.skipped_by_kind.items() %}
<tr><td>{{ kind }}</td><td class="number">{{ count }}</td></tr>
{%- endfor %}
</table>
<table>
<tr><th>video</th><th>reason</th><th>outcome</th></tr>
{%- for entry in report.skipped %}
<tr><td>{{ entry.id }}</td><td>{{ entry.reason }}</td><td>{{ entry.file }}</td></tr>
{%- endfor %}
</table>
<p>A video whose file is repaired is tried again by the same command; to try it again without a
change, delete the outcome beside its shard first.</p>
{%- endif %}
</body>
</html>
"""


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of the videos of a folder.

  Attributes:
    folder: where they are prepared.
    is_finished: whether every task has an outcome.
    num_videos: in the manifest (of the split).
    num_done: prepared.
    num_skipped: left out.
    hours: of video, prepared.
    num_segments: prepared.
    num_bytes: of all shards.
    seconds: this run took; an earlier one that was stopped is not counted.
    speed: hours of video prepared in an hour by this run.
    skipped_by_kind: how many were skipped for each kind of fault, the most frequent first.
    skipped: id, kind, reason, and the file that holds the outcome, of each.
  """

  folder: str
  is_finished: bool
  num_videos: int
  num_done: int
  num_skipped: int
  hours: float
  num_segments: int
  num_bytes: int
  seconds: float
  speed: float
  skipped_by_kind: dict[str, int]
  skipped: tuple[dict[str, str], ...]

  def as_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

  def page(self) -> str:
    """A page in HTML that needs no other file."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return template.from_string(_PAGE).render(report=self, figures=self._figures())

  def print(self) -> None:
    """Shows it as a table, with every video that was skipped."""
    title = f"prepared videos in {self.folder}"
    table = rich.table.Table(title=title, box=None, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in (*self._figures(), *self.skipped_by_kind.items()):
      table.add_row(name, str(value))
    rich.console.Console(file=sys.stdout).print(table)
    for entry in self.skipped:
      print(f"skipped {entry['id']}: {entry['reason']}")

  def _figures(self) -> tuple[tuple[str, Any], ...]:
    return (
      ("videos", f"{self.num_done:,}"),
      ("skipped", f"{self.num_skipped:,}"),
      ("hours", f"{self.hours:,.2f}"),
      ("segments", f"{self.num_segments:,}"),
      ("megabytes", f"{self.num_bytes / 1e6:,.1f}"),
      ("seconds of this run", f"{self.seconds:,.0f}"),
      ("times as fast as they play", f"{self.speed:,.1f}"),
    )


def build_report(
  folder: object,
  tasks: Sequence[Task],
  outcomes: Mapping[int, Outcome],
  earlier: Collection[int],
  seconds: float,
) -> Report:
  """Adds up outcomes.

  Args:
    folder: where they lie.
    tasks: all of them.
    outcomes: of the finished ones, under their index.
    earlier: the indices of those that an earlier run finished.
    seconds: this run took.
  """
  finished = [(task, outcomes[task.index]) for task in tasks if task.index in outcomes]
  done = [entry for _, outcome in finished for entry in outcome.done]
  skipped = [entry for _, outcome in finished for entry in outcome.skipped]
  played_s = sum(
    entry.duration_s
    for task, outcome in finished
    for entry in outcome.done
    if task.index not in earlier
  )
  return Report(
    folder=str(folder),
    is_finished=len(finished) == len(tasks),
    num_videos=sum(len(task.videos) for task in tasks),
    num_done=len(done),
    num_skipped=len(skipped),
    hours=sum(entry.duration_s for entry in done) / 3600,
    num_segments=sum(entry.num_segments for entry in done),
    num_bytes=sum(file.num_bytes for _, outcome in finished for file in outcome.files),
    seconds=seconds,
    speed=played_s / seconds,
    skipped_by_kind=count_kinds(skipped),
    skipped=tuple(
      dataclasses.asdict(entry) | {"file": task.sidecar}
      for task, outcome in finished
      for entry in outcome.skipped
    ),
  )


def count_kinds(skipped: Iterable[Skipped]) -> dict[str, int]:
  """How many there are of each kind, the most frequent first."""
  counted = collections.Counter(entry.kind for entry in skipped)
  return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
