"""JSON that others wrote."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from vsumjax.types import InputError


def read_json(path: pathlib.Path, otherwise: str) -> Any:
  """The content of a file.

  Raises:
    InputError: it cannot be read, or an object has a key twice, of which the first would be lost;
      or it is no JSON, and then `otherwise` says what that means.
  """

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
      keys = [key for key, _ in pairs]
      twice = next(key for key in content if keys.count(key) > 1)
      raise InputError(f"{path}: {twice}: there are two entries")
    return content

  try:
    return json.loads(path.read_bytes(), object_pairs_hook=unique)
  except InputError:
    raise
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None
  except (ValueError, RecursionError) as error:
    raise InputError(f"{path}: {otherwise} ({error})") from None
