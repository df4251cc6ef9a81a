"""The terms of a text beside those of scores: their normalisation, their records, their keys."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.data.answers import with_text
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.ops import vocab_losses
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig, TeacherConfig, compute_loss
from vsumjax.tasks.score.text_objective import build_text_objective
from vsumjax.training import optimizer, state, step
from vsumjax.types import InputError, StudentOutput, TeacherTargets, TokenTargets

B, Y, J, T, CAP, V = 4, 5, 3, 2.0, 30.0, 64
TEACHERS = (
  TeacherConfig("score", "", "c0", weight=0.5, temperature=1.0, direction="forward"),
  TeacherConfig("online", "", "", weight=0.5, temperature=1.0, direction="forward"),
  TeacherConfig("top", "", "c2", 0.5, temperature=T, direction="reverse", text_weight=0.7),
  TeacherConfig("drawn", "", "c3", 0.0, T, "js", text_weight=((0.0, 0.0), (1.0, 2.0))),
)
CONFIG = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), TEACHERS, text_weight=0.3)
SCORES = ScoreIdentity("t", "e", 9, "t", "p", window=1, num_classes=5)
TEXTS = dataclasses.replace(
  SCORES,
  text_kind="topk",
  text_source="t",
  text_tokens=Y,
  text_entries=J,
  text_temperature=T,
  vocab_size=V,
)
TX = optimizer.build_optimizer(optimizer.OptimizerConfig(1e-3, 0.0, 0.01, 1.0), 10)
CACHES = (SCORES, TEXTS, dataclasses.replace(TEXTS, text_kind="sampled"))


def build(config=CONFIG, caches=CACHES, vocab_size=V):
  return build_text_objective(config, caches, cap=CAP, vocab_size=vocab_size)


def random_tokens(rng, kind):
  ids = rng.integers(V, size=(B, Y, J)).astype(np.int32)
  values = rng.dirichlet(np.ones(J + 1), (B, Y))[..., :J]
  values = np.log(values) if kind == "topk" else values / values.sum(-1, keepdims=True)
  return TokenTargets(
    jnp.asarray(ids), jnp.float32(values), jnp.zeros((B, Y)), jnp.full((B, Y), 0.8)
  )


@pytest.fixture(scope="module")
def batch():
  """Four rows with texts of 5, 2, 0 and 4 tokens, and answers of the three cached teachers."""
  rng = np.random.default_rng(0)
  prompts = jax.device_get(testing.random_batch(rows=B, teachers=3))
  prompts = prompts.replace(weight=np.array([[1], [0], [1], [1]], np.float32))
  forced = with_text(prompts, rng.integers(10, 40, (B, Y)), np.array([5, 2, 0, 4]))
  said = [None, random_tokens(rng, "topk"), random_tokens(rng, "sampled")]
  teachers = tuple(
    TeacherTargets(old.score_logits, tokens)
    for old, tokens in zip(forced.teachers, said, strict=True)
  )
  return jax.tree.map(jnp.asarray, dataclasses.replace(forced, teachers=teachers))


class Model:
  """Three exits that read the mean colour; a text's places read the embedding of their token."""

  def apply(self, variables, batch):
    params = variables["params"]
    x_BNX = batch.frames.astype(jnp.float32).mean((2, 3, 4)) / 255
    logits_EBNC = jnp.einsum("BNX,ECX->EBNC", x_BNX, params["exits"]["kernel"])
    tokens_BY = jnp.take_along_axis(batch.tokens, batch.text.position, axis=1)
    hidden_BYD = params["llm"]["embedder"]["input_embedding"][tokens_BY] @ params["llm"]["kernel"]
    return StudentOutput(logits_EBNC, jax.nn.softmax(logits_EBNC).max(-1), None, hidden_BYD)


@pytest.fixture(scope="module")
def first():
  keys = jax.random.split(jax.random.key(0), 3)
  llm = {
    "embedder": {"input_embedding": jax.random.normal(keys[0], (V, 8))},
    "kernel": jax.random.normal(keys[1], (8, 8)) / 3,
  }
  params = {"llm": llm, "exits": {"kernel": jax.random.normal(keys[2], (3, 5, 3))}}
  return state.start_from(params, TX)


@pytest.fixture(scope="module")
def run_step(first):
  """`run_step(batch, **options)` at a quarter of the run: the state after it, and its metrics."""

  @functools.cache
  def made(text=None, **options):
    learner = ScoreLearner(Model(), CONFIG, text)
    asked = {"online": ScoreLearner(Model(), CONFIG)}
    return jax.jit(step.make_train_step(learner, TX, num_steps=4, online=asked, **options))

  def run(batch, **options):
    with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
      return made(**options)(first.replace(step=jnp.asarray(1)), batch, {"online": first.params})

  return run


def test_kinds_weights_and_places_come_from_config_and_caches():
  text = build()
  assert text.ce_weight == 0.3 and text.cap == CAP
  assert [(t.name, t.index, t.kind) for t in text.teachers] == [
    ("top", 2, "topk"),
    ("drawn", 3, "sampled"),
  ]
  silent = tuple(dataclasses.replace(teacher, text_weight=0.0) for teacher in TEACHERS)
  assert build(ObjectiveConfig(1.0, (1.0,), silent)) is None
  assert build(ObjectiveConfig(1.0, (1.0,), silent, text_weight=1.0)).teachers == ()


def test_the_loss_is_the_mean_over_segments_and_that_over_tokens(run_step, first, batch):
  """Where the scheduled weight is 0.5; with a row that has no labels."""
  _, metrics = run_step(batch, text=build())
  output, cached = Model().apply({"params": first.params}, batch), batch.teachers
  online = TeacherTargets(output.logits[-1])
  answered = batch.replace(teachers=(cached[0], online, *cached[1:]))
  (total, weight), _ = compute_loss(CONFIG, output, answered, 0.25)
  head = output.text_hidden, first.params["llm"]["embedder"]["input_embedding"]
  text, kinds = batch.text, {"cap": CAP, "temperature": T}
  terms = {
    "text_ce": vocab_losses.token_cross_entropy_loss(*head, text.ids, text.weight, cap=CAP),
    "text_kl_top": vocab_losses.topk_kl_loss(*head, cached[1].tokens, text.weight, **kinds),
    "text_kl_drawn": vocab_losses.sampled_kl_loss(*head, cached[2].tokens, text.weight, **kinds),
  }
  assert weight == 3
  mean = total / weight
  for name, share in {"text_ce": 0.3, "text_kl_top": 0.7, "text_kl_drawn": 0.5}.items():
    value, tokens = terms[name]
    np.testing.assert_allclose(metrics[name], (value, tokens), rtol=1e-5)
    assert tokens == 11 and abs(share * value / tokens) > 1e-2
    mean += share * value / tokens
  np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], mean, rtol=1e-5)


def test_microbatches_change_nothing(run_step, batch):
  whole, metrics = run_step(batch, text=build())
  parts, metrics_of_parts = run_step(batch, text=build(), accumulate=2)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole.params, parts.params)
  for name in ("loss", "text_ce", "grad_norm"):
    np.testing.assert_allclose(metrics[name], metrics_of_parts[name], rtol=1e-5)


def test_a_text_that_a_run_does_not_train_is_left_alone(run_step, batch):
  _, metrics = run_step(batch)
  assert "ce" in metrics and not [name for name in metrics if name.startswith("text")]


def test_padding_alone_gives_no_gradient(run_step, batch):
  nothing = dataclasses.replace(
    batch,
    weight=jnp.zeros_like(batch.weight),
    text=dataclasses.replace(batch.text, weight=jnp.zeros_like(batch.text.weight)),
  )
  _, metrics = run_step(nothing, text=build())
  assert metrics["grad_norm"][0] == 0


def test_without_labels_texts_still_teach(run_step, batch):
  """Each token as much as with labels: segments are no part of its mean."""
  unlabelled = dataclasses.replace(batch, weight=jnp.zeros_like(batch.weight))
  after, metrics = run_step(unlabelled, text=build())
  assert metrics["grad_norm"][0] > 0.1
  assert jnp.isfinite(after.params["llm"]["kernel"]).all()


@pytest.mark.parametrize(
  ("changes", "key"),
  [
    ({0: {"text_weight": 1.0}}, r"objective\.teachers\[0\]\.text_weight: c0 holds no texts"),
    (
      {1: {"text_weight": 1.0}},
      r"objective\.teachers\[1\]\.text_weight: a teacher without a cache",
    ),
    (
      {2: {"temperature": 1.5}},
      r"objective\.teachers\[2\]\.temperature: 1\.5, but .* is 2\.0 in c2",
    ),
  ],
)
def test_teachers_that_do_not_fit_are_named_by_key(changes, key):
  teachers = [dataclasses.replace(t, **changes.get(i, {})) for i, t in enumerate(TEACHERS)]
  with pytest.raises(InputError, match=key):
    build(dataclasses.replace(CONFIG, teachers=tuple(teachers)))


def test_texts_that_are_not_there_are_named_by_key():
  config = ObjectiveConfig(1.0, (1.0,), TEACHERS[:1], text_weight=0.5)
  with pytest.raises(InputError, match=r"objective\.text_weight: no teacher's cache holds texts"):
    build(config, CACHES[:1])
  with pytest.raises(InputError, match=r"model\.llm\.vocab_size: 65, but vocab_size is 64 in c2"):
    build(vocab_size=65)
  with pytest.raises(InputError, match=r"objective\.text_weight"):
    dataclasses.replace(CONFIG, text_weight=-1.0)
