"""What a student loses if its teacher's distributions are cached as a few entries a token.

A teacher and students, all of them our Gemma decoder, model a made-up language. The students of a
seed start alike and see the same batches; they differ in what they are told of the teacher's
next-token distribution. Records of entries go through the real cache and the real losses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from vsumjax import sharding
from vsumjax.data import token_records
from vsumjax.data.fake_language import FakeLanguage
from vsumjax.data.teacher_cache import CacheIdentity
from vsumjax.files import write_atomically
from vsumjax.jobs import sparse_caches, sparse_logits_report, sparse_students
from vsumjax.jobs.sparse_students import Lesson, Model
from vsumjax.progress import progress
from vsumjax.training.optimizer import OptimizerConfig, build_optimizer
from vsumjax.training.state import params_digest


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes. Every text is seen once: each seed draws `num_steps` batches of its own."""

  vocab_size: int = 8192
  num_tokens: int = 32
  num_entries: int = 12
  teacher_width: int = 128
  teacher_depth: int = 4
  teacher_steps: int = 800
  student_width: int = 64
  student_depth: int = 2
  num_steps: int = 500
  batch_size: int = 16
  learning_rate: float = 4e-3
  held_out_batches: int = 4
  eval_every: int = 50


class Course(NamedTuple):
  """What the students of a seed are taught. bytes_per_token: of both kinds of records."""

  lessons: list[Lesson]
  bytes_per_token: dict[str, float]


def run_study(out: Path, settings: Settings, seeds: Sequence[int]) -> dict[str, Any]:
  """Trains a teacher, and a student by every loss for every seed; shows and writes what came of it.

  Returns the report, which is also out/sparse_logits.json; out/sparse_logits.png shows it. It has
  the settings, what the teacher is like and, for every loss, KL(teacher ‖ student) on held-out
  texts in nats a token: a curve for each seed, over `steps`.
  """
  started = time.monotonic()
  curves: dict[str, list[list[float]]] = {name: [] for name in sparse_students.LOSSES}
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])) as mesh:
    study = Study(settings, mesh)
    for seed in seeds:
      course = study.prepare(seed)
      for name in curves:
        curves[name].append(study.train_student(course, name, seed))
    teacher = study.describe_teacher()
  report = {
    "settings": dataclasses.asdict(settings),
    "language": dataclasses.asdict(study.language),
    "teacher": teacher,
    "bytes_per_token": course.bytes_per_token,
    "seeds": list(seeds),
    "steps": study.evaluated_steps,
    "held_out_kl": curves,
    "seconds": time.monotonic() - started,
  }
  write_atomically(out / "sparse_logits.json", json.dumps(report, indent=1) + "\n")
  sparse_logits_report.draw(report, out / "sparse_logits.png")
  sparse_logits_report.show(report)
  return report


class Study:
  """A trained teacher, and what its students have in common."""

  def __init__(self, settings: Settings, mesh: Mesh):
    self._settings, self._mesh = settings, mesh
    self.language = FakeLanguage(settings.vocab_size)
    self.evaluated_steps = [
      *range(0, settings.num_steps, settings.eval_every), settings.num_steps,
    ]  # fmt: skip
    self._tx = self._optimizer(settings.num_steps)
    self.teacher = self._train_teacher()
    self._held_out = [
      Lesson(text, sparse_students.read(*self.teacher, text)) for text in self.texts("held out", 0)
    ]

  def texts(self, purpose: str, seed: int) -> list[np.ndarray]:
    """Batches of texts; those of different purposes and seeds have nothing in common."""
    settings = self._settings
    num_batches = {
      "teacher": settings.teacher_steps,
      "student": settings.num_steps,
      "held out": settings.held_out_batches,
    }
    rng = np.random.default_rng([list(num_batches).index(purpose), seed])
    B, num_texts = settings.batch_size, settings.batch_size * num_batches[purpose]
    texts = self.language.texts(rng, num_texts, settings.num_tokens)
    return [texts[start : start + B] for start in range(0, num_texts, B)]

  def describe_teacher(self) -> dict[str, float]:
    """Cross entropy and entropy in nats a token, and what its likeliest tokens weigh."""
    texts = np.concatenate([lesson.text for lesson in self._held_out])
    logp = np.asarray(jax.nn.log_softmax(sparse_students.logits(*self.teacher, texts)))
    likeliest = np.sort(logp, axis=-1)[..., -self._settings.num_entries :]
    return {
      "cross_entropy": -float(np.take_along_axis(logp, texts[:, 1:, None], -1).mean()),
      "entropy": -float((np.exp(logp) * logp).sum(-1).mean()),
      "mass_of_likeliest": float(np.exp(likeliest).sum(-1).mean()),
    }

  def prepare(self, seed: int) -> Course:
    """Caches what the teacher says of a seed's texts, records of both kinds, and reads it back."""
    batches = self.texts("student", seed)
    hidden = [sparse_students.read(*self.teacher, text) for text in batches]
    targets, bytes_per_token = {}, {}
    with tempfile.TemporaryDirectory() as folder:
      caches = {
        kind: sparse_caches.Cache(Path(folder, kind), self._identity(batches, kind))
        for kind in token_records.KINDS
      }
      with progress(f"seed {seed}, caches") as update:
        sparse_caches.write(caches.values(), self.teacher, batches, update)
      for kind, cache in caches.items():
        targets[kind] = cache.read(self._settings.batch_size)
        bytes_per_token[kind] = cache.bytes_per_token()
    columns = batches, hidden, targets[token_records.SAMPLED], targets[token_records.TOPK]
    return Course([Lesson(*row) for row in zip(*columns, strict=True)], bytes_per_token)

  def train_student(self, course: Course, loss: str, seed: int) -> list[float]:
    """Held-out KL(teacher ‖ student) at `evaluated_steps`."""
    settings, curve = self._settings, []
    embedding = sparse_students.embedding_of(self.teacher.params)
    model = self._model(settings.student_width, settings.student_depth, seed)

    def watch(done: int, params: Any) -> None:
      if done in self.evaluated_steps:
        pairs = [
          sparse_students.kl_to_teacher(model.module, params, embedding, lesson)
          for lesson in self._held_out
        ]
        total, weight = np.sum(pairs, axis=0)
        curve.append(float(total / weight))
        update(done, settings.num_steps, f"KL {curve[-1]:.4f}")

    with progress(f"seed {seed}, {loss}") as update:
      sparse_students.train(model, loss, embedding, course.lessons, self._tx, watch)
    return curve

  def _train_teacher(self) -> Model:
    settings = self._settings
    model = self._model(settings.teacher_width, settings.teacher_depth, 0)
    lessons = map(Lesson, self.texts("teacher", 0))
    tx = self._optimizer(settings.teacher_steps)
    with progress("teacher") as update:
      params = sparse_students.train(
        model, "data", None, lessons, tx, lambda done, _: update(done, settings.teacher_steps)
      )
    return Model(model.module, params)

  def _model(self, width: int, depth: int, seed: int) -> Model:
    return sparse_students.build_model(self._settings.vocab_size, width, depth, seed, self._mesh)

  def _optimizer(self, num_steps: int) -> optax.GradientTransformation:
    rate = self._settings.learning_rate
    config = OptimizerConfig(rate, warmup=0.1, weight_decay=0.0, clip_norm=1.0)
    return build_optimizer(config, num_steps)

  def _identity(self, batches: Sequence[np.ndarray], kind: str) -> CacheIdentity:
    settings, digest = self._settings, params_digest(self.teacher.params)
    texts = hashlib.blake2b(np.stack(batches).tobytes(), digest_size=16)
    return CacheIdentity(
      teacher_digest=digest,
      tokenizer_digest="",  # the language has ids and no words
      prompt_digest="",
      examples_digest=texts.hexdigest(),
      num_examples=settings.num_steps * settings.batch_size,
      window=1,
      num_classes=1,
      text_kind=kind,
      text_source=digest,
      text_tokens=settings.num_tokens,
      text_entries=settings.num_entries,
      text_temperature=1.0,
      vocab_size=settings.vocab_size,
    )
