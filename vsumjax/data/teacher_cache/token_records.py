"""What a teacher says about an example: entries made from its logits, all coded in few bytes.

Two kinds of entries stand for the distribution over a vocabulary of V tokens, both at the cache's
temperature T, that is for softmax(logits / T):

  topk     the J likeliest tokens with their log probabilities, normalised over the whole
           vocabulary. What is missing from 1 is the probability of all others together.
  sampled  J tokens drawn with replacement. Shares of the draws are an unbiased estimate of the
           distribution (2503.16870, with the distribution itself as the proposal).

Logsumexp and entropy are exact in both: of all V logits, computed in float32 with sums in float64.

An answer (little endian; y tokens of a text, U distinct ids in all of a `sampled` one):

  f32[N * C] score logits, and with a text:
  u16 y | f32[y] logsumexp | f32[y] entropy | ids[y] tokens
  topk:    ids[y * J], likeliest first | f16[y * J] log probabilities
  sampled: ids[U], ascending in a token | (J - 1) * y bits of counts

Ids take 18 bits: u16 of the low bits of each, then the high two bits of four ids a byte, the first
lowest. The counts c1 + c2 + ... = J of a token are J - 1 bits, one for each gap between draws: 1
where the next draw is another id. J = 5, counts (2, 1, 2): 0 1 1 0.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

TOPK, SAMPLED = "topk", "sampled"
KINDS = (TOPK, SAMPLED)
MAX_VOCAB_SIZE = 1 << 18
MAX_TOKENS = (1 << 16) - 1
_LENGTH = struct.Struct("<H")
_BLOCK = 512  # logits summed and searched at once; of 128 to 2,048 it is the fastest
_SHARE_TOLERANCE = 1e-3  # of a draw, of a share that was stored in float32


class Entries(NamedTuple):
  """A teacher's distribution at y places of a text.

  ids:       i32[y, J].
  values:    f32[y, J]. `topk`: log probabilities. `sampled`: shares of the J draws, which sum to 1;
    entries not used have id 0 and share 0.
  logsumexp: f32[y], of logits / temperature over the whole vocabulary.
  entropy:   f32[y], of the distribution, in nats.
  """

  ids: np.ndarray
  values: np.ndarray
  logsumexp: np.ndarray
  entropy: np.ndarray


class CachedText(NamedTuple):
  """A text and what its teacher says about each of its tokens: `CachedText(tokens, *entries)`.

  tokens: i32[y], the text itself; the others as in `Entries`.
  """

  tokens: np.ndarray
  ids: np.ndarray
  values: np.ndarray
  logsumexp: np.ndarray
  entropy: np.ndarray


class CachedAnswer(NamedTuple):
  """What a teacher says about an example.

  score_logits: f32[N, C].
  text: of y <= Y tokens, if the cache holds texts.
  """

  score_logits: np.ndarray
  text: CachedText | None = None


class AnswerForm(NamedTuple):
  """What all answers of a cache have in common.

  shape: (N, C) of the score logits.
  text_kind: one of `KINDS`, "" without text.
  text_tokens: Y.
  text_entries: J.
  vocab_size: V.
  """

  shape: tuple[int, int]
  text_kind: str
  text_tokens: int
  text_entries: int
  vocab_size: int


def top_entries(logits_yV: np.ndarray, num_entries: int, temperature: float) -> Entries:
  """The likeliest tokens at each place, likeliest first; of equal ones the lower id.

  Args:
    logits_yV: float[y, V].
    num_entries: J <= V.
    temperature: T > 0.

  Raises:
    ValueError: a logit that is not finite, or more entries than tokens.
  """
  if not 0 < num_entries <= logits_yV.shape[1]:
    raise ValueError(f"{num_entries} entries of a vocabulary of {logits_yV.shape[1]}")
  rows = []
  for row_V in logits_yV:
    shifted_V, peak = _shifted(row_V, temperature)
    _, log_total, entropy = _normalised(shifted_V)
    ids_J = _likeliest(shifted_V, num_entries)
    rows.append((ids_J, shifted_V[ids_J] - np.float32(log_total), peak + log_total, entropy))
  return _stacked(rows, num_entries)


def sample_entries(
  logits_yV: np.ndarray, num_draws: int, temperature: float, rng: np.random.Generator
) -> Entries:
  """Draws at each place, with replacement; ids ascend.

  Args:
    logits_yV: float[y, V].
    num_draws: J.
    temperature: T > 0.
    rng: `draw_rng` of the example, so that a restart draws the same.

  Raises:
    ValueError: a logit that is not finite.
  """
  if num_draws < 1:
    raise ValueError(f"{num_draws} draws")
  rows = []
  for row_V, uniform_J in zip(logits_yV, rng.random((len(logits_yV), num_draws)), strict=True):
    shifted_V, peak = _shifted(row_V, temperature)
    weights_V, log_total, entropy = _normalised(shifted_V)
    found, counts = np.unique(_draw(weights_V, uniform_J), return_counts=True)
    unused = (0, num_draws - len(found))
    shares = np.pad(counts / num_draws, unused)
    rows.append((np.pad(found, unused), shares, peak + log_total, entropy))
  return _stacked(rows, num_draws)


def draw_rng(key: bytes) -> np.random.Generator:
  """The generator that an example's draws come from, by its key in the cache."""
  return np.random.default_rng(int.from_bytes(key, "little"))


def _stacked(rows: list[tuple], num_entries: int) -> Entries:
  ids, values, logsumexp, entropy = zip(*rows, strict=True) if rows else ((), (), (), ())
  shape = (len(rows), num_entries)
  return Entries(
    np.array(ids, np.int32).reshape(shape),
    np.array(values, np.float32).reshape(shape),
    np.array(logsumexp, np.float32),
    np.array(entropy, np.float32),
  )


def _shifted(logits_V: np.ndarray, temperature: float) -> tuple[np.ndarray, float]:
  """f32[V], logits / temperature less their maximum, and the maximum."""
  if not temperature > 0:
    raise ValueError(f"a temperature of {temperature}")
  scaled_V = logits_V.astype(np.float32) / np.float32(temperature)
  peak = scaled_V.max()
  if not np.isfinite([peak, scaled_V.min()]).all():
    raise ValueError("the logits are not finite")
  return scaled_V - peak, float(peak)


def _normalised(shifted_V: np.ndarray) -> tuple[np.ndarray, float, float]:
  """exp(s), log Σ exp(s) and the entropy, log Σ exp(s) - Σ s exp(s) / Σ exp(s)."""
  weights_V = np.exp(shifted_V)
  total = weights_V.sum(dtype=np.float64)
  mean = (shifted_V * weights_V).sum(dtype=np.float64) / total
  return weights_V, float(np.log(total)), float(np.log(total) - mean)


def _likeliest(shifted_V: np.ndarray, num_entries: int) -> np.ndarray:
  """Ids of the largest values, largest first.

  The J-th largest of the blocks' largest values is a bound that at least J values reach, and few
  more do: only these are sorted.
  """
  largest = np.maximum.reduceat(shifted_V, np.arange(0, len(shifted_V), _BLOCK))
  candidates = np.arange(len(shifted_V))
  if num_entries <= len(largest):
    bound = np.partition(largest, -num_entries)[-num_entries]
    candidates = np.flatnonzero(shifted_V >= bound)
  order = np.argsort(-shifted_V[candidates], kind="stable")
  return candidates[order[:num_entries]]


def _draw(weights_V: np.ndarray, uniform_J: np.ndarray) -> np.ndarray:
  """Ids by inversion of the cumulated weights: first the block, then the place in it."""
  starts = np.arange(0, len(weights_V), _BLOCK)
  cumulated = np.cumsum(np.add.reduceat(weights_V, starts, dtype=np.float64))
  target_J = uniform_J * cumulated[-1]
  block_J = np.searchsorted(cumulated, target_J, side="right")
  before_J = np.where(block_J, cumulated[block_J - 1], 0.0)
  # Behind the last id: a weight of 0, which is never drawn.
  place = np.minimum(starts[block_J][:, None] + np.arange(_BLOCK), len(weights_V))
  within = np.cumsum(np.append(weights_V, np.float32(0))[place], axis=1, dtype=np.float64)
  # Sums in another order differ in the last bit: the target stays below the end of its block.
  rest_J = np.minimum(target_J - before_J, np.nextafter(within[:, -1], 0))
  return starts[block_J] + (within <= rest_J[:, None]).sum(axis=1)


def encode_answer(answer: CachedAnswer, form: AnswerForm) -> bytes:
  """The bytes of an answer.

  Raises:
    ValueError: logits that are not finite, a text too many or too few, arrays of other shapes, ids
      beyond the vocabulary, or shares that are not of J draws.
  """
  logits_NC, text = answer
  if logits_NC.shape != form.shape or not np.isfinite(logits_NC).all():
    raise ValueError(f"its logits are not finite or not of shape {form.shape}")
  if (text is not None) != bool(form.text_kind):
    raise ValueError(f"text_kind is {form.text_kind!r}, and the text is {text}")
  logits = logits_NC.astype("<f4").tobytes()
  return logits if text is None else logits + _encode_text(text, form)


def decode_answer(data: bytes, form: AnswerForm) -> CachedAnswer:
  """What `encode_answer` was given; log probabilities as float16 keeps them.

  Raises:
    ValueError: too few or too many bytes, or an id beyond the vocabulary.
  """
  size = 4 * form.shape[0] * form.shape[1]
  logits_NC = np.frombuffer(data[:size], "<f4").reshape(form.shape).astype(np.float32)
  if form.text_kind:
    return CachedAnswer(logits_NC, _decode_text(data[size:], form))
  if len(data) > size:
    raise ValueError(f"{len(data) - size} bytes too many")
  return CachedAnswer(logits_NC)


def _encode_text(text: CachedText, form: AnswerForm) -> bytes:
  y, J = len(text.tokens), form.text_entries
  shapes = [array.shape for array in text]
  if y > form.text_tokens or shapes != [(y,), (y, J), (y, J), (y,), (y,)]:
    raise ValueError(
      f"its text has arrays {shapes}, where Y is {form.text_tokens} and J is {form.text_entries}"
    )
  _require_ids(text, form.vocab_size)
  exact = np.stack([text.logsumexp, text.entropy]).astype("<f4")
  if not np.isfinite(exact).all():
    raise ValueError("logsumexp or entropy of its text is not finite")
  entries = _encode_top(text) if form.text_kind == TOPK else _encode_draws(text)
  return _LENGTH.pack(y) + exact.tobytes() + _pack_ids(text.tokens) + entries


def _decode_text(data: bytes, form: AnswerForm) -> CachedText:
  reader = _Bytes(data)
  y = int(reader.take("<u2", 1)[0])
  logsumexp, entropy = reader.take("<f4", 2 * y).reshape(2, y).astype(np.float32)
  tokens = reader.ids(y)
  decode = _decode_top if form.text_kind == TOPK else _decode_draws
  text = CachedText(tokens, *decode(reader, y, form.text_entries), logsumexp, entropy)
  if reader.num_left:
    raise ValueError(f"{reader.num_left} bytes too many")
  _require_ids(text, form.vocab_size)
  return text


def _require_ids(text: CachedText, vocab_size: int) -> None:
  lowest = min(text.tokens.min(initial=0), text.ids.min(initial=0))
  highest = max(text.tokens.max(initial=0), text.ids.max(initial=0))
  if lowest < 0 or highest >= vocab_size:
    raise ValueError(f"ids from {lowest} to {highest}, where the vocabulary has {vocab_size}")


def _encode_top(text: CachedText) -> bytes:
  values = text.values.ravel()
  if not (values <= 0).all():  # NaN, too
    raise ValueError("log probabilities above 0 or not a number")
  lowest = np.finfo(np.float16).min
  return _pack_ids(text.ids.ravel()) + np.maximum(values, lowest).astype("<f2").tobytes()


def _decode_top(reader: _Bytes, y: int, J: int) -> tuple[np.ndarray, np.ndarray]:
  ids = reader.ids(y * J).reshape(y, J)
  return ids, reader.take("<f2", y * J).astype(np.float32).reshape(y, J)


def _encode_draws(text: CachedText) -> bytes:
  y, J = text.ids.shape
  counts_yJ = np.rint(text.values * J)
  is_used_yJ = counts_yJ > 0
  if not (
    np.allclose(counts_yJ, text.values * J, rtol=0, atol=_SHARE_TOLERANCE)
    and (counts_yJ >= 0).all()
    and (counts_yJ.sum(axis=1) == J).all()
    and (is_used_yJ[:, :-1] >= is_used_yJ[:, 1:]).all()
  ):
    raise ValueError(f"values are not shares of {J} draws, those used first")
  # Draw number k of a token is the first of its id where the counts before it sum to k.
  is_first = np.zeros((y, J + 1), bool)
  np.put_along_axis(is_first, np.cumsum(counts_yJ, axis=1).astype(int), True, axis=1)
  return _pack_ids(text.ids[is_used_yJ]) + np.packbits(is_first[:, 1:J]).tobytes()


def _decode_draws(reader: _Bytes, y: int, J: int) -> tuple[np.ndarray, np.ndarray]:
  # The bits lie at the end, and say how many ids lie before them.
  num_bits = (J - 1) * y
  bits = np.unpackbits(reader.take_last(-(-num_bits // 8)), count=num_bits).reshape(y, J - 1)
  number_yJ = np.cumsum(np.pad(bits, ((0, 0), (1, 0))), axis=1, dtype=np.int64)  # of a draw's id
  number_yJ += J * np.arange(y)[:, None]
  counts_yJ = np.bincount(number_yJ.ravel(), minlength=y * J).reshape(y, J)
  is_used_yJ = counts_yJ > 0
  ids_yJ = np.zeros((y, J), np.int32)
  ids_yJ[is_used_yJ] = reader.ids(int(is_used_yJ.sum()))
  return ids_yJ, (counts_yJ / J).astype(np.float32)


def _pack_ids(ids: np.ndarray) -> bytes:
  ids = ids.astype(np.uint32)
  high = np.pad((ids >> 16).astype(np.uint8), (0, -len(ids) % 4)).reshape(-1, 4)
  packed = high << np.arange(0, 8, 2, dtype=np.uint8)
  return ids.astype("<u2").tobytes() + np.bitwise_or.reduce(packed, axis=1).tobytes()


class _Bytes:
  """What is left of a record, taken piece by piece."""

  def __init__(self, data: bytes):
    self._data = np.frombuffer(data, np.uint8)

  @property
  def num_left(self) -> int:
    return len(self._data)

  def take(self, dtype: str, count: int) -> np.ndarray:
    num_bytes = np.dtype(dtype).itemsize * count
    self._require(num_bytes)
    taken, self._data = self._data[:num_bytes], self._data[num_bytes:]
    return taken.view(dtype)

  def take_last(self, num_bytes: int) -> np.ndarray:
    self._require(num_bytes)
    cut = self.num_left - num_bytes
    self._data, taken = self._data[:cut], self._data[cut:]
    return taken

  def ids(self, count: int) -> np.ndarray:
    low = self.take("<u2", count).astype(np.int32)
    packed = self.take("u1", -(-count // 4))
    high = (packed[:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
    return low | high.ravel()[:count].astype(np.int32) << 16

  def _require(self, num_bytes: int) -> None:
    if num_bytes > self.num_left:
      raise ValueError(f"{self.num_left} bytes where {num_bytes} belong")
