"""Views of tensors in files, read piece by piece: a checkpoint is never in memory as a whole.

A `LazyTensor` reads a region of itself. The functions below make one of others: `stacked` puts
layers on a leading axis, `part` takes one of them out again, `mapped` transposes and reshapes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from vsumjax.types import InputError

Region = tuple[slice, ...]  # start and stop for some of the leading axes; the others are whole

BLOCK_BYTES = 64 * 2**20
FLOATS = {
  name: np.dtype(dtype)
  for name, dtype in (
    ("float32", np.float32),
    ("float16", np.float16),
    ("bfloat16", ml_dtypes.bfloat16),
  )
}


@dataclasses.dataclass(frozen=True)
class LazyTensor:
  """A tensor in a file.

  Attributes:
    name: what the file calls it.
    shape: of the whole.
    dtype: of what `read` returns; one of `FLOATS`.
    source: the file, for messages.
    read: region -> array of that region's shape.
    split_axes: how many of the leading axes can be read in parts at the cost of the parts.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  source: str
  read: Callable[[Region], np.ndarray]
  split_axes: int

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    return self.size * self.dtype.itemsize

  @property
  def ndim(self) -> int:
    return len(self.shape)

  def array(self) -> np.ndarray:
    """All of it."""
    return self.read(())

  def describe(self) -> str:
    """For messages: file, name, dtype and shape."""
    return f"{self.source}: {self.name} ({self.dtype.name}{list(self.shape)})"


def full(region: Region, shape: Sequence[int]) -> Region:
  """The region with a slice for every axis and every stop in range.

  Example: full((slice(1, None),), (3, 4)) is (slice(1, 3), slice(0, 4)).
  """
  spans = [part.indices(size)[:2] for part, size in zip(region, shape, strict=False)]
  spans += [(0, size) for size in shape[len(region) :]]
  return tuple(slice(start, stop) for start, stop in spans)


def blocks(tensor: LazyTensor) -> Iterator[Region]:
  """Regions that cover the tensor in the order of its bytes, of about BLOCK_BYTES if it splits.

  At least one entry of the leading axis lies in each: of a stacked tensor, a layer.
  """
  if not tensor.split_axes or not tensor.size:
    yield ()
    return
  rows = max(1, BLOCK_BYTES * tensor.shape[0] // tensor.nbytes)
  for start in range(0, tensor.shape[0], rows):
    yield (slice(start, min(start + rows, tensor.shape[0])),)


def from_bytes(
  path: Path,
  name: str,
  shape: tuple[int, ...],
  dtype: np.dtype,
  read_bytes: Callable[[int, int], bytes],
) -> LazyTensor:
  """A tensor whose elements lie one after the other in C order.

  Args:
    path: for messages.
    name, shape, dtype: of the tensor.
    read_bytes: (offset into the tensor, how many) -> these bytes, or fewer where the file ends.
  """

  def read(region: Region) -> np.ndarray:
    spans = full(region, shape)
    # What is contiguous: one index of some leading axes, then a range of the next.
    axis = next((i for i, s in enumerate(spans) if s.stop - s.start != 1), len(shape))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    start = sum(s.start * stride for s, stride in zip(spans, strides[: axis + 1], strict=False))
    inner = tuple(s.stop - s.start for s in spans[: axis + 1]) + shape[axis + 1 :]
    count = math.prod(inner) * dtype.itemsize
    content = read_bytes(start * dtype.itemsize, count)
    if len(content) != count:
      raise InputError(f"{path}: {name}: the file ends in the middle of it; fetch it again")
    array = np.frombuffer(content, dtype).reshape(inner)
    return array[(slice(None),) * (axis + 1) + spans[axis + 1 :]]

  return LazyTensor(name, shape, dtype, str(path), read, len(shape))


def file_reader(path: Path, offset: int) -> Callable[[int, int], bytes]:
  """`read_bytes` of `from_bytes` for a tensor that starts at `offset` of a file.

  The file is read and not mapped: mapped pages would count as memory of the process.
  """

  def read_bytes(start: int, count: int) -> bytes:
    content = bytearray(count)
    view = memoryview(content)
    with path.open("rb", buffering=0) as file:
      file.seek(offset + start)
      while view and (num_read := file.readinto(view)):
        view = view[num_read:]
    return content[: count - len(view)] if view else content

  return read_bytes


def stacked(name: str, tensors: Sequence[LazyTensor]) -> LazyTensor:
  """[...] of each of L tensors -> [L, ...]. They have one shape and dtype."""
  first = tensors[0]
  for tensor in tensors[1:]:
    if (tensor.shape, tensor.dtype) != (first.shape, first.dtype):
      raise InputError(f"{tensor.describe()} is unlike {first.describe()}")
  shape = (len(tensors), *first.shape)

  def read(region: Region) -> np.ndarray:
    layers, *inner = full(region, shape)
    spans = [s.stop - s.start for s in (layers, *inner)]
    out = np.empty(spans, first.dtype)
    for row, tensor in zip(out, tensors[layers], strict=True):
      row[...] = tensor.read(tuple(inner))
    return out

  split_axes = 1 + min(tensor.split_axes for tensor in tensors)
  return LazyTensor(name, shape, first.dtype, first.source, read, split_axes)


def part(tensor: LazyTensor, name: str, *index: int) -> LazyTensor:
  """[L, ...] -> [...]: what lies at an index of the leading axes."""
  lead = tuple(slice(i, i + 1) for i in index)

  def read(region: Region) -> np.ndarray:
    return tensor.read((*lead, *region))[(0,) * len(index)]

  split_axes = max(0, tensor.split_axes - len(index))
  shape = tensor.shape[len(index) :]
  return dataclasses.replace(tensor, name=name, shape=shape, read=read, split_axes=split_axes)


def mapped(
  tensor: LazyTensor, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]
) -> LazyTensor:
  """The tensor under a function of the whole array, which gives `shape` and the same dtype."""

  def read(region: Region) -> np.ndarray:
    return function(tensor.array())[full(region, shape)]

  return dataclasses.replace(tensor, shape=shape, read=read, split_axes=0)


def cast(tensor: LazyTensor, dtype: np.dtype) -> LazyTensor:
  """The tensor rounded to another dtype."""
  if tensor.dtype == dtype:
    return tensor

  def read(region: Region) -> np.ndarray:
    return tensor.read(region).astype(dtype)

  return dataclasses.replace(tensor, dtype=dtype, read=read)


def extended(tensor: LazyTensor, rows: np.ndarray) -> LazyTensor:
  """The tensor with more rows at the end of its leading axis."""
  size = tensor.shape[0]
  shape = (size + len(rows), *tensor.shape[1:])

  def read(region: Region) -> np.ndarray:
    first, *inner = full(region, shape)
    own = tensor.read((slice(min(first.start, size), min(first.stop, size)), *inner))
    new = rows[max(first.start - size, 0) : max(first.stop - size, 0)]
    new = new[(slice(None), *inner)]
    return np.concatenate([own, new.astype(tensor.dtype)])

  return dataclasses.replace(tensor, shape=shape, read=read)


def write_blocks(file: object, tensor: LazyTensor, on_bytes: Callable[[int], None]) -> None:
  """Writes a tensor's elements to an open binary file, a block at a time.

  Args:
    file: has `write`.
    tensor: what to write, in C order.
    on_bytes: called with the number of bytes after every block.
  """
  for region in blocks(tensor):
    content = np.ascontiguousarray(tensor.read(region))
    file.write(content.view(np.uint8).reshape(-1).data)
    on_bytes(content.nbytes)


def file_size(path: Path) -> int:
  """Bytes of a file; InputError if it cannot be read."""
  try:
    return path.stat().st_size
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from error
