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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from vsumjax import sharding
from vsumjax.data import teacher_cache, token_records
from vsumjax.data.fake_language import FakeLanguage
from vsumjax.data.teacher_cache import CachedAnswer, CachedText, CacheIdentity, CacheReader
from vsumjax.files import write_atomically
from vsumjax.jobs import sparse_logits_report, sparse_students
from vsumjax.jobs.sparse_students import Lesson, Model
from vsumjax.ops.losses import Pair
from vsumjax.progress import Update, progress
from vsumjax.training.optimizer import OptimizerConfig, build_optimizer
from vsumjax.training.state import params_digest
from vsumjax.types import TokenTargets

SHARD_BATCHES = 16
NO_SCORES = np.zeros((1, 1), np.float32)  # an answer has logits of score classes, too


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
  """What the students of a seed are taught. bytes_per_token: of both kinds of records, on disk."""

  lessons: list[Lesson]
  bytes_per_token: dict[str, float]


def run_study(out: Path, settings: Settings, seeds: Sequence[int]) -> dict[str, Any]:
  """Trains a teacher, and a student by every loss for every seed; shows and writes what came of it.

  Returns the report, which is also out/sparse_logits.json; out/sparse_logits.png shows it. It has
  the settings, what the teacher is like and, for every loss, KL(teacher ‖ student) on held-out
  texts in nats a token: a curve for each seed, over `steps`.
  """
  started = time.monotonic()
  language = FakeLanguage(settings.vocab_size)
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    teacher = _train_teacher(settings, language)
    held_out = [
      Lesson(text, sparse_students.read(*teacher, text))
      for text in _texts(settings, language, "held out", 0)
    ]
    report = {
      "settings": dataclasses.asdict(settings),
      "language": dataclasses.asdict(language),
      "teacher": _describe(settings, teacher, held_out),
      "seeds": list(seeds),
      "steps": _evaluated_steps(settings),
      "held_out_kl": {name: [] for name in sparse_students.LOSSES},
    }
    for seed in seeds:
      course = _prepare(settings, language, teacher, seed)
      report["bytes_per_token"] = course.bytes_per_token
      for name, curves in report["held_out_kl"].items():
        curves.append(_train_student(settings, teacher, course, held_out, name, seed))
  report["seconds"] = time.monotonic() - started
  write_atomically(out / "sparse_logits.json", json.dumps(report, indent=1) + "\n")
  sparse_logits_report.draw(report, out / "sparse_logits.png")
  sparse_logits_report.show(report)
  return report


def _optimizer(settings: Settings, num_steps: int) -> optax.GradientTransformation:
  config = OptimizerConfig(settings.learning_rate, warmup=0.1, weight_decay=0.0, clip_norm=1.0)
  return build_optimizer(config, num_steps)


def _train_teacher(settings: Settings, language: FakeLanguage) -> Model:
  model = sparse_students.build_model(
    settings.vocab_size, settings.teacher_width, settings.teacher_depth, seed=0
  )
  lessons = map(Lesson, _texts(settings, language, "teacher", 0))
  tx = _optimizer(settings, settings.teacher_steps)
  with progress("teacher") as update:
    params = sparse_students.train(
      model, "data", None, lessons, tx, lambda done, _: update(done, settings.teacher_steps)
    )
  return Model(model.module, params)


def _train_student(
  settings: Settings,
  teacher: Model,
  course: Course,
  held_out: Sequence[Lesson],
  loss: str,
  seed: int,
) -> list[float]:
  """Held-out KL(teacher ‖ student) at `_evaluated_steps`."""
  model = sparse_students.build_model(
    settings.vocab_size, settings.student_width, settings.student_depth, seed
  )
  embedding = sparse_students.embedding_of(teacher.params)
  evaluated, curve = set(_evaluated_steps(settings)), []

  @jax.jit
  def kl(params: Any, lesson: Lesson) -> Pair:
    hidden = sparse_students.read(model.module, params, lesson.text)
    return sparse_students.full(hidden, sparse_students.embedding_of(params), embedding, lesson)

  def watch(done: int, params: Any) -> None:
    if done in evaluated:
      totals, weights = zip(*(kl(params, lesson) for lesson in held_out), strict=True)
      curve.append(float(sum(totals) / sum(weights)))
      update(done, settings.num_steps, f"KL {curve[-1]:.4f}")

  tx = _optimizer(settings, settings.num_steps)
  with progress(f"seed {seed}, {loss}") as update:
    sparse_students.train(model, loss, embedding, course.lessons, tx, watch)
  return curve


def _evaluated_steps(settings: Settings) -> list[int]:
  return [*range(0, settings.num_steps, settings.eval_every), settings.num_steps]


def _texts(settings: Settings, language: FakeLanguage, purpose: str, seed: int) -> list[np.ndarray]:
  """Batches of texts; those of different purposes and seeds have nothing in common."""
  num_batches = {
    "teacher": settings.teacher_steps,
    "student": settings.num_steps,
    "held out": settings.held_out_batches,
  }
  rng = np.random.default_rng([list(num_batches).index(purpose), seed])
  B, num_texts = settings.batch_size, settings.batch_size * num_batches[purpose]
  texts = language.texts(rng, num_texts, settings.num_tokens)
  return [texts[start : start + B] for start in range(0, num_texts, B)]


def _describe(settings: Settings, teacher: Model, held_out: Sequence[Lesson]) -> dict[str, float]:
  """The teacher's cross entropy and entropy in nats a token, and what its likeliest weigh."""
  logits = np.concatenate([sparse_students.logits(*teacher, lesson.text) for lesson in held_out])
  logp = np.asarray(jax.nn.log_softmax(logits))
  targets = np.concatenate([lesson.text[:, 1:] for lesson in held_out])[..., None]
  likeliest = np.sort(logp, axis=-1)[..., -settings.num_entries :]
  return {
    "cross_entropy": -float(np.take_along_axis(logp, targets, -1).mean()),
    "entropy": -float((np.exp(logp) * logp).sum(-1).mean()),
    "mass_of_likeliest": float(np.exp(likeliest).sum(-1).mean()),
  }


def _prepare(settings: Settings, language: FakeLanguage, teacher: Model, seed: int) -> Course:
  """Caches what the teacher says of a seed's texts, records of both kinds, and reads it back."""
  batches = _texts(settings, language, "student", seed)
  hidden = [sparse_students.read(*teacher, text) for text in batches]
  identities = {kind: _identity(settings, teacher, batches, kind) for kind in token_records.KINDS}
  with tempfile.TemporaryDirectory() as folder:
    caches = {kind: Path(folder, kind) for kind in identities}
    with progress(f"seed {seed}, caches") as update:
      _write_caches(caches, identities, settings, teacher, batches, update)
    num_tokens = settings.num_steps * settings.batch_size * settings.num_tokens
    bytes_per_token = {
      kind: sum(path.stat().st_size for path in cache.glob("shard-*")) / num_tokens
      for kind, cache in caches.items()
    }
    targets = {
      kind: _read_cache(caches[kind], identity, settings) for kind, identity in identities.items()
    }
  sampled, topk = targets[token_records.SAMPLED], targets[token_records.TOPK]
  return Course(list(map(Lesson, batches, hidden, sampled, topk)), bytes_per_token)


def _identity(
  settings: Settings, teacher: Model, batches: Sequence[np.ndarray], kind: str
) -> CacheIdentity:
  digest = params_digest(teacher.params)
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


def _write_caches(
  caches: Mapping[str, Path],
  identities: Mapping[str, CacheIdentity],
  settings: Settings,
  teacher: Model,
  batches: Sequence[np.ndarray],
  update: Update,
) -> None:
  """One pass of the teacher for records of both kinds."""
  shard_size = SHARD_BATCHES * settings.batch_size
  writers = {
    kind: teacher_cache.CacheWriter(cache, identities[kind], shard_size)
    for kind, cache in caches.items()
  }
  examples_digest = identities[token_records.TOPK].examples_digest
  for shard in writers[token_records.TOPK].pending_shards():
    keys = [teacher_cache.example_key(examples_digest, i) for i in range(shard.start, shard.stop)]
    first = shard.index * SHARD_BATCHES
    texts, logits = [], []
    for text in batches[first : first + SHARD_BATCHES]:
      logits.extend(np.asarray(sparse_students.logits(*teacher, text)))
      texts.extend(text[:, 1:])
    for kind, writer in writers.items():
      answers = [
        CachedAnswer(NO_SCORES, CachedText(tokens, *_entries(settings, kind, key, logits_YV)))
        for key, tokens, logits_YV in zip(keys, texts, logits, strict=True)
      ]
      writer.write_shard(shard, keys, answers)
    update(shard.stop, identities[token_records.TOPK].num_examples)
  for kind, cache in caches.items():
    teacher_cache.seal(cache, identities[kind], shard_size)


def _entries(
  settings: Settings, kind: str, key: bytes, logits_YV: np.ndarray
) -> token_records.Entries:
  if kind == token_records.TOPK:
    return token_records.top_entries(logits_YV, settings.num_entries, 1.0)
  rng = token_records.draw_rng(key)
  return token_records.sample_entries(logits_YV, settings.num_entries, 1.0, rng)


def _read_cache(cache: Path, identity: CacheIdentity, settings: Settings) -> list[TokenTargets]:
  """Targets of every batch."""
  reader, B = CacheReader(cache, dataclasses.asdict(identity)), settings.batch_size
  return [
    TokenTargets(
      *map(np.stack, zip(*(reader[i].text[1:] for i in range(first, first + B)), strict=True))
    )
    for first in range(0, len(reader), B)
  ]
