"""Metrics for TensorBoard: event files, written at once and without TensorFlow.

An event file is a sequence of records, each a protocol buffer `Event` between its length and its
checksums (TFRecord). Encoding the four fields that we need is a page of code; tensorboardX, which
does it too, imports torch where it is installed, and that takes as long as all else that a training
imports.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), bits reversed
_FIRST = b"brain.Event:2"  # by its first event TensorBoard knows the format
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types


class EventsFile:
  """One event file of a run in `folder`, beside those that earlier processes left."""

  def __init__(self, folder: Path, first_step: int) -> None:
    """What earlier files say of `first_step` and later ones, TensorBoard passes over."""
    folder.mkdir(parents=True, exist_ok=True)
    # The time in the name is in whole seconds: two processes may share it.
    started = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{first_step}"
    self._file = (folder / f"events.out.tfevents.{started}").open("wb")
    self._write(0, _field(3, _BYTES, _FIRST))
    is_start = _field(1, _VARINT, _varint(1))
    self._write(first_step, _field(7, _BYTES, is_start))

  def append(self, step: int, values: Mapping[str, float]) -> None:
    """Writes {name: value} of a step."""
    summary = b"".join(_field(1, _BYTES, _scalar(name, value)) for name, value in values.items())
    self._write(step, _field(5, _BYTES, summary))

  def close(self) -> None:
    self._file.close()

  def _write(self, step: int, content: bytes) -> None:
    now = struct.pack("<d", time.time())
    event = _field(1, _DOUBLE, now) + _field(2, _VARINT, _varint(step)) + content
    length = struct.pack("<Q", len(event))
    self._file.write(length + _checksum(length) + event + _checksum(event))
    self._file.flush()


def _scalar(name: str, value: float) -> bytes:
  with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
    as_float = np.asarray(value, "<f4").tobytes()
  return _field(1, _BYTES, name.encode()) + _field(2, _FLOAT, as_float)


def _field(number: int, wire_type: int, content: bytes) -> bytes:
  length = _varint(len(content)) if wire_type == _BYTES else b""
  return _varint(number << 3 | wire_type) + length + content


def _varint(value: int) -> bytes:
  """Seven bits a byte, the lowest first: 300 -> ac 02."""
  encoded = bytearray()
  while value > 0x7F:
    encoded.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*encoded, value])


def _checksum(data: bytes) -> bytes:
  """CRC-32C, rotated and shifted as TFRecord wants it."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
  crc ^= 0xFFFFFFFF
  return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_of_byte(byte: int) -> int:
  for _ in range(8):
    byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
  return byte


_TABLE = [_crc_of_byte(byte) for byte in range(256)]
