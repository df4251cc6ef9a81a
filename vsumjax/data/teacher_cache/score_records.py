"""The schema of a cache of scores, and of what is said about each token of texts beside them."""

from __future__ import annotations

import dataclasses

import numpy as np

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.schema import CacheIdentity
from vsumjax.data.teacher_cache.token_records import AnswerForm, CachedAnswer

_KINDS = {"": 1, token_records.TOPK: 2, token_records.SAMPLED: 3}  # by `text_kind`
# 16 score records are a few hundred bytes; of texts, which are a hundred times as long, four are
# read in a quarter of the time of 16.
_GROUP_SIZE, _TEXT_GROUP_SIZE = 16, 4


@dataclasses.dataclass(frozen=True)
class ScoreIdentity(CacheIdentity):
  """Whose scores a cache holds, and to what.

  Attributes:
    tokenizer_digest: `Tokenizer.digest`.
    prompt_digest: `prompt.prompt_digest`.
    window: N, segments an example.
    num_classes: C, logits a segment.
    text_kind: of the records of tokens, `topk` or `sampled`; "" in a cache without text.
    text_source: `teacher_digest` of the teacher that wrote the texts.
    text_tokens: Y, the most tokens of a text.
    text_entries: J, likeliest tokens or draws for each token of a text.
    text_temperature: T, of the distributions that entries, logsumexp and entropy are of.
    vocab_size: V, of the logits that these were made of.
  """

  tokenizer_digest: str
  prompt_digest: str
  window: int
  num_classes: int
  text_kind: str = ""
  text_source: str = ""
  text_tokens: int = 0
  text_entries: int = 0
  text_temperature: float = 1.0
  vocab_size: int = 0

  def __post_init__(self):
    if self.text_kind not in _KINDS:
      raise ValueError(f"text_kind {self.text_kind!r} is not one of {', '.join(_KINDS)}")
    if self.text_kind and not (
      0 < self.text_tokens <= token_records.MAX_TOKENS
      and 0 < self.vocab_size <= token_records.MAX_VOCAB_SIZE
      and self.text_entries > 0
      and self.text_temperature > 0
    ):
      raise ValueError(f"a text needs tokens, entries, a temperature and a vocabulary: {self}")

  @property
  def form(self) -> AnswerForm:
    """What its records have in common."""
    shape = (self.window, self.num_classes)
    return AnswerForm(shape, self.text_kind, self.text_tokens, self.text_entries, self.vocab_size)

  @property
  def kind(self) -> int:
    return _KINDS[self.text_kind]

  @property
  def size(self) -> int:
    return self.window * self.num_classes

  @property
  def group_size(self) -> int:
    return _TEXT_GROUP_SIZE if self.text_kind else _GROUP_SIZE

  def encode(self, answer: CachedAnswer) -> bytes:
    return token_records.encode_answer(answer, self.form)

  def decode(self, content: bytes) -> CachedAnswer:
    return token_records.decode_answer(content, self.form)

  def compared(self, answer: CachedAnswer) -> dict[str, np.ndarray]:
    compared = {"score logits": answer.score_logits}
    if answer.text is not None:
      compared |= {"logsumexp": answer.text.logsumexp, "entropy": answer.text.entropy}
    if self.text_kind == token_records.TOPK:
      compared["log probabilities"] = answer.text.values
    return compared
