"""The study of sparse logits at tiny size: what the students are taught, table, file and figure."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vsumjax import sharding
from vsumjax.studies import sparse_logits, sparse_logits_report, sparse_students

SETTINGS = sparse_logits.Settings(
  vocab_size=96, num_tokens=6, num_entries=4, teacher=sparse_students.Size(16, 1, 16),
  teacher_steps=3, teacher_batch=2, student=sparse_students.Size(16, 1, 8), num_steps=18,
  batch_size=2, held_out_texts=4, eval_every=9,
)  # fmt: skip
LOSSES = ["full", "sampled", "topk", "renormalised", "data"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  """The report of a tiny run, and the folder of its results."""
  out = tmp_path_factory.mktemp("sparse_logits")
  return sparse_logits.run_study(out, SETTINGS, [0, 1]), out


def test_the_report_has_a_curve_for_every_seed(study):
  report, out = study
  assert json.loads((out / "sparse_logits.json").read_text()) == report
  assert report["settings"] == dataclasses.asdict(SETTINGS)
  assert (report["seeds"], report["steps"]) == ([0, 1], [0, 9, 18])
  assert list(report["held_out_kl"]) == LOSSES
  kl = np.array(list(report["held_out_kl"].values()))
  assert kl.shape == (len(LOSSES), 2, 3)
  # All losses of a seed start from the same student; other seeds from another.
  assert (kl[:, :, 0] == kl[0, :, 0]).all()
  assert abs(kl[0, 0, 0] - kl[0, 1, 0]) > 1e-3
  # And each goes its own way.
  assert (np.diff(np.sort(kl[:, :, -1], axis=0), axis=0) > 0).all()
  assert (kl[0, :, -1] < 0.9 * kl[0, :, 0]).all()


def test_the_teacher_is_described(study):
  teacher = study[0]["teacher"]
  assert 0 < teacher["entropy"] < np.log(96) < teacher["cross_entropy"] + 1
  assert 4 / 96 < teacher["mass_of_likeliest"] < 1


def test_the_figure_and_the_table(study, capsys):
  report, out = study
  with Image.open(out / "sparse_logits.png") as image:
    assert min(image.size) > 300
  sparse_logits_report.show(report)
  rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
  assert set(LOSSES) <= rows.keys()
  excess = np.mean(sparse_logits_report.excess_percent(report, "topk"))
  assert f"{excess:+.3f} ±" in rows["topk"]
  assert f"{report['bytes_per_token']['topk']:.1f}" in rows["renormalised"]


def test_excess_is_above_full_seed_by_seed():
  report = {"held_out_kl": {"full": [[9, 2.0], [9, 4.0]], "topk": [[9, 3.0], [9, 4.2]]}}
  assert sparse_logits_report.excess_percent(report, "topk") == pytest.approx([50, 5])


@pytest.fixture(scope="module")
def taught():
  """A teacher and a course of it."""
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    study = sparse_logits.Study(dataclasses.replace(SETTINGS, num_steps=3), mesh)
    return study.teacher, study.prepare(0)


def test_lessons_are_what_the_teacher_says(taught, one_device):
  teacher, course = taught
  assert len(course.lessons) == 3
  for lesson in course.lessons:
    logits = np.asarray(sparse_students.logits(*teacher, lesson.text))
    logp = np.asarray(jax.nn.log_softmax(logits))
    table = sparse_students.embedding_of(teacher.params)
    np.testing.assert_allclose(30 * np.tanh(lesson.hidden @ table.T / 30), logits, atol=1e-4)
    for records in (lesson.topk, lesson.sampled):
      np.testing.assert_allclose(records.logsumexp, np.logaddexp.reduce(logits, -1), atol=1e-4)
      np.testing.assert_allclose(records.entropy, -(np.exp(logp) * logp).sum(-1), atol=1e-4)
    likeliest = np.sort(logp, axis=-1)[..., :-5:-1]
    np.testing.assert_allclose(lesson.topk.values, likeliest, rtol=1e-3)  # float16 on disk
    np.testing.assert_array_equal(4 * lesson.sampled.values.sum(-1), np.full((2, 6), 4.0))
  # The length of a text, logsumexp and entropy, the text's ids, those of entries, their values.
  assert course.bytes_per_token["topk"] * 6 == 2 + 6 * 8 + (12 + 2) + (48 + 6) + 48
  assert 12 < course.bytes_per_token["sampled"] < course.bytes_per_token["topk"]


def test_a_causal_model_predicts_the_next_token(one_device):
  model = sparse_students.build_model(sparse_students.Size(16, 2, 32), 96, seed=0, mesh=one_device)
  text = np.random.default_rng(0).integers(0, 96, (2, 7)).astype(np.int32)
  changed = text.copy()
  changed[:, 4] = 5
  same = np.isclose(
    sparse_students.logits(*model, text), sparse_students.logits(*model, changed), atol=1e-5
  ).all(axis=(0, 2))
  assert same.tolist() == [True] * 4 + [False] * 2


def test_renormalised_is_a_kl_over_the_likeliest_alone(taught):
  lesson = taught[1].lessons[0]
  rng = np.random.default_rng(0)
  hidden, table = rng.normal(size=(2, 6, 8)), rng.normal(size=(96, 8))
  total, weight = sparse_students.LOSSES["renormalised"](
    jnp.asarray(hidden, jnp.float32),
    jnp.asarray(table, jnp.float32),
    jax.tree.map(jnp.asarray, lesson),
  )
  p = np.exp(lesson.topk.values)
  p /= p.sum(axis=-1, keepdims=True)
  logq = np.asarray(jax.nn.log_softmax(30 * np.tanh(hidden @ table.T / 30)))
  q = np.take_along_axis(logq, np.asarray(lesson.topk.ids), -1)
  np.testing.assert_allclose(total, (p * (np.log(p) - q)).sum(), rtol=1e-4)
  assert weight == 12
