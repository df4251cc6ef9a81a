"""How often a loop of a compiled program runs, read off its condition, its body and its start.

The bound alone does not tell: a loop over parts of a product ("windowed_dot_general") that the
compiler has unrolled compares with 8, adds 2 an iteration, and runs four times.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

from vsumjax.tpu.hlo import Instruction

_SAME = ("copy", "bitcast", "convert", "reshape")
Computations = dict[str, list[Instruction]]


@dataclasses.dataclass(frozen=True)
class _Value:
  """An integer, `times` · the loop's counter + `plus`."""

  times: int
  plus: int


@dataclasses.dataclass(frozen=True)
class Trips:
  """count: iterations; at_most: of a loop that may also end for what its data say."""

  count: int
  at_most: bool = False


# What is in place `index` of the tuple that a computation is given.
_Given = Callable[[int], _Value | None]


def trip_count(
  computations: Computations, outside: Sequence[Instruction], loop: Instruction
) -> Trips | None:
  """Iterations of a `while` in the computation `outside`; None where it cannot be told."""
  found = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
  if found:
    return Trips(int(found.group(1)))
  condition = computations.get(loop.attribute("condition") or "", [])
  body = computations.get(loop.attribute("body") or "", [])
  if not condition or not body:
    return None
  start = _Start(computations, outside, loop)
  for counter in _counters(condition):

    def given(index: int, counter: int = counter) -> _Value | None:
      return _Value(1, 0) if index == counter else start(index)

    first, step = start(counter), _step(computations, body, counter, given)
    bounds, at_most = _bounds(computations, condition, given)
    if first and step:
      counts = [_count(first.plus, step, *bound) for bound in bounds]
      known = [count for count in counts if count is not None]
      if known:
        return Trips(min(known), at_most)
  return None


def _count(first: int, step: int, direction: str, limit: int) -> int | None:
  """How often `counter DIRECTION limit` holds from `first` on by `step`."""
  if direction in ("LE", "GE"):
    limit += 1 if direction == "LE" else -1
  rising = direction in ("LT", "LE")
  if direction == "NE":
    whole = not (limit - first) % step and (limit - first) // step >= 0
    return (limit - first) // step if whole else None
  if direction == "EQ" or rising != (step > 0):
    return None
  return max(0, math.ceil((limit - first) / step))


def _counters(condition: Sequence[Instruction]) -> list[int]:
  """Places of the tuple that a condition looks at."""
  return [i.index for i in condition if i.opcode == "get-tuple-element" and i.index is not None]


class _Start:
  """What a loop is given first, by place of its tuple."""

  def __init__(self, computations: Computations, outside: Sequence[Instruction], loop: Instruction):
    self._computations = computations
    self._by_name = {i.name: i for i in outside}
    given = self._by_name.get(loop.operands[0]) if loop.operands else None
    self._places = given.operands if given and given.opcode == "tuple" else ()

  def __call__(self, index: int) -> _Value | None:
    if index >= len(self._places):
      return None
    return _value(self._computations, self._by_name, self._places[index], lambda _: None)


def _step(
  computations: Computations, body: Sequence[Instruction], counter: int, given: _Given
) -> int | None:
  by_name = {i.name: i for i in body}
  root = next((i for i in body if i.is_root), body[-1])
  if root.opcode != "tuple" or counter >= len(root.operands):
    return None
  value = _value(computations, by_name, root.operands[counter], given)
  return value.plus if value and value.times == 1 and value.plus else None


def _bounds(
  computations: Computations, condition: Sequence[Instruction], given: _Given
) -> tuple[list[tuple[str, int]], bool]:
  """[("LT", 8)] of a condition `counter < 8`, and whether it says something else besides."""
  by_name = {i.name: i for i in condition}
  root = next((i for i in condition if i.is_root), condition[-1])
  arguments = None
  if root.opcode == "fusion":
    arguments = [_value(computations, by_name, name, given) for name in root.operands]
    inside = computations.get(root.attribute("calls") or "", [])
    by_name = {i.name: i for i in inside}
    root = next((i for i in inside if i.is_root), root)
  parts, found = [root], []
  while any(part.opcode == "and" for part in parts):
    split = [list(part.operands) if part.opcode == "and" else [part.name] for part in parts]
    parts = [by_name[name] for names in split for name in names if name in by_name]
  for part in parts:
    sides = [_value(computations, by_name, name, given, arguments) for name in part.operands]
    bound = _compared(part, sides)
    if bound:
      found.append(bound)
  return found, len(found) < len(parts)


def _compared(i: Instruction, sides: list[_Value | None]) -> tuple[str, int] | None:
  """("LT", 8) of `counter < 8`, where the counter may have something added."""
  found = re.search(r"direction=(\w+)", i.rest)
  if i.opcode != "compare" or not found or None in sides:
    return None
  left, right = (side for side in sides if side)
  direction = found.group(1)
  if right.times and not left.times:
    left, right = right, left
    direction = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE"}.get(direction, direction)
  if left.times != 1 or right.times:
    return None
  return direction, right.plus - left.plus


def _value(
  computations: Computations,
  by_name: dict[str, Instruction],
  name: str,
  given: _Given,
  arguments: Sequence[_Value | None] | None = None,
) -> _Value | None:
  """A scalar, as far as it is made of constants, the counter, sums and products."""
  i = by_name.get(name)
  if i is None:
    return None
  if i.opcode == "constant":
    is_number = i.operands and re.fullmatch(r"-?\d+", i.operands[0])
    return _Value(0, int(i.operands[0])) if is_number else None
  if i.opcode == "get-tuple-element":
    return given(i.index) if i.index is not None else None
  if i.opcode == "parameter" and arguments is not None:
    return arguments[int(i.operands[0])]
  parts = [_value(computations, by_name, other, given, arguments) for other in i.operands]
  if i.opcode == "fusion":
    inside = computations.get(i.attribute("calls") or "", [])
    root = next((x for x in inside if x.is_root), None)
    names = {x.name: x for x in inside}
    return _value(computations, names, root.name, given, parts) if root else None
  if not parts or None in parts:
    return None
  return _combined(i.opcode, [part for part in parts if part])


def _combined(opcode: str, parts: list[_Value]) -> _Value | None:
  a = parts[0]
  if opcode in _SAME:
    return a
  if len(parts) != 2:
    return None
  b = parts[1]
  if opcode == "add":
    return _Value(a.times + b.times, a.plus + b.plus)
  if opcode == "subtract":
    return _Value(a.times - b.times, a.plus - b.plus)
  if opcode == "multiply" and not (a.times and b.times):
    fixed, other = (b, a) if a.times else (a, b)
    return _Value(other.times * fixed.plus, other.plus * fixed.plus)
  return None
