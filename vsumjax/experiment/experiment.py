"""The only wiring: config -> Experiment."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vsumjax import sharding
from vsumjax.data import prompt
from vsumjax.data.order import MixedOrder
from vsumjax.data.sets import DataSets
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.schema import CacheIdentity
from vsumjax.data.tokenizer import Tokenizer, load_tokenizer
from vsumjax.data.windows import WindowSource
from vsumjax.experiment.config import ExperimentConfig
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.training import state
from vsumjax.types import Batch, InputError, TeacherTargets, TextTargets, TokenTargets


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A config with the things it names."""

  config: ExperimentConfig
  tokenizer: Tokenizer
  model: VideoSummaryStudent
  mesh: Mesh

  @property
  def rules(self) -> sharding.LogicalRules:
    return self.config.rules

  @functools.cached_property
  def data(self) -> DataSets:
    return DataSets(self.config.data.sets)

  @property
  def prompt_digest(self) -> str:
    return prompt.prompt_digest(self.config.prompt, self.tokenizer)

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

  def training_source(self, teachers: tuple[CacheReader, ...] = ()) -> WindowSource:
    """The windows of the training split with their targets, and the texts that are trained."""
    data = self.config.data
    return self.source(
      data.train_split,
      targets=data.targets,
      teachers=teachers,
      with_text=self.config.objective.trains_text,
      time_shifts=data.augment.time_shifts,
    )

  def training_order(self, source: WindowSource) -> MixedOrder:
    return self.data.order(source, self.config.data.train_split, self.config.train.seed)

  def batch_spec(self, batch_size: int, texts: Sequence[CacheIdentity] = ()) -> Batch:
    """ShapeDtypeStructs of a global batch of prompts alone or, given `texts`, with texts.

    texts: the caches of the config's teachers, in their order, if the run trains their texts.
    """
    c = self.config.prompt
    num_teachers = sum(bool(teacher.cache) for teacher in self.config.objective.teachers)
    B, N, C = batch_size, c.window, len(c.score_tokens)
    Y = max((cache.text_tokens for cache in texts), default=0)
    T = c.sequence_length + max(Y - 1, 0)

    def spec(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct((B, *shape), dtype)

    def said(num_entries: int) -> TeacherTargets:
      if not num_entries:
        return TeacherTargets(spec(np.float32, N, C))
      entries = spec(np.int32, Y, num_entries), spec(np.float32, Y, num_entries)
      tokens = TokenTargets(*entries, spec(np.float32, Y), spec(np.float32, Y))
      return TeacherTargets(spec(np.float32, N, C), tokens)

    entries = [cache.text_entries for cache in texts] or [0] * num_teachers
    return Batch(
      frames=spec(np.uint8, N, c.frames_per_segment, c.image_size, c.image_size, 3),
      tokens=spec(np.int32, T),
      mask_ar=spec(np.int32, T),
      input_mask=spec(np.bool_, T),
      score_pos=spec(np.int32, N),
      targets=spec(np.float32, N, C),
      weight=spec(np.float32, N),
      teachers=tuple(map(said, entries)),
      example=spec(np.int32),
      text=TextTargets(spec(np.int32, Y), spec(np.int32, Y), spec(np.float32, Y)) if Y else None,
    )

  def abstract_params(self) -> Any:
    """Shapes and shardings of the parameters; nothing is allocated."""
    with sharding.use_mesh(self.mesh, self.rules):
      boxed = jax.eval_shape(
        lambda: state.init_params(self.model, self.batch_spec(1), jax.random.key(0))
      )
    return state.with_shardings(boxed, self.mesh, self.rules)


def build_experiment(config: ExperimentConfig, devices: Any = None) -> Experiment:
  """Loads the tokenizer and builds model and mesh.

  Raises:
    InputError: if parts do not fit: a tokenizer larger than the model's vocabulary, a prompt longer
      than its budget, rows of a batch that several processes would share.
  """
  tokenizer = load_tokenizer(config.tokenizer)
  if tokenizer.vocab_size > config.model.llm.vocab_size:
    raise InputError(
      f"model.llm.vocab_size: {config.model.llm.vocab_size} is less than the "
      f"{tokenizer.vocab_size} pieces of {config.tokenizer}"
    )
  # A prompt that does not fit is refused here, and not when the first batch is made.
  nothing = prompt.SegmentText(said="", heard="")
  prompt.layout(config.prompt, tokenizer, "", [nothing] * config.prompt.window)
  score_ids = tuple(tokenizer.piece_id(token) for token in config.prompt.score_tokens)
  model = VideoSummaryStudent(
    config.model, config.prompt.tokens_per_frame, tokenizer.image_id, score_ids
  )
  mesh = sharding.build_mesh(config.mesh, devices)
  sharding.check_processes(mesh, config.rules)
  return Experiment(config, tokenizer, model, mesh)
