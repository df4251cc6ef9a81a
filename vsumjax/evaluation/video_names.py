"""The videos that files of other people speak of, under whatever name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.types import InputError


class VideoNames:
  """Finds videos by any of their names: the id, or one of `names`.

  Capitals, and spaces or underscores, make no difference. Of a path, as "tvsum/video_1", the last
  part counts.
  """

  def __init__(self, videos: Iterable[AnnotatedVideo]):
    self._videos: dict[str, list[AnnotatedVideo]] = {}
    for video in videos:
      for name in {_plain(name) for name in (video.id, *video.names)}:
        known = self._videos.setdefault(name, [])
        if video.id not in (other.id for other in known):
          known.append(video)

  def __contains__(self, name: str) -> bool:
    return bool(self._found(name))

  def find(self, name: str) -> AnnotatedVideo:
    """The video of that name.

    Raises:
      InputError: no video has it (the nearest name is told), or two have it.
    """
    found = self._found(name)
    if len(found) == 1:
      return found[0]
    if found:
      raise InputError(f"{name!r} may be {found[0].id} or {found[1].id}; use the id")
    near = difflib.get_close_matches(_plain(name), self._videos, n=1, cutoff=0.0)
    hint = f"; the nearest is {self._videos[near[0]][0].id}" if near else ""
    raise InputError(f"{name!r} is not a video of the benchmark{hint}")

  def _found(self, name: str) -> list[AnnotatedVideo]:
    for part in (name, name.rpartition("/")[2]):
      if _plain(part) in self._videos:
        return self._videos[_plain(part)]
    return []


def _plain(name: str) -> str:
  return " ".join(name.replace("_", " ").split()).casefold()
