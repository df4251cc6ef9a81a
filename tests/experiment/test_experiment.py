"""The wiring: what a run is made of, what it refuses, and a finished workdir back as a student."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from vsumjax.data import manifest
from vsumjax.data.order import MixedOrder
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run, run_training
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.training import loop, state
from vsumjax.types import InputError


def _build(config):
  return build_run(build_experiment(config, jax.devices()[:1]))


@pytest.fixture(scope="module")
def cache(trained, tmp_path_factory):
  return cache_teacher(trained, tmp_path_factory.mktemp("cache"), batch_size=8)


@pytest.fixture(scope="module")
def teacher(trained, cache):
  """An entry of objective.teachers."""
  return {
    "name": "teacher",
    "workdir": str(trained),
    "cache": str(cache),
    "weight": 0.5,
    "temperature": 2.0,
    "direction": "forward",
  }


@pytest.fixture(scope="module")
def distilled(make_config, teacher):
  """A run with a teacher."""
  return _build(make_config(**{"objective.teachers": [teacher]}))


def _spec(tree):
  return jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), tree)


def test_batch_spec_is_that_of_the_batches(distilled, make_config, teacher):
  experiment = build_experiment(make_config(**{"objective.teachers": [teacher]}))
  batch = next(distilled.train_batches(0))
  assert len(batch.teachers) == 1
  assert _spec(batch) == _spec(experiment.task.batch_spec(8))


def test_teachers_logits_reach_the_right_examples(distilled, trained):
  """The cache, computed in batches of 8 on eight devices, against the teacher asked again."""
  student = load_student(trained)
  readouts = student.scorer(8).read(student.experiment.task.source("train"), lambda *update: None)
  source = student.experiment.task.source("train")
  batch = next(distilled.train_batches(1))
  for row, example in enumerate(batch.example):
    video, first = source.window(example)
    expected = readouts[video].logits_ENC[-1, first : first + 2]
    logits_NC = batch.teachers[0].score_logits[row, : len(expected)]
    np.testing.assert_allclose(logits_NC, expected, atol=1e-4)
  assert np.ptp(batch.teachers[0].score_logits, axis=0).max() > 1e-3


def test_prototypes_learn_and_are_read_back(make_config, tmp_path):
  changes = {"model.exits.prototypes": True, "objective.prototype_weight": 1.0}
  config = make_config(**changes, **{"train.num_steps": 12, "data.train_split": "train"})
  workdir = run_training(config, tmp_path / "run", lambda *update: None)
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  losses = [line["train/prototype"] for line in lines if "train/prototype" in line]
  assert losses[-1] < losses[0]
  student = load_student(workdir)
  assert student.params["exits"]["prototype"].shape == (3, 5, 32)


@pytest.fixture
def other_corpus(corpus, tmp_path):
  """A function that copies the manifest with other titles; its videos stay where they are."""

  def copy(title):
    videos = manifest.load_manifest(corpus / "manifest.jsonl").videos
    path = tmp_path / f"{title}.jsonl"
    manifest.save_manifest(path, [dataclasses.replace(v, title=title or v.title) for v in videos])
    return str(path)

  return copy


REFUSED = {
  "train.seed": 1,
  "train.batch_size": 16,
  "train.num_steps": 7,
  "prompt.title_tokens": 9,
  "model.llm.sliding_window": 4,
  "optimizer.learning_rate": 1.0,
  "data.targets": "hard",
}


@pytest.mark.parametrize("key", REFUSED)
def test_another_run_is_refused_by_name(make_config, key):
  saved, now = _build(make_config()).meta, _build(make_config(**{key: REFUSED[key]})).meta
  with pytest.raises(InputError, match=f"cannot resume: {key} is .* in the checkpoint and "):
    loop.check_meta(saved, now, "there")


def test_a_run_from_before_there_were_tasks_is_one_of_scores(make_config):
  now = _build(make_config()).meta
  saved = {name: value for name, value in now.items() if name != "task"}
  assert now["task"] == "score"
  loop.check_meta(saved, now, "there")
  with pytest.raises(InputError, match="cannot resume: task is 'score' in the checkpoint and 'x'"):
    loop.check_meta(saved, now | {"task": "x"}, "there")


def test_another_manifest_is_refused(make_config, other_corpus):
  saved = _build(make_config()).meta
  now = _build(make_config(**{"data.sets": ({"manifest": other_corpus("Another day")},)})).meta
  assert saved["manifest_digest"] != now["manifest_digest"]
  with pytest.raises(InputError, match=r"cannot resume: (examples|manifest)_digest is "):
    loop.check_meta(saved, now, "there")


def test_another_tokenizer_is_refused(make_config, corpus, tmp_path):
  from vsumjax.data.tokenizer import train_tokenizer

  path = tmp_path / "other.model"
  train_tokenizer(["quite other words score importance"], path, 340, num_markers=4)
  saved, now = _build(make_config()).meta, _build(make_config(tokenizer=str(path))).meta
  with pytest.raises(InputError, match=r"cannot resume: (tokenizer|prompt)_digest is "):
    loop.check_meta(saved, now, "there")


def test_another_cache_is_refused(distilled, make_config, teacher):
  meta = dict(distilled.meta) | {"teacher_digests": ["0" * 32]}
  with pytest.raises(InputError, match="cannot resume: teacher_digests is "):
    loop.check_meta(meta, distilled.meta, "there")
  weaker = _build(make_config(**{"objective.teachers": [teacher | {"weight": 0.25}]}))
  with pytest.raises(InputError, match=r"cannot resume: objective\.teachers\[0\]\.weight is 0\.5"):
    loop.check_meta(distilled.meta, weaker.meta, "there")


def test_where_and_how_a_run_is_computed_is_free(
  distilled, make_config, teacher, other_corpus, cache, trained, corpus, tmp_path
):
  for name, folder in {"cache": cache, "trained": trained}.items():
    shutil.copytree(folder, tmp_path / name)
  shutil.copyfile(corpus / "tokenizer.model", tmp_path / "tokenizer.model")
  moved = make_config(
    **{
      "objective.teachers": [
        teacher | {"workdir": str(tmp_path / "trained"), "cache": str(tmp_path / "cache")}
      ],
      "tokenizer": str(tmp_path / "tokenizer.model"),
      "data.num_workers": 1,
      "data.num_threads": 1,
      "data.cache_bytes": 1 << 20,
      "train.checkpoint_every": 5,
      "mesh.data": 1,
      "rules.kv_heads": "tensor",
    }
  )
  assert _build(moved).meta == distilled.meta


def test_a_cache_of_another_teacher_is_refused(make_config, teacher, trained, tmp_path):
  workdir = tmp_path / "other"
  shutil.copytree(trained, workdir)
  finished = json.loads((workdir / "FINISHED.json").read_text())
  (workdir / "FINISHED.json").write_text(json.dumps(finished | {"params_digest": "0" * 32}))
  config = make_config(**{"objective.teachers": [teacher | {"workdir": str(workdir)}]})
  with pytest.raises(InputError, match=r"teacher_digest is \w+ in this cache and 0{32} here"):
    _build(config)


def test_a_cache_of_other_examples_is_refused(make_config, teacher, other_corpus):
  changes = {
    "objective.teachers": [teacher],
    "data.sets": ({"manifest": other_corpus("Another day")},),
  }
  with pytest.raises(InputError, match=r"examples_digest is \w+ in this cache and"):
    _build(make_config(**changes))


def test_a_cache_of_another_prompt_is_refused(make_config, teacher):
  with pytest.raises(InputError, match=r"prompt_digest is \w+ in this cache and"):
    _build(make_config(**{"objective.teachers": [teacher], "prompt.title_tokens": 9}))


def test_a_teacher_that_has_not_finished_is_named(make_config, teacher, tmp_path):
  for workdir, message in {
    tmp_path: r"training has not finished there \(FINISHED\.json is missing\)",
    tmp_path / "none": "no such folder",
  }.items():
    config = make_config(**{"objective.teachers": [teacher | {"workdir": str(workdir)}]})
    with pytest.raises(
      InputError, match=rf"^objective.teachers\[0\].workdir: {workdir}: {message}"
    ):
      _build(config)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(make_config):
  with pytest.raises(InputError, match=r"model\.llm\.vocab_size: 100 is less than the \d+ pieces"):
    build_experiment(make_config(**{"model.llm.vocab_size": 100}))


def test_a_score_token_that_is_no_piece_is_refused(make_config):
  config = make_config(**{"prompt.score_tokens": ("1", "2", "3", "4", "brilliant")})
  with pytest.raises(InputError, match="no single piece 'brilliant'"):
    build_experiment(config)


def test_a_student_is_what_was_trained(trained, make_config):
  student = load_student(trained)
  finished = json.loads((trained / "FINISHED.json").read_text())
  assert state.params_digest(student.params) == student.params_digest == finished["params_digest"]
  assert student.task.config.model == make_config().task.model
  assert finished["step"] == 6


def test_a_student_needs_nothing_but_its_workdir(trained, tmp_path):
  workdir = tmp_path / "moved"
  shutil.copytree(trained, workdir)
  config = json.loads((workdir / "config.json").read_text())
  config["tokenizer"] = config["data"]["sets"][0]["manifest"] = "/gone"
  (workdir / "config.json").write_text(json.dumps(config))
  student = load_student(workdir)
  assert state.params_digest(student.params) == student.params_digest


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("model.llm.width", 48, r"model\.llm\.width is 32 in the checkpoint and 48 here"),
    ("model.llm.sliding_window", 4, r"model\.llm\.sliding_window is 8 in the checkpoint and 4"),
    ("model.llm.attention_cap", 0.0, r"model\.llm\.attention_cap is 50"),
    ("prompt.title_tokens", 9, r"prompt\.title_tokens is 8 in the checkpoint and 9 here"),
    ("train.sede", 9, r"config key train\.sede: unknown"),
  ],
)
def test_a_config_edited_afterwards_is_refused(trained, tmp_path, key, value, message):
  workdir = tmp_path / "edited"
  shutil.copytree(trained, workdir)
  config = json.loads((workdir / "config.json").read_text())
  *groups, name = key.split(".")
  group = config
  for part in groups:
    group = group[part]
  group[name] = value
  (workdir / "config.json").write_text(json.dumps(config))
  with pytest.raises(InputError, match=message):
    load_student(workdir)


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("config.json", None, r"config\.json: cannot be read"),
    ("config.json", "{", r"config\.json: cannot be read"),
    ("FINISHED.json", None, r"training has not finished there"),
    ("FINISHED.json", '{"step"', r"FINISHED\.json: cannot be read"),
    ("tokenizer.model", None, r"tokenizer\.model"),
    ("tokenizer.model", "text", r"tokenizer\.model"),
  ],
)
def test_a_damaged_workdir_is_named_in_one_line(trained, tmp_path, file, content, message):
  workdir = tmp_path / "damaged"
  shutil.copytree(trained, workdir)
  (workdir / file).unlink()
  if content is not None:
    (workdir / file).write_text(content)
  with pytest.raises(InputError, match=message) as raised:
    load_student(workdir)
  assert "\n" not in str(raised.value)


def test_a_workdir_without_its_checkpoints_is_named(trained, tmp_path):
  workdir = tmp_path / "empty"
  shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("checkpoints"))
  before = sorted(workdir.iterdir())
  with pytest.raises(InputError, match="checkpoints/6: no such checkpoint"):
    load_student(workdir)
  assert sorted(workdir.iterdir()) == before


def test_a_run_that_is_refused_makes_no_workdir(make_config, teacher, tmp_path):
  config = make_config(**{"objective.teachers": [teacher], "prompt.title_tokens": 9})
  with pytest.raises(InputError):
    run_training(config, tmp_path / "new", lambda *update: None)
  assert list(tmp_path.iterdir()) == []


def test_training_never_meets_a_video_of_another_split(make_config, other_corpus):
  """Two data sets, three epochs of each: every training window, and no held-out one."""
  sets = [
    {"manifest": other_corpus(title), "weight": weight} for title, weight in (("", 3), ("B", 1))
  ]
  experiment = build_experiment(make_config(**{"data.sets": sets}))
  source = experiment.task.training_source()
  examples = MixedOrder(source.parts, experiment.config.train.seed).examples(
    np.arange(4 * 3 * len(source))
  )
  met = {(v.split, v.title, v.id) for v in (source.videos[source.window(e)[0]] for e in examples)}
  videos = manifest.load_manifest(sets[0]["manifest"]).videos
  assert {v.split for v in videos} == {"train", "validation", "test"}
  assert {(split, id) for split, _, id in met} == {
    (v.split, v.id) for v in videos if v.split == "train"
  }
  assert len(met) == 2 * len({id for _, _, id in met})
  assert set(examples.tolist()) == set(range(len(source)))


def test_a_split_that_one_data_set_lacks_is_read_from_the_others(
  make_config, other_corpus, tmp_path
):
  videos = manifest.load_manifest(other_corpus("B")).of_split("train")
  manifest.save_manifest(tmp_path / "train_only.jsonl", videos)
  sets = [{"manifest": other_corpus("C")}, {"manifest": str(tmp_path / "train_only.jsonl")}]
  experiment = build_experiment(make_config(**{"data.sets": sets}))
  assert {v.title for v in experiment.task.source("validation").videos} == {"C"}
  assert {v.title for v in experiment.task.source("train").videos} == {"B", "C"}
  with pytest.raises(InputError, match="no video of split 'dev'"):
    experiment.task.source("dev")
