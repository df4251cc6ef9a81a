"""The safetensors format: 8 bytes of length, a JSON header, then the tensors' bytes.

Read and written by hand, because the reference library maps files into memory to read them and
needs every tensor in memory to write them. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsumjax.convert import tensors
from vsumjax.convert.tensors import FLOATS, LazyTensor
from vsumjax.types import InputError

_DTYPES = {"F32": FLOATS["float32"], "F16": FLOATS["float16"], "BF16": FLOATS["bfloat16"]}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
  """The tensors of a file, by name.

  Raises:
    InputError: naming the file and the tensor, if the file is cut off, its header is broken, or a
      tensor is not of floating point.
  """
  header, data_start = _read_header(path)
  data_bytes = tensors.file_size(path) - data_start
  found = {}
  for name, entry in header.items():
    if name != "__metadata__":
      found[name] = _open_tensor(path, name, entry, data_start, data_bytes)
  return found


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
  size = tensors.file_size(path)
  with path.open("rb") as file:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    data_start = _LENGTH_BYTES + length
    if size < _LENGTH_BYTES or length > _MAX_HEADER_BYTES:
      raise InputError(f"{path}: not a safetensors file")
    if data_start > size:
      raise InputError(
        f"{path}: its header of {length} bytes is cut off: the file has {size}; fetch it again"
      )
    content = file.read(length)
  try:
    header = json.loads(content)
  except ValueError as error:
    raise InputError(f"{path}: not a safetensors file: its header is not JSON: {error}") from error
  if not isinstance(header, dict):
    raise InputError(f"{path}: not a safetensors file: its header is not a table of tensors")
  return header, data_start


def _open_tensor(path: Path, name: str, entry: Any, data_start: int, data_bytes: int) -> LazyTensor:
  try:
    code, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    num_elements = math.prod(shape)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f"{path}: {name}: its entry in the header is broken: {entry}") from error
  if code not in _DTYPES:
    raise InputError(f"{path}: {name}: dtype {code} is not one of weights, {', '.join(_DTYPES)}")
  dtype = _DTYPES[code]
  if not 0 <= start <= stop or stop - start != num_elements * dtype.itemsize:
    raise InputError(
      f"{path}: {name}: {stop - start} bytes for {code}{list(shape)}; the header is broken"
    )
  if stop > data_bytes:
    raise InputError(
      f"{path}: {name}: the file is cut off {stop - data_bytes} bytes before the end of it; "
      "fetch it again"
    )
  read_bytes = tensors.file_reader(path, data_start + start)
  return tensors.from_bytes(path, name, shape, dtype, read_bytes)


def write_safetensors(
  path: Path, content: Mapping[str, LazyTensor], on_bytes: Callable[[int], None]
) -> None:
  """Writes a file tensor by tensor, as `open_safetensors` and the reference library read it.

  Args:
    path: a new file.
    content: tensors by the names they get.
    on_bytes: called with the number of bytes written, block by block.
  """
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # `transformers` asks for it
  offset = 0
  for name, tensor in content.items():
    header[name] = {
      "dtype": _NAMES[tensor.dtype],
      "shape": list(tensor.shape),
      "data_offsets": [offset, offset + tensor.nbytes],
    }
    offset += tensor.nbytes
  encoded = json.dumps(header, separators=(",", ":")).encode()
  encoded += b" " * (-len(encoded) % _LENGTH_BYTES)  # tensors start aligned
  with path.open("wb") as file:
    file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
    for tensor in content.values():
      tensors.write_blocks(file, tensor, on_bytes)
