"""A one-page HTML report of a summary: player, scores over time, storyboard, every segment."""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import urllib.parse
from pathlib import Path

from vsumjax.host import templates
from vsumjax.host.files import write_atomically
from vsumjax.media.segments import clock
from vsumjax.summary.scores import Summary
from vsumjax.summary.storyboard import score_range

# Browsers load a page of some tens of MB, but not of hundreds.
MAX_EMBEDDED_BYTES = 32 * 2**20

# Units of the timeline's drawing, which the page stretches to its width.
_PLOT_WIDTH, _PLOT_HEIGHT = 1000, 160


@dataclasses.dataclass(frozen=True)
class _Segment:
  """A row of the table and a bar of the timeline."""

  start: str
  end: str
  score: str
  exit: int
  said: str
  heard: str
  is_selected: bool
  at_s: float  # where it begins in the summary, if selected
  x: float
  width: float
  height: float


def save_page(
  path: str | os.PathLike[str],
  summary: Summary,
  video_path: str | os.PathLike[str],
  storyboard_path: str | os.PathLike[str],
) -> None:
  """Writes the page, which needs no network and, up to a summary of 32 MiB, no other file.

  Args:
    path: of the HTML file.
    summary: what was decided.
    video_path: the rendered summary; embedded, or linked by its path relative to the page if large.
    storyboard_path: the PNG; embedded.
  """
  is_embedded = Path(video_path).stat().st_size <= MAX_EMBEDDED_BYTES
  low, high = score_range(summary.scores.score)
  write_atomically(
    path,
    templates.render(
      Path(__file__).with_name("page.html"),
      summary=summary,
      duration=clock(summary.duration_s),
      length=clock(summary.length_s),
      segments=_segments(summary, low, high),
      sounds=_sounds(summary),
      plot=(_PLOT_WIDTH, _PLOT_HEIGHT),
      levels=[(level, 1 - (level - low) / (high - low)) for level in _levels(low, high)],
      video_name=Path(video_path).name,
      is_embedded=is_embedded,
      video_url=_data_url(video_path, "video/mp4") if is_embedded else _link(video_path, path),
      storyboard_url=_data_url(storyboard_path, "image/png"),
    ),
  )


def _segments(summary: Summary, low: int, high: int) -> list[_Segment]:
  first_s, last_s = summary.scores.span_s[0][0], summary.scores.span_s[-1][1]
  per_s = _PLOT_WIDTH / float(last_s - first_s)
  rows = zip(
    summary.scores.span_s,
    summary.scores.score,
    summary.scores.exit,
    summary.said,
    summary.heard,
    summary.selected_N,
    summary.starts_in_summary_s_N,
    strict=True,
  )
  return [
    _Segment(
      start=clock(start_s),
      end=clock(end_s),
      score=f"{score:.2f}",
      exit=int(exit_index),
      said=said,
      heard=heard,
      is_selected=bool(is_selected),
      at_s=float(at_s),
      x=round(float(start_s - first_s) * per_s, 2),
      width=round(float(end_s - start_s) * per_s, 2),
      height=round(_PLOT_HEIGHT * float(score - low) / (high - low), 2),
    )
    for (start_s, end_s), score, exit_index, said, heard, is_selected, at_s in rows
  ]


def _sounds(summary: Summary) -> str:
  """What is heard in the whole video in one line."""
  return "; ".join(
    f"{phrase} {', '.join(f'{clock(start_s)} – {clock(end_s)}' for start_s, end_s in spans)}"
    for phrase, spans in summary.sounds.items()
  )


def _levels(low: int, high: int) -> range:
  """At most six marks for the axis."""
  return range(low, high + 1, math.ceil((high - low) / 5))


def _data_url(path: str | os.PathLike[str], media_type: str) -> str:
  return f"data:{media_type};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def _link(path: str | os.PathLike[str], page_path: str | os.PathLike[str]) -> str:
  relative = Path(os.path.relpath(path, Path(page_path).parent))
  return urllib.parse.quote(relative.as_posix())
