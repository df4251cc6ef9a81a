"""The tab-separated text in which TVSum's authors published what its annotators said."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from vsumjax.types import InputError

Array = np.ndarray


def lines(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """The tab-separated fields of each line that is not empty, with its number from 1."""
  try:
    with path.open(encoding="utf-8-sig") as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          yield number, [field.strip() for field in line.split("\t")]
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read: {error}; get the file from its authors") from None


def read_levels(path: pathlib.Path) -> dict[str, tuple[str, Array]]:
  """{video id: (category, f64[annotators, frames])}, in the order of the file.

  A line is video id, category and, between commas, the level of each frame, by one annotator.

  Raises:
    InputError: naming the file and the line or the video.
  """
  rows: dict[str, list[tuple[str, Array]]] = {}
  for number, fields in lines(path):
    if len(fields) != 3:
      raise InputError(
        f"{path}:{number}: has {len(fields)} columns, expected video id, category and levels"
      )
    video_id, category, levels = fields
    try:
      row = np.array(levels.split(","), dtype=np.float64)
    except ValueError:
      raise InputError(f"{path}:{number}: the levels must be numbers between commas") from None
    rows.setdefault(video_id, []).append((category, row))
  if not rows:
    raise InputError(f"{path}: holds no line; get the file from its authors again")
  return {
    video_id: (found[0][0], _stack(f"{path}: video {video_id!r}", [row for _, row in found]))
    for video_id, found in rows.items()
  }


def _stack(where: str, rows: list[Array]) -> Array:
  lengths = {len(row) for row in rows}
  if len(lengths) > 1:
    raise InputError(f"{where}: annotators have {min(lengths)} and {max(lengths)} frames")
  return np.stack(rows)
