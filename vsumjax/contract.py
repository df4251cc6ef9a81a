"""What the trainer, the order, the caches and the chain know of a task, and all that they know.

A task is what is learnt, and by which loss. It comes in three parts, each a protocol:

  TaskConfig  its keys of the config; builds the task
  Task        its examples, batches, teachers and digests, on the host
  Learner     its parameters, loss and answers, on the device; pure

Whatever a protocol below has a body for, a task that derives from it need not say. `tasks.score`
is the first. A task has no loop, checkpoint, order, sharding rule or command line of
its own. Its batch is any pytree of arrays with B rows that has `example` i32[B], the numbers of its
examples (-1 on padding rows), and `teachers`, what each cached teacher says of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

from vsumjax.types import InputError, Pair

FIRST_TASK = "score"  # of configs and checkpoints that name none
Metrics = dict[str, Pair]
Progress = jax.Array | float  # share of the run that is done, 0 .. 1


class BusyError(Exception):
  """Somebody else is at work on what was asked for."""


class Draw(NamedTuple):
  """What the random changes of one row of training depend on, and on nothing else."""

  seed: int
  step: int
  row: int  # of the global batch


@dataclasses.dataclass(frozen=True)
class Part:
  """One of several sets of examples that training mixes.

  weight: its rows in every `sum of weights` rows.
  """

  num_examples: int
  weight: int


class Source(Protocol):
  """Random access to the examples of one split. Picklable, and safe in threads.

  examples_digest: over all that a teacher would see of them.
  """

  examples_digest: str

  @property
  def parts(self) -> tuple[Part, ...]:
    """The sets they come from, one after the other, and how training mixes these; one set."""
    return (Part(len(self), 1),)

  def __len__(self) -> int: ...

  def example(self, example: int, draw: Draw | None = None, *, wait: bool = True) -> dict[str, Any]:
    """One example as nested dicts and tuples of arrays, changed at random if there is a draw.

    Raises:
      BusyError: another thread or process is at work on it, if that is not to be waited for.
    """

  def padding(self) -> dict[str, Any]:
    """An example that weighs nothing; `example` is -1 in it. By default all else is 0."""
    zeros = jax.tree.map(np.zeros_like, self.example(0))
    return zeros | {"example": np.asarray(-1, np.int32)}

  def collate(self, fields: dict[str, Any]) -> Any:
    """The batch of examples whose arrays were stacked."""

  def describe(self, examples: Sequence[int]) -> str:
    """Words for examples, for the message about a batch that went wrong."""
    return f"examples {list(examples)}"


class Learner(Protocol):
  """Pure functions of parameters and a batch. Hashable.

  teacher_names: of all teachers, in the order in which `loss` finds their answers in the batch.
  """

  teacher_names: Sequence[str]

  def init(self, key: jax.Array, batch: Any) -> Any:
    """Parameters, boxed with their logical axes (`sharding.Named`); `batch` gives shapes."""

  def whole(self, batch: Any) -> Any:
    """What the loss of a part of a batch has to know of the whole of it; any pytree."""
    del batch
    return ()

  def loss(
    self, params: Any, batch: Any, progress: Progress, rng: jax.Array, whole: Any
  ) -> tuple[Pair, Metrics]:
    """The loss of a batch or of a part of one, and named metrics, `loss` among them."""

  def evaluate(self, params: Any, batch: Any) -> Metrics:
    """What is measured on the validation split."""

  def teach(self, params: Any, batch: Any) -> Any:
    """What it says of a batch as a teacher, rows first; no gradient flows to it."""

  def taught(self, batch: Any, answers: Mapping[str, Any]) -> Any:
    """The batch with the answers of those teachers, by name, that are asked in the step."""
    cached = iter(batch.teachers)
    named = [answers.get(name) for name in self.teacher_names]
    return batch.replace(teachers=tuple(next(cached) if said is None else said for said in named))


@dataclasses.dataclass(frozen=True)
class TeacherRef:
  """A teacher of a run.

  cache: folder of its answers; "" asks the model itself in every step.
  key: of the config that names it, as "objective.teachers[0]".
  """

  name: str
  workdir: str
  cache: str
  key: str = "teachers"


class Task(Protocol):
  """One task as one config has it."""

  @property
  def learner(self) -> Learner: ...

  @property
  def teachers(self) -> tuple[TeacherRef, ...]: ...

  def digests(self) -> dict[str, str]:
    """What the answers depend on beside parameters and config: tokenizer, prompt; by name."""
    return {}

  def data_digests(self) -> dict[str, Any]:
    """What a resumed run must share beside that: manifests, what of the caches is trained on."""
    return {}

  def batch_spec(self, rows: int) -> Any:
    """ShapeDtypeStructs of a batch of training."""

  def source(self, split: str) -> Source:
    """The examples of a split without their labels, for teachers and use."""

  def over(self, manifests: Sequence[str]) -> Task:
    """The same over other data sets, in this order.

    Raises:
      InputError: the task reads none.
    """
    raise InputError(f"{', '.join(manifests)}: this task reads no manifests")

  def training_source(self) -> Source:
    """The examples that are trained on, with all that `loss` needs."""

  def validation_source(self) -> Source:
    """The examples that `evaluate` measures."""

  def require_trainable(self) -> None:
    """Raises InputError, naming the key, for what cannot be trained."""
    return

  def require_same_reading(self, teacher: Task, where: str) -> None:
    """Raises InputError, naming what differs, unless both read an example alike."""

  def require_same_examples(self, teacher: Task, where: str) -> None:
    """Raises InputError unless a cache of the teacher holds the examples of this task."""

  def require_cached(self, teacher: TeacherRef) -> None:
    """Raises InputError if more is learnt of the teacher's cache than a chain writes there."""

  def taught_by(self, caches: Sequence[Any]) -> Task:
    """The same with the open caches of those teachers that have one, in their order.

    By default they are its field `caches`.
    """
    return dataclasses.replace(self, caches=tuple(caches))

  def cache_identity(self, source: Source, teacher_digest: str) -> Any:
    """Whose answers a cache of `source` holds."""

  def cached_answers(self, batch: Any, said: Any) -> list[Any]:
    """What a cache keeps of `teach`, both on the host: an answer a row, padding left out."""
    rows = np.flatnonzero(batch.example >= 0)
    return [jax.tree.map(lambda x, row=row: x[row], said) for row in rows]


class TaskConfig(Protocol):
  """The keys of a task: a frozen dataclass, whose fields stand at the top of a config.

  NAME: what `task` of a config says.
  MODEL_KEYS: first parts of the keys that the parameters are of no use without.
  FREE_KEYS: a regular expression of keys that may change when a run resumes: where or how fast, not
    what.
  FILES: {name in the workdir: key} of the files that using the parameters takes.
  CACHE_SCHEMA: the class of its caches' identities (`data.teacher_cache.schema.CacheIdentity`);
    among its fields are the names of `Task.digests`.
  """

  NAME: ClassVar[str]
  MODEL_KEYS: ClassVar[tuple[str, ...]]
  FREE_KEYS: ClassVar[str] = "(?!)"  # none
  FILES: ClassVar[Mapping[str, str]] = {}
  CACHE_SCHEMA: ClassVar[type]

  @property
  def train_split(self) -> str: ...

  @property
  def num_workers(self) -> int:
    """Processes that make batches, 0 for none beside this one."""
    return 0

  @property
  def num_threads(self) -> int:
    """Threads that make batches, in each of them."""
    return 4

  @property
  def dtype(self) -> str:
    """Of activations, "float32" or "bfloat16"."""
    return "float32"

  @property
  def pretrained(self) -> Any:
    """The architecture (`models.student.StudentConfig`) that `init_from` is read into, or None."""
    return None

  def losses(self) -> str:
    """What is learnt by, in a few words, for a heading."""
    return self.NAME

  def build(self) -> Task:
    """Loads what it names. Raises InputError for parts that do not fit."""
