"""Which files are expected to be videos, by their names."""

from __future__ import annotations

import pathlib

_VIDEO_SUFFIXES = (
  ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
  ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip


def is_video_name(name: str) -> bool:
  """Whether a file of this name is expected to hold video."""
  return not name.startswith(".") and pathlib.PurePath(name).suffix.lower() in _VIDEO_SUFFIXES
