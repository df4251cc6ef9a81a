"""SentencePiece tokenizers under Gemma's conventions, from a `.model` file or trained on a corpus.

Conventions (Gemma, and so PaliGemma): pad 0, eos 1, bos 2, unk 3; no space is put before the text
and none is dropped; every digit is its own piece; characters the vocabulary lacks become bytes.
PaliGemma adds location pieces `<loc0000>`, `<loc0001>`..., which this project uses as markers after
segments, and puts the image slot just behind the last piece.

As in big_vision, which trained PaliGemma, SentencePiece itself reads the file. The ids are those of
transformers' conversion of it, but for control pieces spelled in a text (text here, `<bos>` itself
there), U+2581 beside spaces, and runs of spaces longer than any piece.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

import sentencepiece

from vsumjax.host import files
from vsumjax.types import InputError

NEWLINE = "\n"
_SPACE = "\u2581"  # how SentencePiece spells a space
_DIGITS = "0123456789"
_SPECIAL_PIECES = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}
_LOG_ERRORS_ONLY = 2


def marker_piece(index: int) -> str:
  """The piece read after segment `index` of a window: `<loc0007>` for 7, as PaliGemma names it."""
  return f"<loc{index:04d}>"


class Tokenizer:
  """Text to ids and back. Picklable: a worker process reads the model from its file again.

  Two tokenizers are equal when their models are equal, wherever the files lie.

  Attributes:
    path: the `.model` file.
    digest: blake2b-16 hex of the file's bytes.
    vocab_size: number of pieces in the model.
    image_id: id of an image slot: `vocab_size`, as PaliGemma's `<image>` follows its last piece.
    pad_id, bos_id, eos_id: ids of the special pieces.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self.path = pathlib.Path(path)
    try:
      model_bytes = self.path.read_bytes()
    except OSError as error:
      raise InputError(
        f"{self.path}: cannot read the tokenizer: {error.strerror}; give a SentencePiece model"
      ) from error
    try:
      # An empty file gives a processor without a model.
      self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model_bytes or b" ")
    except RuntimeError as error:
      raise InputError(f"{self.path}: not a SentencePiece model; give a .model file") from error
    self.digest = hashlib.blake2b(model_bytes, digest_size=16).hexdigest()
    self.vocab_size = self._pieces.vocab_size()
    self.image_id = self.vocab_size
    self.pad_id = self.piece_id(_SPECIAL_PIECES["pad"])
    self.bos_id = self.piece_id(_SPECIAL_PIECES["bos"])
    self.eos_id = self.piece_id(_SPECIAL_PIECES["eos"])

  def encode(self, text: str) -> list[int]:
    """Ids of `text`. A symbol in it, as `<loc0000>` or a line break, becomes that symbol's id.

    `decode(encode(text)) == text` for any text without U+2581, which stands for a space.
    """
    return self._pieces.encode(text)

  def encode_plain(self, text: str) -> list[int]:
    """Ids of text somebody else wrote: nothing in it acts as a symbol.

    A symbol spelled out, as `<loc0000>` in a title, is taken apart into ordinary pieces: it still
    reads the same and marks nothing. A line break becomes a space.
    """
    ids = self.encode(text.replace(NEWLINE, " "))
    if "<" not in text:  # no symbol but the line break is spelled without it
      return ids
    return list(itertools.chain.from_iterable(map(self._taken_apart, ids)))

  def decode(self, ids: Sequence[int]) -> str:
    """The text of piece ids, special pieces left out. Drop image slots first: they are none."""
    return self._pieces.decode([int(i) for i in ids])

  def piece_id(self, piece: str) -> int:
    """The id of what must be one piece of the vocabulary; InputError if it is not."""
    index = self._pieces.piece_to_id(piece)
    if self._pieces.id_to_piece(index) != piece:
      raise InputError(
        f"{self.path}: the tokenizer has no single piece {piece!r}; use one that does"
      )
    return index

  def _taken_apart(self, index: int) -> list[int]:
    piece = self._pieces.id_to_piece(index)
    is_symbol = len(piece) > 1 and piece[0] == "<" and piece[-1] == ">"
    if not is_symbol or self._pieces.is_byte(index):
      return [index]
    return self.encode(piece[0]) + self.encode(piece[1:])

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Tokenizer) and self.digest == other.digest

  def __hash__(self) -> int:
    return hash(self.digest)

  def __reduce__(self):
    return _reload, (self.path.absolute(), self.digest)


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
  """Reads a SentencePiece `.model` file; InputError if it is missing, broken or unlike Gemma's."""
  return Tokenizer(path)


def train_tokenizer(
  texts: Iterable[str], path: str | os.PathLike[str], vocab_size: int, num_markers: int
) -> None:
  """Trains a byte-pair tokenizer and writes its `.model` file. The same texts give the same bytes.

  Args:
    texts: the corpus, a few sentences or more.
    path: the file to write. It appears whole or not at all.
    vocab_size: pieces to make at most; a small corpus may offer fewer. The model's count rules.
    num_markers: how many markers `<loc0000>`, `<loc0001>`... the vocabulary has.

  Raises:
    InputError: there is no text, or `vocab_size` is too small for the bytes, markers and digits.
  """
  lines = [line for text in texts for line in text.splitlines() if line.strip()]
  if not lines:
    raise InputError(f"{path}: no text to train a tokenizer on; give titles or transcripts")
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.Train(
      sentence_iterator=iter(lines),
      model_writer=model,
      **_trainer_options(lines, vocab_size, num_markers),
    )
  except RuntimeError as error:
    reason = " ".join(str(error).split())
    raise InputError(f"{path}: vocab_size {vocab_size} does not fit the texts: {reason}") from error
  files.write_atomically(path, model.getvalue())


def _trainer_options(lines: Sequence[str], vocab_size: int, num_markers: int) -> dict:
  """Gemma's choices where they are known, and what makes training repeatable and quiet."""
  specials = {}
  for index, (name, piece) in enumerate(_SPECIAL_PIECES.items()):
    specials |= {f"{name}_id": index, f"{name}_piece": piece}
  return {
    **specials,
    "model_type": "bpe",
    "vocab_size": vocab_size,
    "hard_vocab_limit": False,
    "character_coverage": 1.0,
    "byte_fallback": True,
    "split_digits": True,
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "normalization_rule_name": "identity",
    "user_defined_symbols": [NEWLINE, *map(marker_piece, range(num_markers))],
    # Score tokens and the space exist as pieces even where the corpus happens to lack them.
    "required_chars": _DIGITS + _SPACE,
    # Longer ones would be dropped without a word; the library asks for 10 at least.
    "max_sentence_length": max(10, *(len(line.encode()) for line in lines)),
    "num_threads": 1,
    "minloglevel": _LOG_ERRORS_ONLY,
  }


def _reload(path: pathlib.Path, digest: str) -> Tokenizer:
  tokenizer = Tokenizer(path)
  if tokenizer.digest != digest:
    raise InputError(f"{path}: the tokenizer changed while it was in use; start again")
  return tokenizer
