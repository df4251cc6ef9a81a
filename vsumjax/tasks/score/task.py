"""The task `score`: its keys of a config, and its examples, batches, teachers and digests."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from vsumjax.contract import Task, TaskConfig, TeacherRef
from vsumjax.data import prompt
from vsumjax.data.prompt import PromptConfig
from vsumjax.data.sets import DataConfig, DataSet, DataSets
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer
from vsumjax.data.tokenizer import Tokenizer, load_tokenizer
from vsumjax.data.windows import WindowSource
from vsumjax.models.student import StudentConfig, VideoSummaryStudent
from vsumjax.ops import schedules
from vsumjax.tasks.score import spec
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig
from vsumjax.tasks.score.text_objective import TextObjective, build_text_objective
from vsumjax.types import Batch, InputError, TeacherTargets


@dataclasses.dataclass(frozen=True)
class ScoreConfig(TaskConfig):
  """The keys of scores.

  tokenizer: path of a SentencePiece .model file.
  """

  NAME: ClassVar[str] = "score"
  MODEL_KEYS: ClassVar[tuple[str, ...]] = ("model", "prompt")
  FREE_KEYS: ClassVar[str] = (
    r"tokenizer|model\.attention|data\.(sets\[\d+\]\.manifest|num_workers|num_threads|cache_bytes)"
    r"|objective\.teachers\[\d+\]\.(workdir|cache)"
  )
  FILES: ClassVar[dict[str, str]] = {"tokenizer.model": "tokenizer"}
  CACHE_SCHEMA: ClassVar[type] = ScoreIdentity

  tokenizer: str
  model: StudentConfig
  prompt: PromptConfig
  data: DataConfig
  objective: ObjectiveConfig

  def __post_init__(self) -> None:
    if self.model.img.image_size != self.prompt.image_size:
      raise InputError(
        f"prompt.image_size: {self.prompt.image_size} is not model.img.image_size, "
        f"{self.model.img.image_size}"
      )
    side, pooled = math.isqrt(self.model.img.num_patches), math.isqrt(self.prompt.tokens_per_frame)
    if pooled**2 != self.prompt.tokens_per_frame or side % pooled:
      raise InputError(
        f"prompt.tokens_per_frame: {self.prompt.tokens_per_frame} is not the square of a number "
        f"that divides {side}, the patches on a side of model.img"
      )
    if self.model.exits.prototypes != (self.objective.prototype_weight > 0):
      raise InputError(
        f"objective.prototype_weight: {self.objective.prototype_weight} with "
        f"model.exits.prototypes {self.model.exits.prototypes}; prototypes need a weight above 0 "
        "to learn, and without them there is nothing to weigh"
      )
    if len(self.objective.exit_weights) != len(self.model.exits.layers):
      raise InputError(
        f"objective.exit_weights: {len(self.objective.exit_weights)} weights for "
        f"{len(self.model.exits.layers)} exits (model.exits.layers)"
      )

  @property
  def train_split(self) -> str:
    return self.data.train_split

  @property
  def num_workers(self) -> int:
    return self.data.num_workers

  @property
  def num_threads(self) -> int:
    return self.data.num_threads

  @property
  def dtype(self) -> str:
    return self.model.dtype

  @property
  def pretrained(self) -> StudentConfig:
    return self.model

  def losses(self) -> str:
    return " + ".join(["cross entropy", *(f"KL to {t.name}" for t in self.objective.teachers)])

  def build(self) -> ScoreTask:
    """Loads the tokenizer.

    Raises:
      InputError: a tokenizer larger than the model's vocabulary, a prompt longer than its budget.
    """
    tokenizer = load_tokenizer(self.tokenizer)
    if tokenizer.vocab_size > self.model.llm.vocab_size:
      raise InputError(
        f"model.llm.vocab_size: {self.model.llm.vocab_size} is less than the "
        f"{tokenizer.vocab_size} pieces of {self.tokenizer}"
      )
    # A prompt that does not fit is refused here, and not when the first batch is made.
    nothing = prompt.SegmentText(said="", heard="")
    prompt.layout(self.prompt, tokenizer, "", [nothing] * self.prompt.window)
    score_ids = tuple(tokenizer.piece_id(token) for token in self.prompt.score_tokens)
    model = VideoSummaryStudent(
      self.model, self.prompt.tokens_per_frame, tokenizer.image_id, score_ids
    )
    return ScoreTask(self, tokenizer, model)


@dataclasses.dataclass(frozen=True)
class ScoreTask(Task):
  """Scores as one config has them.

  caches: of those teachers that have one, in the order of the config.
  text: what of the texts in these is trained.
  """

  config: ScoreConfig
  tokenizer: Tokenizer
  model: VideoSummaryStudent
  caches: tuple[CacheReader, ...] = ()
  text: TextObjective | None = None

  @property
  def learner(self) -> ScoreLearner:
    return ScoreLearner(self.model, self.config.objective, self.text)

  @functools.cached_property
  def data(self) -> DataSets:
    return DataSets(self.config.data.sets)

  @property
  def prompt_digest(self) -> str:
    return prompt.prompt_digest(self.config.prompt, self.tokenizer)

  @property
  def teachers(self) -> tuple[TeacherRef, ...]:
    return tuple(
      TeacherRef(each.name, each.workdir, each.cache, f"objective.teachers[{index}]")
      for index, each in enumerate(self.config.objective.teachers)
    )

  def digests(self) -> dict[str, str]:
    return {
      "prompt_digest": self.prompt_digest,
      "tokenizer_digest": self.tokenizer.digest,
    }

  def data_digests(self) -> dict[str, Any]:
    found: dict[str, Any] = {"manifest_digest": self.data.digest}
    if self.config.objective.trains_text:
      found["texts"] = [_text_fields(cache.identity) for cache in self.caches]
    return found

  def batch_spec(self, rows: int) -> Batch:
    identities = [cache.identity for cache in self.caches]
    if not self.config.objective.trains_text:
      num_cached = sum(bool(teacher.cache) for teacher in self.teachers)
      return spec.batch_spec(self.config.prompt, rows, [0] * num_cached)
    entries = [identity.text_entries for identity in identities]
    tokens = max((identity.text_tokens for identity in identities), default=0)
    return spec.batch_spec(self.config.prompt, rows, entries, tokens)

  def source(
    self, split: str, *, without: frozenset[str] = frozenset(), **kwargs: Any
  ) -> WindowSource:
    """The windows of a split, data set after data set.

    `without` comes on top of what the config leaves out; `kwargs` are those of `WindowSource`.
    """
    data = self.config.data
    return WindowSource(
      self.data.videos(split),
      self.config.prompt,
      self.tokenizer,
      without=frozenset(data.without) | without,
      cache_bytes=data.cache_bytes,
      **kwargs,
    )

  def over(self, manifests: Sequence[str]) -> ScoreTask:
    data = dataclasses.replace(self.config.data, sets=tuple(map(DataSet, manifests)))
    return dataclasses.replace(self, config=dataclasses.replace(self.config, data=data))

  def training_source(self) -> WindowSource:
    """The windows of the training split with their targets, and the texts that are trained."""
    data = self.config.data
    return self.source(
      data.train_split,
      targets=data.targets,
      teachers=self.caches,
      with_text=self.config.objective.trains_text,
      augment=data.augment,
      mixed=self.data.mixed(data.train_split),
      need_labels="" if self.config.objective.is_taught else "no teacher teaches this stage",
    )

  def validation_source(self) -> WindowSource:
    data = self.config.data
    return self.source(
      data.validation_split, targets=data.targets, need_labels="validation compares with labels"
    )

  def require_trainable(self) -> None:
    """Raises InputError for quantised weights without LoRA and for splits that share videos."""
    model = self.config.model
    if model.quantize and not model.lora.rank:
      raise InputError(
        f"model.quantize: {model.quantize!r} weights cannot be trained; set model.lora.rank "
        "above 0 to train adapters beside them, or model.quantize to ''"
      )
    self._require_held_out()

  def _require_held_out(self) -> None:
    """What is used to choose, or looked at on the way, is never what is measured in the end."""
    data = self.config.data
    if data.validation_split == data.test_split:
      raise InputError(
        f"data.validation_split: {data.validation_split!r} is data.test_split, too; hold out other "
        "videos for validation"
      )
    if data.test_split not in self.data.splits:
      return
    ids = [{v.id for v in self.data.videos(s)} for s in (data.validation_split, data.test_split)]
    if both := sorted(set.intersection(*ids)):
      more = f" and {len(both) - 3} more" if len(both) > 3 else ""
      raise InputError(
        f"data.validation_split: {data.validation_split!r} shares videos with data.test_split, "
        f"{data.test_split!r}: {', '.join(both[:3])}{more}; take them out of one of the two"
      )

  def require_same_reading(self, teacher: ScoreTask, where: str) -> None:
    for field, here, there in (
      ("tokenizer", self.tokenizer.digest, teacher.tokenizer.digest),
      ("prompt", self.prompt_digest, teacher.prompt_digest),
    ):
      if here != there:
        raise InputError(
          f"config.{field} is not that of {where} ({here} here, {there} there); a student must "
          "read what its teacher reads"
        )

  def require_same_examples(self, teacher: ScoreTask, where: str) -> None:
    here, there = self.config.data, teacher.config.data
    for field, of in (
      ("sets", lambda data: tuple(each.manifest for each in data.sets)),
      ("train_split", lambda data: data.train_split),
      ("without", lambda data: data.without),
    ):
      if of(here) != of(there):
        raise InputError(
          f"lacks examples of this stage: config.data.{field} is {of(here)!r} here and "
          f"{of(there)!r} in {where}"
        )

  def require_cached(self, teacher: TeacherRef) -> None:
    index = self.teachers.index(teacher)
    if not schedules.is_off(self.config.objective.teachers[index].text_weight):
      raise InputError(
        f"{teacher.key}.text_weight: a chain caches scores alone; write {teacher.cache} before, "
        "with launch/cache_teacher.py --text"
      )

  def taught_by(self, caches: Sequence[CacheReader]) -> ScoreTask:
    """Raises InputError for caches whose texts are not those that are to be trained."""
    text = build_text_objective(
      self.config.objective,
      [cache.identity for cache in caches],
      cap=self.config.model.llm.final_cap,
      vocab_size=self.config.model.llm.vocab_size,
    )
    return dataclasses.replace(self, caches=tuple(caches), text=text)

  def cache_identity(self, source: WindowSource, teacher_digest: str) -> ScoreIdentity:
    return ScoreIdentity(
      teacher_digest=teacher_digest,
      examples_digest=source.examples_digest,
      num_examples=len(source),
      tokenizer_digest=self.tokenizer.digest,
      prompt_digest=self.prompt_digest,
      window=self.config.prompt.window,
      num_classes=len(self.config.prompt.score_tokens),
    )

  def cached_answers(self, batch: Batch, said: TeacherTargets) -> list[CachedAnswer]:
    return [CachedAnswer(logits_NC) for logits_NC in said.score_logits[batch.example >= 0]]


def require_score(config: TaskConfig, what: str) -> ScoreConfig:
  """The config, if it is one of this task; else raises InputError: `what` is only for those."""
  if not isinstance(config, ScoreConfig):
    raise InputError(f"{what} is for the task {ScoreConfig.NAME!r}, and this is {config.NAME!r}")
  return config


def _text_fields(identity: ScoreIdentity) -> dict[str, Any]:
  """What of a cache's texts its teacher's digest does not tell."""
  fields = dataclasses.asdict(identity)
  return {name: value for name, value in fields.items() if name.startswith("text_")}
