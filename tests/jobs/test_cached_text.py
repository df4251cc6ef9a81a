"""`vsumjax cache-teacher --text`: a teacher's texts, and its distribution at each token."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.data import pipeline
from vsumjax.data.teacher_cache.reader import CacheReader, verify
from vsumjax.experiment.workdir import load_student, load_trained
from vsumjax.inference import force
from vsumjax.inference.score import Scorer
from vsumjax.jobs import cache_teacher as module
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.cached_text import TextConfig, text_config
from vsumjax.types import InputError, Prompt

Y, J, T = 5, 7, 0.5
BATCH = {"batch_size": 8, "shard_size": 3}
TOPK = TextConfig("topk", J, T, Y)


@pytest.fixture(scope="module")
def cache(trained, tmp_path_factory):
  return cache_teacher(trained, tmp_path_factory.mktemp("topk"), text=TOPK, **BATCH)


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def _answers(folder):
  reader = CacheReader(folder, {})
  return [reader[example] for example in range(len(reader))]


@pytest.fixture(scope="module")
def asked_again(trained):
  """Of each example, without cache, padding or forcing: greedy tokens and their logits, f32[Y, V].

  The whole sequence is read again for every token.
  """
  student = load_student(trained)
  experiment = student.experiment
  with sharding.use_mesh(experiment.mesh):
    params = jax.device_get(student.params)
    run = jax.jit(lambda p, x: experiment.task.model.apply({"params": p}, x, method="lm_logits"))
    found = []
    for batch in pipeline.sequential_batches(experiment.task.source("train"), 1):
      tokens, logits = np.where(batch.input_mask, batch.tokens, 0), []
      T = tokens.shape[1]
      tokens = np.pad(tokens, ((0, 0), (0, Y)))
      input_mask = np.pad(batch.input_mask, ((0, 0), (0, Y)))
      mask_ar = np.pad(batch.mask_ar, ((0, 0), (0, Y)), constant_values=1)
      at = np.flatnonzero(batch.input_mask[0]).max()
      for y in range(Y):
        logits.append(run(params, Prompt(batch.frames, tokens, mask_ar, input_mask))[0, at])
        at = T + y
        tokens[0, at], input_mask[0, at] = logits[-1].argmax(), True
      found.append((tokens[0, T:], np.array(logits)))
  return found


def test_a_cache_holds_the_answers_and_the_likeliest_tokens(trained, cache, asked_again):
  student = load_student(trained)
  identity = CacheReader(cache, {}).identity
  assert (identity.text_kind, identity.text_source) == ("topk", student.params_digest)
  assert (identity.text_tokens, identity.text_entries, identity.text_temperature) == (Y, J, T)
  assert identity.vocab_size == 512
  verify(cache)
  for answer, (tokens, logits_YV) in zip(_answers(cache), asked_again, strict=True):
    np.testing.assert_array_equal(answer.text.tokens, tokens)
    logp_YV = np.asarray(jax.nn.log_softmax(logits_YV / T))
    np.testing.assert_allclose(
      answer.text.logsumexp, jax.nn.logsumexp(logits_YV / T, axis=-1), atol=1e-3
    )
    np.testing.assert_allclose(
      answer.text.entropy, -np.sum(np.exp(logp_YV) * logp_YV, axis=-1), atol=1e-3
    )
    likeliest = np.sort(logp_YV, axis=-1)[:, ::-1][:, :J]
    np.testing.assert_allclose(answer.text.values, likeliest, atol=5e-3)
    at_ids = np.take_along_axis(logp_YV, answer.text.ids, axis=-1)
    np.testing.assert_allclose(answer.text.values, at_ids, atol=5e-3)


def test_scores_are_those_of_a_cache_without_text(trained, cache, tmp_path):
  scores = cache_teacher(trained, tmp_path / "scores", **BATCH)
  for one, other in zip(_answers(cache), _answers(scores), strict=True):
    np.testing.assert_allclose(one.score_logits, other.score_logits, atol=1e-5)
    assert other.text is None


def test_draws_follow_the_teachers_distribution(trained, tmp_path, asked_again):
  """Many draws of every token, against probabilities within 5 standard errors."""
  num_draws = 2000
  text = TextConfig("sampled", num_draws, T, Y)
  answers = _answers(cache_teacher(trained, tmp_path / "sampled", text=text, **BATCH))
  for answer, (_, logits_YV) in zip(answers, asked_again, strict=True):
    probs_YV = np.asarray(jax.nn.softmax(logits_YV / T))
    shares_YV = np.zeros_like(probs_YV)
    for y in range(Y):
      np.add.at(shares_YV[y], answer.text.ids[y], answer.text.values[y])
    np.testing.assert_allclose(shares_YV.sum(axis=-1), 1, rtol=1e-5)
    error_YV = np.sqrt(probs_YV * (1 - probs_YV) / num_draws) + 1 / num_draws
    assert (np.abs(shares_YV - probs_YV) < 5 * error_YV).all()


def test_an_interrupted_cache_goes_on_with_the_same_bytes(
  trained, tmp_path, interrupted_writer, monkeypatch
):
  text = TextConfig("sampled", 12, T, Y)
  whole = cache_teacher(trained, tmp_path / "whole", text=text, **BATCH)
  out = tmp_path / "cache"
  with interrupted_writer():
    cache_teacher(trained, out, text=text, **BATCH)
  cache_teacher(trained, out, text=text, **BATCH)
  assert _files(out) == _files(whole)
  monkeypatch.setattr(Scorer, "outputs", lambda *args: pytest.fail("asked again"))
  cache_teacher(trained, out, text=text, **BATCH)


def test_logits_of_a_few_places_at_a_time(trained, cache, tmp_path, monkeypatch):
  monkeypatch.setattr(force, "LOGITS_BYTES", 1)  # one place on each of eight devices
  shapes, head = [], force._head

  def spied(*args):
    shapes.append(args[-1].shape)
    return head(*args)

  monkeypatch.setattr(force, "_head", spied)
  few = cache_teacher(trained, tmp_path / "few", text=TOPK, **BATCH)
  assert set(shapes) == {(8, 32)} and len(shapes) >= 8 * Y / 8
  for one, other in zip(_answers(few), _answers(cache), strict=True):
    for a, b in zip(one.text, other.text, strict=True):
      np.testing.assert_allclose(a, b, atol=5e-3)


@pytest.fixture
def mentor(trained, tmp_path, monkeypatch):
  """The teacher with all its parameters changed a little, as another one."""
  model = load_trained(trained)
  params = jax.tree.map(lambda x: x + jnp.asarray(0.01, x.dtype), model.params)
  other = dataclasses.replace(model, params=params, params_digest="0" * 32)
  workdir = tmp_path / "mentor"
  shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("checkpoints"))
  finished = json.loads((workdir / "FINISHED.json").read_text())
  (workdir / "FINISHED.json").write_text(json.dumps(finished | {"params_digest": "0" * 32}))
  load = module.load_trained
  monkeypatch.setattr(
    module, "load_trained", lambda path, mesh: other if path == workdir else load(path)
  )
  return workdir


def test_a_mentor_speaks_of_the_teachers_texts(cache, mentor, tmp_path):
  text = TextConfig("sampled", 12, T, texts_of=cache)
  said = cache_teacher(mentor, tmp_path / "mentors", text=text, **BATCH)
  teacher, mentor = (CacheReader(folder, {}).identity for folder in (cache, said))
  assert mentor.text_source == teacher.text_source == teacher.teacher_digest
  assert mentor.text_tokens == Y and mentor.teacher_digest == "0" * 32
  for one, other in zip(_answers(cache), _answers(said), strict=True):
    np.testing.assert_array_equal(one.text.tokens, other.text.tokens)
    assert np.abs(one.text.entropy - other.text.entropy).max() > 1e-4


def test_texts_of_other_examples_are_refused(trained, cache, tmp_path):
  text = TextConfig("topk", J, T, texts_of=cache)
  with pytest.raises(InputError, match="examples_digest"):
    cache_teacher(trained, tmp_path / "test", split="test", text=text, **BATCH)
  scores = cache_teacher(trained, tmp_path / "scores", **BATCH)
  with pytest.raises(InputError, match=r"--texts-of: .* holds no texts"):
    cache_teacher(trained, tmp_path / "x", text=dataclasses.replace(text, texts_of=scores), **BATCH)
  with pytest.raises(InputError, match="text_kind is topk in this cache and sampled here"):
    cache_teacher(trained, cache, text=TextConfig("sampled", J, T, Y), **BATCH)
  assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
  ("kind", "options", "named"),
  [
    ("best", {}, "--text: must be one of topk, sampled"),
    ("topk", {"entries": 0}, "--entries: 0"),
    ("topk", {"temperature": 0.0}, "--temperature: 0"),
    ("topk", {"temperature": float("inf")}, "--temperature: inf"),
    ("topk", {"temperature": 1e-45}, r"--temperature: 1e-45 is not in 0.01 \.\. 100"),
    ("topk", {"max_new_tokens": 70_000}, "--max-new-tokens: 70000"),
    ("topk", {"max_new_tokens": 4, "texts_of": "cache"}, "--max-new-tokens: .* --texts-of"),
    (None, {"entries": 3, "texts_of": "cache"}, "--entries, --texts-of: .* need --text"),
  ],
)
def test_options_that_make_no_sense_are_named(kind, options, named):
  with pytest.raises(InputError, match=named):
    text_config(kind, **options)


def test_no_options_are_no_text():
  assert text_config(None, entries=None, texts_of=None) is None
  assert text_config("sampled", entries=None) == TextConfig("sampled")


def test_the_whole_vocabulary_leaves_nothing_for_the_rest(trained, tmp_path):
  with pytest.raises(InputError, match="--entries: 512 must be less than the 512 tokens"):
    cache_teacher(trained, tmp_path / "x", text=TextConfig("topk", 512), **BATCH)


def test_the_command_writes_texts(trained, run_cli, tmp_path):
  out = tmp_path / "cache"
  arguments = ["--checkpoint", trained, "--out", out, "--text", "sampled", "--max-new-tokens", "3"]
  status, _, _ = run_cli("cache-teacher", *arguments, "--temperature", "2")
  assert status == 0
  identity = CacheReader(out, {}).identity
  assert (identity.text_tokens, identity.text_entries, identity.text_temperature) == (3, 12, 2.0)
  assert len(_answers(out)[0].text.tokens) <= 3
