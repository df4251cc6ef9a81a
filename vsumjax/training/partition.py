"""Which parameters are trained and which are frozen: every leaf is labelled once, here."""

from __future__ import annotations

import difflib
import re
from typing import Any

from flax import traverse_util

from vsumjax.models import lora
from vsumjax.types import InputError


def split(params: Any, freeze: tuple[str, ...] = ()) -> tuple[Any, Any]:
  """(trained, frozen) parts of the parameters, every leaf in one of them.

  Frozen are the leaves whose whole path, as "img/embedding/kernel", one of the regular expressions
  `freeze` matches, and, where there are LoRA adapters, all but these and the exits.
  """
  flat = traverse_util.flatten_dict(params)
  has_adapters = any(map(lora.is_adapter, flat))
  trained, frozen = {}, {}
  for path, leaf in flat.items():
    in_base = has_adapters and not lora.is_new(path)
    is_frozen = in_base or any(re.fullmatch(pattern, "/".join(path)) for pattern in freeze)
    (frozen if is_frozen else trained)[path] = leaf
  return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(frozen)


def join(trained: Any, frozen: Any) -> Any:
  """The parameters that `split` took apart."""
  flat = traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
  return traverse_util.unflatten_dict(flat)


def check(params: Any, freeze: tuple[str, ...]) -> None:
  """Raises InputError for a pattern that matches nothing, and if nothing is left to train."""
  paths = ["/".join(path) for path in traverse_util.flatten_dict(params)]
  for pattern in freeze:
    if not any(re.fullmatch(pattern, path) for path in paths):
      near = ", ".join(difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0))
      raise InputError(f"optimizer.freeze: {pattern!r} matches no parameter; the nearest: {near}")
  if not split(params, freeze)[0]:
    raise InputError(f"optimizer.freeze: {list(freeze)} leave no parameter to train")
