"""big_vision's `.npz` files: a zip archive of `.npy` members, one a leaf of the parameter tree.

bfloat16 has no name in NumPy's format; big_vision leaves it as void of two bytes, `|V2`.
"""

from __future__ import annotations

import dataclasses
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from vsumjax.convert import sidecar, tensors, weights
from vsumjax.convert.tensors import FLOATS, LazyTensor
from vsumjax.convert.weights import Facts, Weights
from vsumjax.models import families
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

_PREFIX = "params/"
_BFLOAT16 = np.dtype("V2")
_LOCAL_HEADER_BYTES = 30  # and then, at byte 26 of it, the lengths of name and extra field
_DEFLATED_BYTES = 2**20  # read at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same weights give the same bytes


def open_npz(path: Path, config: StudentConfig | None) -> Weights:
  """Opens an archive; only headers are read.

  Args:
    path: the file.
    config: its architecture; None to know it by a sidecar or by the published shapes.

  Raises:
    InputError: naming file and tensor, if the archive is broken, or its tensors are not those of
      the config, or of no published model.
  """
  found, prefix = _open_members(path)
  facts: dict = {}
  beside = sidecar.read_sidecar(path)
  if beside and config is None:
    config, exits, facts = beside
    found |= exits
  config = config or _recognise(found, path)
  # The image slot follows the last piece; rows behind it, if any, fill the table up.
  image_token_id = min(families.VOCAB_SIZE, config.llm.vocab_size)
  facts = {"image_token_id": image_token_id} | facts
  facts |= {"origin": path.name, "npz": {"prefix": prefix}}
  return weights.check(Weights(config, found, Facts(**facts), {}, str(path)))


def _recognise(found: Mapping[str, LazyTensor], path: Path) -> StudentConfig:
  """The published model with these shapes; extra rows of the embedding are allowed."""
  kinds = ("llm/embedder/input_embedding", "llm/layers/mlp/linear", "img/pos_embedding")
  for name in kinds:
    if name not in found:
      raise InputError(f"{path}: no PaliGemma: it has no tensor {name}")
  shapes = [found[name].shape for name in kinds]
  for config in families.PALIGEMMA.values():
    llm, img = config.llm, config.img
    rows = shapes[0][0]
    known = [
      (rows, llm.width),
      (llm.depth, llm.mlp_dim, llm.width),
      (1, img.num_patches, img.width),
    ]
    if shapes == known and rows >= llm.vocab_size:
      return dataclasses.replace(config, llm=dataclasses.replace(llm, vocab_size=rows))
  described = ", ".join(found[name].describe() for name in kinds)
  raise InputError(f"{described}: of no published size; give --model NAME or --model-json FILE")


def _open_members(path: Path) -> tuple[dict[str, LazyTensor], str]:
  """Tensors by our path, and the prefix of their keys."""
  try:
    with zipfile.ZipFile(path) as archive:
      members = [_open_member(path, archive, info) for info in archive.infolist()]
  except zipfile.BadZipFile as error:
    raise InputError(f"{path}: not an npz archive, or cut off: {error}") from error
  prefix = _PREFIX if all(member.name.startswith(_PREFIX) for member in members) else ""
  return {member.name.removeprefix(prefix): member for member in members}, prefix


def _open_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> LazyTensor:
  name = info.filename.removesuffix(".npy")
  try:
    with archive.open(info) as member:
      shape, is_fortran, dtype = _read_npy_header(member)
      header_bytes = member.tell()
  except (ValueError, EOFError, NotImplementedError, RuntimeError) as error:
    raise InputError(f"{path}: {name}: no array of NumPy's: {error}") from error
  dtype = FLOATS["bfloat16"] if dtype == _BFLOAT16 else dtype
  if dtype not in FLOATS.values():
    raise InputError(f"{path}: {name}: dtype {dtype} is not one of weights, {', '.join(FLOATS)}")
  if info.compress_type == zipfile.ZIP_STORED:
    read_bytes = tensors.file_reader(path, _data_start(path, info) + header_bytes)
  else:
    read_bytes = _Inflated(path, info, header_bytes).read_bytes
  if not is_fortran:
    return tensors.from_bytes(path, name, shape, dtype, read_bytes)
  reverse = tensors.from_bytes(path, name, shape[::-1], dtype, read_bytes)
  return tensors.mapped(reverse, np.transpose, shape)


def _read_npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
  version = np.lib.format.read_magic(member)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(member)
  return np.lib.format.read_array_header_2_0(member)


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
  """Where a member's bytes begin; its local header may be longer than the directory says."""
  with path.open("rb") as file:
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
  return info.header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack_from("<HH", header, 26))


class _Inflated:
  """Reads a deflated member from front to back, and from the front again to go back.

  `zipfile`'s own stream would keep the file open for as long as the tensor lives.
  """

  def __init__(self, path: Path, info: zipfile.ZipInfo, offset: int) -> None:
    self._path, self._info, self._offset = path, info, offset
    self._data_start = _data_start(path, info)
    self._lock = threading.Lock()
    self._rewind()

  def read_bytes(self, start: int, count: int) -> bytes:
    start += self._offset
    with self._lock:
      try:
        if start < self._position:
          self._rewind()
        while gap := start - self._position:
          if not self._next(min(gap, tensors.BLOCK_BYTES)):
            return b""
        return self._next(count)
      except zlib.error as error:
        raise InputError(f"{self._path}: {self._info.filename}: broken: {error}") from error

  def _rewind(self) -> None:
    self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # zip keeps no header of zlib
    self._position = self._consumed = self._crc = 0

  def _next(self, count: int) -> bytes:
    """The next `count` bytes, or fewer at the end."""
    content = bytearray()
    with self._path.open("rb") as file:
      file.seek(self._data_start + self._consumed)
      while len(content) < count and not self._inflater.eof:
        chunk = self._inflater.unconsumed_tail or file.read(_DEFLATED_BYTES)
        if not chunk:
          break
        content += self._inflater.decompress(chunk, count - len(content))
      self._consumed = file.tell() - self._data_start
    self._position += len(content)
    self._crc = zlib.crc32(content, self._crc)
    if self._position == self._info.file_size and self._crc != self._info.CRC:
      raise InputError(f"{self._path}: {self._info.filename}: its checksum is wrong")
    return content


def write_npz(path: Path, ours: Weights, on_bytes: Callable[[int], None]) -> None:
  """Writes an archive, keys spelled as they came if they came from one.

  The exits are left to `sidecar`: big_vision's loader knows no such keys.
  """
  prefix = ours.facts.npz.get("prefix", _PREFIX)
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
    for name, tensor in sorted(ours.tower().items()):
      info = zipfile.ZipInfo(f"{prefix}{name}.npy", _EPOCH)
      with archive.open(info, "w", force_zip64=True) as member:
        is_bfloat16 = tensor.dtype == FLOATS["bfloat16"]
        descr = "|V2" if is_bfloat16 else np.lib.format.dtype_to_descr(tensor.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": tensor.shape}
        np.lib.format.write_array_header_1_0(member, header)
        tensors.write_blocks(member, tensor, on_bytes)


def needs_sidecar(ours: Weights) -> bool:
  """Whether an archive alone would not say all: no published size, exits, a trained prompt."""
  tower = dataclasses.replace(ours.config, exits=ExitsConfig((ours.config.llm.depth,)))
  published = any(
    (tower.img, tower.llm) == (known.img, known.llm) for known in families.PALIGEMMA.values()
  )
  return not published or bool(ours.exits() or ours.facts.score_ids)


def is_npz(path: Path) -> bool:
  """Whether a path is a file named like an archive, or one."""
  return path.is_file() and (path.suffix == ".npz" or zipfile.is_zipfile(path))
