"""Pictures of a summary: a contact sheet of the chosen segments, and scores over time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vsumjax.host.files import replacing
from vsumjax.media.segments import clock
from vsumjax.summary.scores import Summary

Array = np.ndarray

# Colours of the sheet. Dark, so that the pictures stand out on any page.
_GROUND, _CELL, _TEXT, _FAINT, _ACCENT = "#14171c", "#20252d", "#f2f4f7", "#98a2b3", "#ffb454"
_LINE, _SHADE = "#2563a8", "#f59e0b"

_THUMB_WIDTH = 320  # pixels
_MAX_COLUMNS = 5
_MARGIN, _GAP, _CAPTION_HEIGHT, _TITLE_HEIGHT, _RADIUS = 40, 20, 38, 84, 10


def save_storyboard(
  path: str | os.PathLike[str],
  frames: Sequence[Array],
  captions: Sequence[tuple[str, str]],
  title: str,
) -> None:
  """Writes a PNG contact sheet.

  Args:
    path: of the PNG.
    frames: K pictures u8[h, w, 3], RGB, of any size; the first gives all cells their shape.
    captions: K pairs of short texts, shown left and right below each picture; see `captions_of`.
    title: one line at the top, shortened to fit.
  """
  height, width = frames[0].shape[:2]
  thumb = (_THUMB_WIDTH, round(_THUMB_WIDTH * min(max(height / width, 0.4), 1.8)))
  num_columns = _num_columns(len(frames))
  num_rows = math.ceil(len(frames) / num_columns)
  step = (thumb[0] + _GAP, thumb[1] + _CAPTION_HEIGHT + _GAP)
  size = (
    2 * _MARGIN + num_columns * step[0] - _GAP,
    _TITLE_HEIGHT + num_rows * step[1] - _GAP + _MARGIN,
  )
  sheet = Image.new("RGB", size, _GROUND)
  draw = ImageDraw.Draw(sheet)
  _draw_title(draw, title, size[0] - 2 * _MARGIN)
  for index, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
    row, column = divmod(index, num_columns)
    corner = (_MARGIN + column * step[0], _TITLE_HEIGHT + row * step[1])
    _paste_rounded(sheet, frame, corner, thumb)
    _draw_caption(draw, caption, corner, thumb)
  with replacing(path) as temporary:
    sheet.save(temporary, format="PNG", optimize=True)


def captions_of(summary: Summary) -> tuple[tuple[str, str], ...]:
  """Time and score of every chosen segment, as `save_storyboard` takes them."""
  scores_K = np.asarray(summary.scores.score)[np.asarray(summary.selected_N)]
  return tuple(
    (f"{clock(start_s)} – {clock(end_s)}", f"{score:.2f}")
    for (start_s, end_s), score in zip(summary.selected_span_s_K2, scores_K, strict=True)
  )


def save_timeline(path: str | os.PathLike[str], summary: Summary) -> None:
  """Writes the scores over time, the chosen segments shaded; PNG or SVG by the suffix of `path`."""
  figure = Figure(figsize=(11, 2.8), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  span_s_N2, score_N = np.asarray(summary.scores.span_s), np.asarray(summary.scores.score)
  low, high = score_range(score_N)
  for start_s, end_s in summary.selected_span_s_K2:
    axes.axvspan(start_s, end_s, color=_SHADE, alpha=0.25, linewidth=0)
  edges_s = np.append(span_s_N2[:, 0], span_s_N2[-1, 1])
  axes.stairs(score_N, edges_s, baseline=None, color=_LINE, linewidth=1.8)
  axes.set(xlim=(edges_s[0], edges_s[-1]), ylim=(low, high), xlabel="time", ylabel="importance")
  axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 2, 3, 5, 6, 10]))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda time_s, _: clock(time_s)))
  axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
  axes.grid(axis="y", color="#d5dae1", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.set_title(
    f"{clock(summary.length_s)} of {clock(summary.duration_s)} chosen (shaded)",
    loc="right",
    fontsize=10,
    color="#475467",
  )
  with replacing(path) as temporary:
    figure.savefig(temporary, format=Path(path).suffix.lstrip("."), dpi=150)


def score_range(score_N: Array) -> tuple[int, int]:
  """Whole levels around all scores, for the axis of a plot."""
  low = math.floor(np.min(score_N))
  return low, max(math.ceil(np.max(score_N)), low + 1)


def _num_columns(num_frames: int) -> int:
  """As even rows as possible in the fewest: 6 pictures make 2 rows of 3, not 5 and 1."""
  num_rows = math.ceil(num_frames / _MAX_COLUMNS)
  return math.ceil(num_frames / num_rows)


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
  name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
  return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _draw_title(draw: ImageDraw.ImageDraw, title: str, width: int) -> None:
  font, text = _font(26, bold=True), " ".join(title.split())
  while font.getlength(text) > width and len(text) > 1:
    text = text[:-2].rstrip() + "…"
  draw.text((_MARGIN, _TITLE_HEIGHT // 2), text, _TEXT, font, anchor="lm")


def _draw_caption(
  draw: ImageDraw.ImageDraw,
  caption: tuple[str, str],
  corner: tuple[int, int],
  thumb: tuple[int, int],
) -> None:
  left, right = caption
  middle = corner[1] + thumb[1] + _CAPTION_HEIGHT // 2
  draw.text((corner[0] + 2, middle), left, _FAINT, _font(17), anchor="lm")
  draw.text((corner[0] + thumb[0] - 2, middle), right, _ACCENT, _font(17, bold=True), anchor="rm")


def _paste_rounded(
  sheet: Image.Image, frame: Array, corner: tuple[int, int], thumb: tuple[int, int]
) -> None:
  image = Image.fromarray(np.ascontiguousarray(frame))
  cell = ImageOps.pad(image, thumb, Image.Resampling.LANCZOS, color=_CELL)
  mask = Image.new("L", (4 * thumb[0], 4 * thumb[1]))  # drawn large, for smooth corners
  ImageDraw.Draw(mask).rounded_rectangle((0, 0, *mask.size), 4 * _RADIUS, fill=255)
  sheet.paste(cell, corner, mask.resize(thumb, Image.Resampling.LANCZOS))
