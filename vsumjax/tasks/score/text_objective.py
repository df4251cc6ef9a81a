"""The terms of a text: cross entropy of its tokens, and KL to what teachers say about each.

  text_weight · CE + Σ_t text_weight_t · KL_t            (means over the tokens of the batch)

They stand beside the score terms of `objective` and are normalised by themselves: their sums are
divided by the tokens of the batch, those of scores by its segments. So neither the length of texts
nor a batch in which few segments have labels changes how one weighs against the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.ops import schedules, vocab_losses
from vsumjax.ops.losses import Pair
from vsumjax.ops.schedules import Schedule
from vsumjax.tasks.score.objective import ObjectiveConfig, TeacherConfig
from vsumjax.types import Batch, InputError, StudentOutput

_WRITE_TEXTS = "write one that does with launch/cache_teacher.py --text"

_KL_LOSSES: Mapping[str, Callable[..., Pair]] = {
  token_records.TOPK: vocab_losses.topk_kl_loss,
  token_records.SAMPLED: vocab_losses.sampled_kl_loss,
}


@dataclasses.dataclass(frozen=True)
class TextTeacher:
  """One teacher of texts.

  index: of its entry in `Batch.teachers`.
  kind: of its records, `topk` or `sampled`.
  """

  name: str
  index: int
  kind: str
  weight: Schedule
  temperature: float


@dataclasses.dataclass(frozen=True)
class TextObjective:
  """What of a text is trained.

  ce_weight: of the cross entropy of its tokens.
  cap: the soft cap of the student's LM head.
  """

  ce_weight: Schedule
  teachers: tuple[TextTeacher, ...]
  cap: float


def build_text_objective(
  config: ObjectiveConfig, caches: Sequence[ScoreIdentity], *, cap: float, vocab_size: int
) -> TextObjective | None:
  """The text terms of a config; None if it asks for none.

  Args:
    config: its `text_weight` and those of its teachers.
    caches: of those teachers that have one, in their order.
    cap, vocab_size: of the student's LM head.

  Raises:
    InputError: a weight of a text that no cache holds, another temperature or vocabulary than that
      of the cache; by key.
  """
  if not config.trains_text:
    return None
  teachers, remaining = [], iter(caches)
  for index, teacher in enumerate(config.teachers):
    cache = next(remaining) if teacher.cache else None
    if not schedules.is_off(teacher.text_weight):
      _require_fit(f"objective.teachers[{index}]", teacher, cache, vocab_size)
      kind, weight, temperature = cache.text_kind, teacher.text_weight, cache.text_temperature
      teachers.append(TextTeacher(teacher.name, index, kind, weight, temperature))
  if not any(cache.text_kind for cache in caches):
    raise InputError(f"objective.text_weight: no teacher's cache holds texts; {_WRITE_TEXTS}")
  return TextObjective(config.text_weight, tuple(teachers), cap)


def _require_fit(
  key: str, teacher: TeacherConfig, cache: ScoreIdentity | None, vocab_size: int
) -> None:
  if cache is None:
    raise InputError(f"{key}.text_weight: a teacher without a cache has no texts; {_WRITE_TEXTS}")
  if not cache.text_kind:
    raise InputError(f"{key}.text_weight: {teacher.cache} holds no texts; {_WRITE_TEXTS}")
  if teacher.temperature != cache.text_temperature:
    raise InputError(
      f"{key}.temperature: {teacher.temperature}, but text_temperature is {cache.text_temperature} "
      f"in {teacher.cache}; use that, or write another cache with --temperature"
    )
  if vocab_size != cache.vocab_size:
    raise InputError(
      f"model.llm.vocab_size: {vocab_size}, but vocab_size is {cache.vocab_size} in "
      f"{teacher.cache}; teacher and student need the same vocabulary"
    )


def add_text(
  objective: TextObjective,
  scores: tuple[Pair, dict[str, Pair]],
  output: StudentOutput,
  params: Any,
  batch: Batch,
  progress: jax.Array | float,
  scale: jax.Array | float,
) -> tuple[Pair, dict[str, Pair]]:
  """What `compute_loss` says of the scores, with the terms of the text.

  Args:
    objective: of the text.
    scores: the loss as (sum, segments), and its terms.
    output: of the student.
    params: of the student.
    batch: a batch or a part of one.
    progress: share of the run that is done, for schedules.
    scale: segments / tokens of the whole batch: sum / segments is then the sum of both means.
  """
  (total, segments), metrics = scores
  embedding_VD = params["llm"]["embedder"]["input_embedding"]
  terms = text_terms(objective, output, embedding_VD, batch)
  weights = {"text_ce": objective.ce_weight}
  weights |= {f"text_kl_{teacher.name}": teacher.weight for teacher in objective.teachers}
  text = sum(schedules.value_at(weights[name], progress) * term[0] for name, term in terms.items())
  loss = (total + scale * text, segments)
  return loss, metrics | terms | {"loss": loss}


def text_terms(
  objective: TextObjective, output: StudentOutput, embedding_VD: jax.Array, batch: Batch
) -> dict[str, Pair]:
  """(sum, tokens) of `text_ce`, if it weighs anything, and of each teacher's `text_kl_NAME`.

  KL is KL(teacher ‖ student) at the temperature of the cache, times its square. Nothing of shape
  [B, Y, V] exists: see `vocab_head`.

  Args:
    objective: of the terms.
    output: of the student, with `text_hidden`.
    embedding_VD: the embedding of its vocabulary, tied with the LM head.
    batch: with `text`, and `tokens` of the teachers of the objective.
  """
  hidden_BYD, text = output.text_hidden, batch.text
  terms = {}
  if not schedules.is_off(objective.ce_weight):
    terms["text_ce"] = vocab_losses.token_cross_entropy_loss(
      hidden_BYD, embedding_VD, text.ids, text.weight, cap=objective.cap
    )
  for teacher in objective.teachers:
    terms[f"text_kl_{teacher.name}"] = _KL_LOSSES[teacher.kind](
      hidden_BYD,
      embedding_VD,
      batch.teachers[teacher.index].tokens,
      text.weight,
      cap=objective.cap,
      temperature=teacher.temperature,
    )
  return terms
