"""A student learns a teacher's distribution over texts from its cache, and keeps it elsewhere.

The teacher is random: its texts are noise, but each follows from frames and words of its window.
"""

import functools
import itertools

import jax
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.data import pipeline
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.cached_text import TextConfig
from vsumjax.jobs.train import train
from vsumjax.tasks.score.text_objective import TextObjective, TextTeacher, text_terms
from vsumjax.training import loop
from vsumjax.types import InputError

# At this temperature half of the teacher's texts has an entropy below 2 nats, of at most 6.2.
T, Y, NUM_STEPS = 0.3, 6, 60
CHANGES = {
  "prompt.window": 1,
  "prompt.segment_s": 0.25,
  "prompt.text_tokens": 32,
  "prompt.title_tokens": 4,
  "train.batch_size": 16,
}
RECORDS = {"sampled": 12, "topk": 128}


@pytest.fixture(scope="module")
def teacher(make_config, tmp_path_factory):
  changes = CHANGES | {"train.num_steps": 1, "train.seed": 7}
  return train(make_config(**changes), tmp_path_factory.mktemp("teacher") / "workdir")


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
  """`cache(split, kind)`: a folder."""
  root = tmp_path_factory.mktemp("caches")

  def make(split, kind):
    text = TextConfig(kind, RECORDS[kind], T, Y)
    return cache_teacher(teacher, root / f"{split}_{kind}", split=split, batch_size=16, text=text)

  return make


@pytest.fixture(scope="module")
def build(make_config, teacher):
  """`build(cache)`: an experiment on one device that distils the texts of a cache."""

  def build(folder):
    entry = {
      "name": "teacher",
      "workdir": str(teacher),
      "cache": str(folder),
      "weight": 0.5,
      "temperature": T,
      "direction": "forward",
      "text_weight": 1 / T**2,
    }
    config = make_config(
      **CHANGES,
      **{
        "objective.teachers": [entry],
        "train.num_steps": NUM_STEPS,
        "train.seed": 1,
        "optimizer.learning_rate": 1e-2,
      },
    )
    return build_experiment(config, jax.devices()[:1])

  return build


@pytest.fixture(scope="module")
def held_out(build, cache, teacher):
  """Batches of the held-out windows, with both kinds of records and the teacher's own logits."""
  folders = [cache("validation", kind) for kind in RECORDS]
  experiment = build(folders[0])
  readers = tuple(CacheReader(folder, {}) for folder in folders)
  source = experiment.task.source("validation", teachers=readers, with_text=True)
  student = load_student(teacher)
  batches = []
  for batch in pipeline.sequential_batches(source, 16):
    with sharding.use_mesh(experiment.mesh):
      params = jax.device_get(student.params)
      batches.append((batch, np.asarray(_log_probs(experiment.task.model, params, batch))))
  return batches


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model, params, batch):
  """f32[B, Y, V] at temperature T, by the whole vocabulary."""
  hidden_BYD = model.apply({"params": params}, batch).text_hidden
  logits_BYV = model.apply({"params": params}, hidden_BYD, method="text_logits")
  return jax.nn.log_softmax(logits_BYV / T)


def _full_kl(experiment, params, held_out):
  """KL(teacher ‖ student) of each held-out token, and its estimate by the draws: f32[tokens]."""
  full, drawn = [], []
  for batch, logp_BYV in held_out:
    logq_BYV = np.asarray(_log_probs(experiment.task.model, params, batch))
    is_text_BY = batch.text.weight > 0
    full.append(np.sum(np.exp(logp_BYV) * (logp_BYV - logq_BYV), axis=-1)[is_text_BY])
    said = batch.teachers[list(RECORDS).index("sampled")].tokens
    at_BYJ = np.take_along_axis(logq_BYV, said.ids, axis=-1)
    drawn.append((-np.sum(said.values * at_BYJ, axis=-1) - said.entropy)[is_text_BY])
  return np.concatenate(full), np.concatenate(drawn)


def _cached_kl(experiment, params, held_out):
  """What `text_terms` says of each kind of records of the held-out texts; a mean over tokens."""
  teachers = [TextTeacher(kind, i, kind, 1.0, T) for i, kind in enumerate(RECORDS)]
  objective = TextObjective(0.0, tuple(teachers), experiment.task.config.model.llm.final_cap)
  table_VD = params["llm"]["embedder"]["input_embedding"]

  @jax.jit
  def terms(params, batch):
    output = experiment.task.model.apply({"params": params}, batch)
    return text_terms(objective, output, table_VD, batch)

  sums = [terms(params, batch) for batch, _ in held_out]
  total = jax.tree.map(lambda *values: float(sum(values)), *sums)
  return {name: value / weight / T**2 for name, (value, weight) in total.items()}


def test_a_run_with_texts_is_told_from_others(build, cache):
  """Its batches are as specified; its meta knows the records, and so a resume refuses others."""
  folders = {kind: cache("train", kind) for kind in RECORDS}
  runs = {kind: build_run(build(folder)) for kind, folder in folders.items()}
  for kind, run in runs.items():
    (batch,) = itertools.islice(run.train_batches(0), 1)
    task = build(folders[kind]).task
    expected = task.taught_by([CacheReader(folders[kind], {})]).batch_spec(16)
    specs = [jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), b) for b in (batch, expected)]
    assert specs[0] == specs[1]
    assert batch.teachers[0].tokens.ids.shape == (16, Y, RECORDS[kind])
  with pytest.raises(InputError, match=r"cannot resume: texts is .*'sampled'.*'topk'"):
    loop.check_meta(runs["sampled"].meta, runs["topk"].meta, "there")


# Of `topk` the loss is in ops/test_vocab_losses.py, cache and batch are in the test above.
@pytest.mark.parametrize("kind", ["sampled", pytest.param("topk", marks=pytest.mark.long)])
def test_a_student_learns_to_speak_like_its_teacher(build, cache, held_out, kind):
  experiment = build(cache("train", kind))
  run = build_run(experiment)
  with sharding.use_mesh(run.mesh, run.rules):
    state = run.init_state()
    before, _ = _full_kl(experiment, state.params, held_out)
    for batch in run.train_batches(0):
      state, _ = run.train_step(state, sharding.to_global(batch, run.mesh, run.rules))
    after, drawn = _full_kl(experiment, state.params, held_out)
    cached = _cached_kl(experiment, state.params, held_out)
  assert before.mean() > 4
  assert after.mean() < before.mean() / 5
  # The records of the held-out windows, which nobody was trained on, say the same.
  standard_error = np.std(drawn - after) / np.sqrt(len(after))
  assert abs(cached["text_kl_sampled"] - after.mean()) < 3 * standard_error < 0.2 * after.mean()
  assert 0.95 * after.mean() < cached["text_kl_topk"] < 1.001 * after.mean()
