"""Bytes of a text file as text: by its byte order mark, as UTF-8, or by a guess that is told."""

from __future__ import annotations

import codecs
import functools
import re
import sys

import charset_normalizer

from vsumjax.media import demux
from vsumjax.types import InputError

_MARKS = (  # that of UTF-32 begins as that of UTF-16 does
  (codecs.BOM_UTF8, "utf-8"),
  (codecs.BOM_UTF32_LE, "utf-32-le"),
  (codecs.BOM_UTF32_BE, "utf-32-be"),
  (codecs.BOM_UTF16_LE, "utf-16-le"),
  (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_USUAL = "cp1252"  # where several encodings give the same text


def decode(path: demux.Path, data: bytes) -> str:
  """The text of a file, with every line end as a newline.

  A byte order mark tells the encoding, else it is UTF-8, else what an XML declaration says, else it
  is guessed, and one line on standard error names the guess.

  Args:
    path: for messages only.

  Raises:
    InputError: the bytes are no text, or not in the encoding that their mark tells.
  """
  text = _decode(path, data)
  return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(path: demux.Path, data: bytes) -> str:
  for mark, encoding in _MARKS:
    if data.startswith(mark):
      return _decode_as(path, data.removeprefix(mark), encoding)
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b"\n") + 1
  if declared := _DECLARED.match(data):
    return _decode_as(path, data, declared[1].decode())
  match = charset_normalizer.from_bytes(data).best()
  if match is None:
    raise InputError(f"{path}:{line}: not UTF-8, and not text in an encoding that can be guessed")
  encoding = _USUAL if _USUAL in match.could_be_from_charset else match.encoding
  _tell(path, encoding)
  return str(match)


def _decode_as(path: demux.Path, data: bytes, encoding: str) -> str:
  try:
    return data.decode(encoding)
  except UnicodeDecodeError as error:
    line = data[: error.start].decode(encoding, errors="replace").count("\n") + 1
    name = encoding.removesuffix("-le").removesuffix("-be").upper()
    raise InputError(
      f"{path}:{line}: not {name}, as its beginning says; save it as UTF-8"
    ) from None
  except (LookupError, UnicodeError):
    raise InputError(f"{path}: no encoding is known as {encoding!r}; save it as UTF-8") from None


@functools.lru_cache(maxsize=1024)  # a run reads the same file more than once
def _tell(path: demux.Path, encoding: str) -> None:
  print(
    f"{path}: not UTF-8; read as {encoding}, which is a guess: save it as UTF-8 if it is wrong",
    file=sys.stderr,
  )
