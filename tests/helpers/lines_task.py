"""A second task in a hundred lines: a language model of the sentences of the made corpus."""

import dataclasses
import hashlib
import random
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vsumjax import contract, sharding
from vsumjax.data.made.corpora import CorpusConfig, plan_videos
from vsumjax.data.teacher_cache.schema import CacheIdentity
from vsumjax.ops import losses

PLANS = plan_videos(CorpusConfig(num_train=6, num_validation=2, num_test=0))
WORDS = sorted({word for plan in PLANS for line in plan.sentences for word in line.split()})
T, V = 12, len(WORDS) + 1  # 0 is padding


class LinesIdentity(CacheIdentity):
  kind, size, group_size = 200, T, 16
  encode = staticmethod(lambda logits_TV: logits_TV.tobytes())
  decode = staticmethod(lambda content: np.frombuffer(content, np.float32).reshape(T, V))
  compared = staticmethod(lambda logits_TV: {"logits": logits_TV})


@struct.dataclass
class Lines:
  tokens: jax.Array  # i32[B, T]
  example: jax.Array
  teachers: tuple  # f32[B, T, V] of each


class Source(contract.Source):
  def __init__(self, split, caches=()):
    lines = [line.split() for plan in PLANS if plan.split == split for line in plan.sentences]
    self.lines, self.caches = [[1 + WORDS.index(word) for word in line] for line in lines], caches
    self.examples_digest = hashlib.blake2b(repr(lines).encode()).hexdigest()

  def __len__(self):
    return len(self.lines)

  def example(self, example, draw=None, *, wait=True):
    tokens_T = np.array((self.lines[example] + [0] * T)[:T], np.int32)
    tokens_T[random.Random(repr(draw)).randrange(T)] *= draw is None  # a word is lost in training
    said = tuple(cache[example] for cache in self.caches)
    return {"tokens": tokens_T, "example": np.asarray(example, np.int32), "teachers": said}

  def collate(self, fields):
    return Lines(**fields)


@dataclasses.dataclass(frozen=True)
class Learner(contract.Learner):
  width: int
  teacher_names: tuple[str, ...]

  def init(self, key, batch):
    table_VD = sharding.Named(jax.random.normal(key, (V, self.width)), ("vocab", None))
    head_DV = sharding.Named(jax.random.normal(key, (self.width, V)) / 9, (None, "vocab"))
    return {"table": table_VD, "head": head_DV}

  def _logits(self, params, batch, keep=1.0):
    before_BT = jnp.pad(batch.tokens, ((0, 0), (1, 0)))[:, :-1]
    return (params["table"][before_BT] * keep) @ params["head"]

  def _metrics(self, logits_BTV, batch, said=()):
    weight_BT = (batch.tokens > 0).astype(jnp.float32)
    labels_BTV = jax.nn.one_hot(batch.tokens, V)
    kl = partial(losses.kl_loss, weight=weight_BT, temperature=1.0, direction="forward")
    terms = {"ce": losses.cross_entropy_loss(logits_BTV, labels_BTV, weight_BT)}
    terms |= {f"kl_{name}": kl(logits_BTV, said_BTV) for name, said_BTV in said}
    return terms | {"loss": (sum(total for total, _ in terms.values()), weight_BT.sum())}

  def loss(self, params, batch, progress, rng, whole):
    keep = jax.random.bernoulli(rng, 0.9, (*batch.tokens.shape, self.width))
    said = zip(self.teacher_names, batch.teachers, strict=True)
    metrics = self._metrics(self._logits(params, batch, keep), batch, said)
    return metrics["loss"], metrics

  def evaluate(self, params, batch):
    return self._metrics(self._logits(params, batch), batch)

  def teach(self, params, batch):
    return jax.lax.stop_gradient(self._logits(params, batch))


@dataclasses.dataclass(frozen=True)
class LinesConfig(contract.TaskConfig):
  """teachers: (name, workdir, cache) of each."""

  NAME, MODEL_KEYS, CACHE_SCHEMA, train_split = "lines", ("width",), LinesIdentity, "train"
  width: int
  teachers: tuple[tuple[str, ...], ...] = ()

  def build(self):
    return Task(self)


@dataclasses.dataclass(frozen=True)
class Task(contract.Task):
  config: LinesConfig
  caches: tuple = ()
  source, validation_source = staticmethod(Source), staticmethod(partial(Source, "validation"))
  learner = property(lambda self: Learner(self.config.width, tuple(t.name for t in self.teachers)))
  teachers = property(lambda self: [contract.TeacherRef(t, *w) for t, *w in self.config.teachers])

  def training_source(self):
    return Source("train", self.caches)

  def batch_spec(self, rows):
    spec = lambda x: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype)  # noqa: E731
    return Lines(**jax.tree.map(spec, self.training_source().padding()))

  def cache_identity(self, source, teacher_digest):
    return LinesIdentity(teacher_digest, source.examples_digest, len(source))
