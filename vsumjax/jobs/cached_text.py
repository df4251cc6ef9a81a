"""What a teacher says about texts, for its cache: its own answers or those of another cache."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vsumjax.data.answers import with_text
from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import example_key
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText, Entries
from vsumjax.experiment.workdir import Student
from vsumjax.host.together import gather
from vsumjax.inference import force
from vsumjax.inference.generate import GenerateConfig, Generator
from vsumjax.types import Batch, InputError, StudentOutput

_ENTRIES = {token_records.TOPK: 128, token_records.SAMPLED: 12}


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """What is kept of texts.

  kind: of the records, "topk" or "sampled".
  entries: J, likeliest tokens or draws for each token; None is 128 of the one, 12 of the other.
  temperature: T, of the distributions.
  max_new_tokens: Y, of an answer, the end of text included; None is 64, or that of `texts_of`.
  texts_of: a cache whose texts are taken, so that several teachers speak of the same ones; None
    lets the teacher answer the prompts itself, with the likeliest token each time.
  """

  kind: str
  entries: int | None = None
  temperature: float = 1.0
  max_new_tokens: int | None = None
  texts_of: Path | None = None

  def __post_init__(self) -> None:
    if self.kind not in token_records.KINDS:
      known = ", ".join(token_records.KINDS)
      raise InputError(f"--text: must be one of {known}, is {self.kind!r}")
    for name, value in (("entries", self.entries), ("max-new-tokens", self.max_new_tokens)):
      if value is not None and not 1 <= value <= token_records.MAX_TOKENS:
        raise InputError(f"--{name}: {value} is not in 1 .. {token_records.MAX_TOKENS}")
    if not 0.01 <= self.temperature <= 100:  # logits divided by it must stay finite in float32
      raise InputError(f"--temperature: {self.temperature} is not in 0.01 .. 100")
    if self.texts_of and self.max_new_tokens:
      raise InputError("--max-new-tokens: the texts are there already, with --texts-of")


def text_config(kind: str | None, **options: Any) -> TextConfig | None:
  """The config of those of its options that are not None; None without a kind.

  Raises:
    InputError: options of texts without a kind, or one that makes no sense.
  """
  given = {name: value for name, value in options.items() if value is not None}
  if kind is not None:
    return TextConfig(kind, **given)
  if given:
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    raise InputError(f"{flags}: of texts, which need --text topk or --text sampled")
  return None


class TextTeacher:
  """A teacher that is asked for scores and about texts.

  Attributes:
    identity: of its cache.
    batch_size: rows at once, of all devices together.
  """

  def __init__(self, student: Student, scores: ScoreIdentity, config: TextConfig, batch_size: int):
    """Opens the cache of texts, if they come from one.

    Args:
      student: the teacher.
      scores: the identity of a cache of its scores alone.
      config: what is kept.
      batch_size: rows at once, at least.

    Raises:
      InputError: a cache of other examples or without texts, more entries than tokens.
    """
    vocab_size = student.task.config.model.llm.vocab_size
    self._student, self._reader = student, None
    self._scorer = student.scorer(batch_size)
    self.batch_size = self._scorer.batch_size
    source, num_tokens = scores.teacher_digest, config.max_new_tokens or 64
    if config.texts_of is not None:
      self._reader = _open_texts(config.texts_of, scores, vocab_size)
      source = self._reader.identity.text_source
      num_tokens = self._reader.identity.text_tokens
    self.identity = dataclasses.replace(
      scores,
      text_kind=config.kind,
      text_source=source,
      text_tokens=num_tokens,
      text_entries=config.entries or _ENTRIES[config.kind],
      text_temperature=config.temperature,
      vocab_size=vocab_size,
    )
    if config.kind == token_records.TOPK and self.identity.text_entries >= vocab_size:
      raise InputError(
        f"--entries: {self.identity.text_entries} must be less than the {vocab_size} tokens of "
        "model.llm.vocab_size, so that some are left for the rest"
      )

  def answers(self, batches: Iterator[Batch]) -> Iterator[list[CachedAnswer]]:
    """As `inference.teach.Teacher.answers`."""
    outputs = self._scorer.outputs(self._with_texts(batches))
    with contextlib.closing(outputs):
      for batch, output in outputs:
        yield self._answers_of(batch, output)

  def _with_texts(self, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches with the texts that the teacher is asked about."""
    if self._reader is not None:
      return self._read(batches, self._reader)
    tokenizer, scorer = self._student.task.tokenizer, self._scorer
    generator = Generator(
      scorer.model,
      scorer.params,
      scorer.mesh,
      scorer.rules,
      GenerateConfig(self.identity.text_tokens),
      eos_id=tokenizer.eos_id,
      pad_id=tokenizer.pad_id,
    )
    return force.generated(batches, generator, scorer)

  def _answers_of(self, batch: Batch, output: StudentOutput) -> list[CachedAnswer]:
    """What the teacher says of each example of a host batch with texts, padding rows left out.

    With several processes all must ask in step.
    """
    scorer = self._scorer
    is_text_BY = batch.text.weight > 0
    nowhere_0V = np.zeros((0, self.identity.vocab_size), np.float32)
    hidden_MD = output.text_hidden[is_text_BY]
    (num_calls,) = gather(-(-len(hidden_MD) // force.places_at_once(scorer)))
    logits = force.logits_at(scorer, hidden_MD, int(num_calls.max()))
    answers = []
    for row, example in enumerate(batch.example):
      tokens = batch.text.ids[row][is_text_BY[row]]
      entries_of = self._entries_of(int(example))
      said = [entries_of(nowhere_0V), *(entries_of(next(logits)[None]) for _ in tokens)]
      if example >= 0:
        entries = Entries(*map(np.concatenate, zip(*said, strict=True)))
        answers.append(CachedAnswer(output.logits[-1][row], CachedText(tokens, *entries)))
    return answers

  def _entries_of(self, example: int) -> Callable[[np.ndarray], Entries]:
    """Entries of one place after the other of an example's text, from f32[1, V]."""
    num_entries, temperature = self.identity.text_entries, self.identity.text_temperature
    if self.identity.text_kind == token_records.TOPK:
      return lambda logits_1V: token_records.top_entries(logits_1V, num_entries, temperature)
    # Two teachers of one example shall draw independently.
    key = example_key(self.identity.examples_digest, example)
    rng = token_records.draw_rng(self.identity.teacher_digest.encode() + key)
    return lambda logits_1V: token_records.sample_entries(logits_1V, num_entries, temperature, rng)

  def _read(self, batches: Iterator[Batch], reader: CacheReader) -> Iterator[Batch]:
    pad_id = self._student.task.tokenizer.pad_id
    with contextlib.closing(batches):
      for batch in batches:
        texts = [reader[i].text.tokens if i >= 0 else np.zeros(0, np.int32) for i in batch.example]
        ids_BY = np.full((len(texts), reader.identity.text_tokens), pad_id, np.int32)
        for row, tokens in enumerate(texts):
          ids_BY[row, : len(tokens)] = tokens
        yield with_text(batch, ids_BY, np.array([len(tokens) for tokens in texts]))


def _open_texts(folder: Path, scores: ScoreIdentity, vocab_size: int) -> CacheReader:
  same = ("tokenizer_digest", "prompt_digest", "examples_digest", "num_examples")
  reader = CacheReader(folder, {name: getattr(scores, name) for name in same})
  if not reader.identity.text_kind:
    raise InputError(f"--texts-of: {folder} holds no texts")
  reader.require({"vocab_size": vocab_size})
  return reader
