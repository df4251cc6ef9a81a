"""Reads the text of a compiled XLA program: computations, instructions, replica groups, sources."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

import numpy as np

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\](?:\{([^}]*?)(?:S\((\d+)\))?\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")
_BITS = {"pred": 8, "token": 0, "opaque": 0, "tuple": 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line. `shape` is the text of its type, `rest` what follows the operands."""

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str
  is_root: bool

  def attribute(self, name: str) -> str | None:
    """The computation that `name=%x` tells: body, condition, calls, to_apply."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
    return found.group(1) if found else None

  @property
  def cycles(self) -> int | None:
    found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
    return int(found.group(1)) if found else None

  @property
  def op_name(self) -> str:
    found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.rest)
    return found.group(1) if found else ""

  @property
  def index(self) -> int | None:
    """The place that a get-tuple-element takes."""
    found = re.search(r"\bindex=(\d+)", self.rest)
    return int(found.group(1)) if found else None

  @property
  def target(self) -> str:
    """What a custom-call calls."""
    found = re.search(r'custom_call_target="([^"]*)"', self.rest)
    return found.group(1) if found else ""

  @property
  def chain(self) -> str | None:
    """What the parts of an asynchronous collective that is spread over fusions share."""
    found = re.search(r'chain_id="(\w+)"', self.rest)
    return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Array:
  """layout: the text of it, as "1,0:T(8,128)(2,1)": axes from the innermost on, and the tile."""

  dtype: str
  dims: tuple[int, ...]
  space: int  # 0 is HBM, 1 VMEM
  layout: str = ""

  @property
  def num_bytes(self) -> int:
    return math.prod(self.dims) * self._bits // 8

  @property
  def padded_bytes(self) -> int:
    """What it takes up: the innermost axes in whole tiles."""
    found = re.match(r"([\d,]+):T\(([\d,]+)\)", self.layout)
    if not found:
      return self.num_bytes
    order, tile = (tuple(map(int, found.group(n).split(","))) for n in (1, 2))
    sizes = [self.dims[axis] for axis in order]
    for place, size in enumerate(tile[::-1][: len(sizes)]):
      sizes[place] = -(-sizes[place] // size) * size
    return math.prod(sizes) * self._bits // 8

  @property
  def _bits(self) -> int:
    bits = _BITS.get(self.dtype)
    return int(re.search(r"\d+", self.dtype).group()) if bits is None else bits


def arrays(shape: str) -> list[Array]:
  """Every array of a type, tuples flattened."""
  return [
    Array(dtype, tuple(map(int, dims.split(","))) if dims else (), int(space or 0), layout)
    for dtype, dims, layout, space in _ARRAY.findall(shape)
  ]


def num_bytes(shape: str) -> int:
  return sum(array.num_bytes for array in arrays(shape))


@dataclasses.dataclass(frozen=True)
class Module:
  """computations: instructions in the order of the schedule, by name. entry: its name."""

  computations: dict[str, list[Instruction]]
  entry: str
  text: str = dataclasses.field(repr=False, default="")

  @functools.cached_property
  def frames(self) -> dict[int, str]:
    """ "file:line" of each stack frame, innermost."""
    return _read_frames(self.text)

  @functools.cached_property
  def bodies(self) -> frozenset[str]:
    """Names of the computations that are bodies of loops."""
    loops = (i for each in self.computations.values() for i in each if i.opcode == "while")
    return frozenset(loop.attribute("body") or "" for loop in loops)

  def source(self, instruction: Instruction) -> str:
    """ "file:line" of what it was made of, "" where the compiler lost it."""
    found = re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.rest)
    if found:
      return f"{found.group(1)}:{found.group(2)}"
    found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
    return self.frames.get(int(found.group(1)), "") if found else ""


def parse(text: str) -> Module:
  """Parses `compiled.as_text()`.

  Raises:
    ValueError: if there is no entry computation.
  """
  computations: dict[str, list[Instruction]] = {}
  entry, current = "", None
  for line in text.splitlines():
    if not line.startswith(" "):
      found = _COMPUTATION.match(line)
      current = computations.setdefault(found.group(2), []) if found else None
      if found and found.group(1):
        entry = found.group(2)
    elif current is not None:
      instruction = _parse_line(line)
      if instruction:
        current.append(instruction)
  if not entry:
    raise ValueError("no ENTRY computation: this is not the text of an HLO module")
  return Module(computations, entry, text)


def _parse_line(line: str) -> Instruction | None:
  found = _NAME.match(line)
  if not found:
    return None
  text = line[found.end() :]
  end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
  shape, text = text[:end], text[end:].lstrip()
  start = text.find("(")
  if start < 0:
    return None
  end = _closing(text, start)
  inside = text[start + 1 : end]
  operands = tuple(_OPERAND.findall(inside)) or ((inside,) if inside else ())
  is_root, name = bool(found.group(1)), found.group(2)
  return Instruction(name, shape, text[:start], operands, text[end + 1 :], is_root)


def _closing(text: str, start: int) -> int:
  """Index of the parenthesis that closes the one at `start`."""
  depth = 0
  for index in range(start, len(text)):
    depth += (text[index] == "(") - (text[index] == ")")
    if not depth:
      return index
  return len(text) - 1


def _read_frames(text: str) -> dict[int, str]:
  files, places, frames = {}, {}, {}
  section = ""
  for line in text.splitlines():
    if line.startswith(("%", "ENTRY")):
      break
    if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
      section = line
    elif section == "FileNames" and (found := re.match(r'(\d+) "(.*)"', line)):
      files[found.group(1)] = found.group(2)
    elif section == "FileLocations" and (
      found := re.match(r"(\d+) \{file_name_id=(\d+) .*?\bline=(\d+)", line)
    ):
      places[found.group(1)] = f"{files.get(found.group(2), '')}:{found.group(3)}"
    elif section == "StackFrames" and (found := re.match(r"(\d+) \{file_location_id=(\d+)", line)):
      frames[int(found.group(1))] = places.get(found.group(2), "")
  return frames


def replica_groups(rest: str, num_devices: int) -> np.ndarray:
  """The groups of a collective, i32[groups, members]; all devices in one where none are told."""
  found = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest)
  if found:
    return _of_mesh(found.group(1), found.group(2))
  found = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest)
  if found:
    shape, dims = (tuple(map(int, found.group(n).split(","))) for n in (1, 2))
    ids = np.arange(math.prod(dims)).reshape(dims)
    if found.group(3):
      ids = ids.transpose(tuple(map(int, found.group(3).split(","))))
    return ids.reshape(shape)
  found = re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", rest)
  groups = re.findall(r"\{([\d,]+)\}", found.group(1)) if found else []
  if not groups:
    return np.arange(num_devices)[None]
  return np.array([[int(x) for x in group.split(",")] for group in groups])


def _of_mesh(sizes: str, axes: str) -> np.ndarray:
  """Example: "'a'=2,'b'=4" and "'b'" are the groups [[0, 1, 2, 3], [4, 5, 6, 7]]."""
  named = [(name, int(size)) for name, size in re.findall(r"'([^']*)'=(\d+)", sizes)]
  within = set(re.findall(r"'([^']*)'", axes))
  shape = [size for _, size in named]
  ids = np.arange(math.prod(shape)).reshape(shape)
  inner = [n for n, (name, _) in enumerate(named) if name in within]
  outer = [n for n in range(len(named)) if n not in inner]
  members = math.prod(shape[n] for n in inner)
  return ids.transpose(*outer, *inner).reshape(-1, members)


def source_target_pairs(rest: str) -> list[tuple[int, int]]:
  found = re.search(r"source_target_pairs=\{(.*?)\}\}", rest)
  pairs = re.findall(r"\{?(\d+),(\d+)", found.group(1)) if found else []
  return [(int(a), int(b)) for a, b in pairs]
