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
from vsumjax.data.made.language import FakeLanguage
from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.studies import sparse_caches, sparse_logits_report, sparse_students
from vsumjax.studies.sparse_students import Lesson, Model, Size
from vsumjax.training.optimizer import OptimizerConfig, build_optimizer
from vsumjax.training.state import params_digest

TEACHER = Size(width=64, depth=4, mlp_dim=256)
STUDENT = Size(width=64, depth=1, mlp_dim=32)
_TEACHER, _HELD_OUT, _STUDENTS = range(3)  # seeds of texts


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the study.

  Every text is seen once: each seed draws `num_steps` batches of its own. Students have the
  embedding of the teacher, which stays as it is (as in fine-tuning with adapters), and learn the
  decoder.
  """

  vocab_size: int = 8192
  num_tokens: int = 32
  num_entries: int = 12
  teacher: Size = TEACHER
  teacher_steps: int = 800
  teacher_batch: int = 16
  teacher_rate: float = 4e-3
  student: Size = STUDENT
  num_steps: int = 200
  batch_size: int = 64
  learning_rate: float = 2e-2
  held_out_texts: int = 64
  eval_every: int = 20


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
    self._tx = _optimizer(settings.learning_rate, settings.num_steps)
    self.teacher = self._train_teacher()
    (text,) = self._texts(_HELD_OUT, 1, settings.held_out_texts)
    self._held_out = Lesson(text, sparse_students.read(*self.teacher, text))

  def describe_teacher(self) -> dict[str, float]:
    """Cross entropy and entropy in nats a token, and what its likeliest tokens weigh."""
    text = self._held_out.text
    logp = np.asarray(jax.nn.log_softmax(sparse_students.logits(*self.teacher, text)))
    likeliest = np.sort(logp, axis=-1)[..., -self._settings.num_entries :]
    return {
      "cross_entropy": -float(np.take_along_axis(logp, text[:, 1:, None], -1).mean()),
      "entropy": -float((np.exp(logp) * logp).sum(-1).mean()),
      "mass_of_likeliest": float(np.exp(likeliest).sum(-1).mean()),
    }

  def prepare(self, seed: int) -> Course:
    """Caches what the teacher says of a seed's texts, records of both kinds, and reads it back."""
    settings = self._settings
    batches = self._texts((_STUDENTS, seed), settings.num_steps, settings.batch_size)
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
        targets[kind] = cache.read(settings.batch_size)
        bytes_per_token[kind] = cache.bytes_per_token()
    columns = batches, hidden, targets[token_records.SAMPLED], targets[token_records.TOPK]
    return Course([Lesson(*row) for row in zip(*columns, strict=True)], bytes_per_token)

  def train_student(self, course: Course, loss: str, seed: int) -> list[float]:
    """Held-out KL(teacher ‖ student) at `evaluated_steps`."""
    settings, curve = self._settings, []
    model = sparse_students.build_model(settings.student, settings.vocab_size, seed, self._mesh)
    model.params["embedder"] = self.teacher.params["embedder"]

    def watch(done: int, params: Any) -> None:
      if done in self.evaluated_steps:
        total, weight = sparse_students.kl_to_teacher(model.module, params, self._held_out)
        curve.append(float(total / weight))
        update(done, settings.num_steps, f"KL {curve[-1]:.4f}")

    with progress(f"seed {seed}, {loss}") as update:
      sparse_students.train(model, loss, course.lessons, self._tx, watch, frozen=("embedder",))
    return curve

  def _train_teacher(self) -> Model:
    settings = self._settings
    num_steps = settings.teacher_steps
    model = sparse_students.build_model(settings.teacher, settings.vocab_size, 0, self._mesh)
    lessons = map(Lesson, self._texts(_TEACHER, num_steps, settings.teacher_batch))
    tx = _optimizer(settings.teacher_rate, num_steps)
    with progress("teacher") as update:
      params = sparse_students.train(
        model, "data", lessons, tx, lambda done, _: update(done, num_steps)
      )
    return Model(model.module, params)

  def _texts(self, seed: int | tuple[int, int], num_batches: int, batch: int) -> list[np.ndarray]:
    """Batches of texts; those of different seeds have nothing in common."""
    rng = np.random.default_rng(seed)
    texts = self.language.texts(rng, num_batches * batch, self._settings.num_tokens)
    return np.split(texts, num_batches)

  def _identity(self, batches: Sequence[np.ndarray], kind: str) -> ScoreIdentity:
    settings, digest = self._settings, params_digest(self.teacher.params)
    texts = hashlib.blake2b(np.stack(batches).tobytes(), digest_size=16)
    return ScoreIdentity(
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


def _optimizer(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
  config = OptimizerConfig(learning_rate, warmup=0.1, weight_decay=0.0, clip_norm=1.0, b2=0.999)
  return build_optimizer(config, num_steps)
