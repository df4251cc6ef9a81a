"""What cannot be trained is refused first; a finished run is used with the parameters it chose."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from vsumjax.convert import formats
from vsumjax.data import manifest
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run, run_training
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.train import train
from vsumjax.sharding import by_path
from vsumjax.training import state
from vsumjax.training.checkpoints import Checkpoints
from vsumjax.types import InputError


def _silent(done, total, note):
  del done, total, note


def _build(config):
  return build_run(build_experiment(config, jax.devices()[:1]))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"train.keep_best": "validation/f1"},
      r"train\.keep_best: 'validation/f1' is not one of validation/ce, validation/loss",
    ),
    ({"train.keep_best": "ce"}, r"train\.keep_best: 'ce' is not one of "),
    (
      {"data.validation_split": "test"},
      r"data\.validation_split: 'test' is data\.test_split, too; hold out other videos",
    ),
    (
      {"optimizer.freeze": ("image/.*",)},
      r"optimizer\.freeze: 'image/\.\*' matches no parameter; the nearest: img/",
    ),
    ({"optimizer.freeze": (".*",)}, r"optimizer\.freeze: .* leave no parameter to train"),
  ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(
  make_config, tmp_path, changes, message
):
  with pytest.raises(InputError, match=message) as raised:
    run_training(make_config(**changes), tmp_path / "run", _silent)
  assert "\n" not in str(raised.value)
  assert list(tmp_path.iterdir()) == []


def _manifest_of(corpus, tmp_path, name, **splits):
  """The corpus with other splits: {old: new}; a split that is not named is left out."""
  videos = manifest.load_manifest(corpus / "manifest.jsonl").videos
  path = tmp_path / f"{name}.jsonl"
  kept = [dataclasses.replace(v, split=splits[v.split]) for v in videos if v.split in splits]
  manifest.save_manifest(path, kept)
  return {"manifest": str(path)}


def test_a_video_that_is_in_validation_and_test_is_named(make_config, corpus, tmp_path):
  sets = [
    _manifest_of(corpus, tmp_path, "one", train="train", test="validation"),
    _manifest_of(corpus, tmp_path, "two", train="train", test="test"),
  ]
  message = r"data\.validation_split: 'validation' shares videos with .*'test': test_000, test_001;"
  with pytest.raises(InputError, match=message):
    _build(make_config(**{"data.sets": sets}))


def test_a_corpus_without_a_test_split_is_good_for_training(make_config, corpus, tmp_path):
  sets = [_manifest_of(corpus, tmp_path, "one", train="train", validation="validation")]
  assert next(_build(make_config(**{"data.sets": sets})).train_batches(0)).example.shape == (8,)


def test_a_profile_after_the_last_step_is_refused(make_config, tmp_path):
  with pytest.raises(InputError, match="--profile: step 7 comes after the last, 6"):
    run_training(make_config(), tmp_path / "run", _silent, profile=range(7, 9))


@pytest.fixture(scope="module")
def averaged(make_config, tmp_path_factory):
  """The workdir of a finished run with a running mean."""
  config = make_config(**{"train.ema_decay": 0.8})
  return train(config, tmp_path_factory.mktemp("averaged") / "run")


def _finished(workdir):
  return json.loads((workdir / "FINISHED.json").read_text())


def _last_params(workdir):
  saver = Checkpoints(workdir, create=False)
  try:
    return saver.restore_params(6, load_student(workdir).experiment.abstract_params())
  finally:
    saver.close()


def test_a_student_has_the_mean_and_its_digest(averaged):
  student = load_student(averaged)
  finished = _finished(averaged)
  assert {key: finished[key] for key in ("step", "folder")} == {"step": 6, "folder": "selected"}
  assert state.params_digest(student.params) == student.params_digest == finished["params_digest"]
  last = _last_params(averaged)
  assert jax.tree.structure(last) == jax.tree.structure(student.params)
  assert state.params_digest(last) != student.params_digest


def test_what_is_exported_is_what_is_used(averaged):
  student = load_student(averaged)
  exported = formats.open_weights(averaged, None)
  ours = by_path(student.params)
  for path in ("llm/embedder/input_embedding", "img/head/kernel"):
    tensor = exported.tensors[path]
    np.testing.assert_array_equal(tensor.read((slice(None),) * len(tensor.shape)), ours[path])


def test_the_best_is_told_with_its_value(make_config, tmp_path):
  """With learning that does harm, the parameters before the first step are the best."""
  changes = {"train.keep_best": "validation/ce", "optimizer.learning_rate": 30.0}
  workdir = run_training(make_config(**changes), tmp_path / "run", _silent)
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  values = {line["step"]: line["validation/ce"] for line in lines if "validation/ce" in line}
  finished = _finished(workdir)
  assert finished.pop("params_digest") == load_student(workdir).params_digest
  assert finished == {
    "step": 0,
    "folder": "selected",
    "metric": "validation/ce",
    "value": values[0],
  }
  assert min(values.values()) == values[0]


def test_a_finished_run_is_left_as_it_is(make_config, averaged, capsys):
  before = {path: path.stat().st_mtime_ns for path in averaged.rglob("*") if path.is_file()}
  finished = _finished(averaged)
  capsys.readouterr()
  train(make_config(**{"train.ema_decay": 0.8}), averaged)
  assert _finished(averaged) == finished
  assert "time of this run" not in capsys.readouterr().err
  written = {"FINISHED.json", "config.json", "tokenizer.model", "metrics.jsonl"}
  after = {path: path.stat().st_mtime_ns for path in averaged.rglob("*") if path.is_file()}
  assert after.keys() == before.keys()
  assert {path.name for path in after if after[path] != before[path]} <= written


def test_where_the_time_went_is_shown_at_the_end(make_config, tmp_path, capsys):
  train(make_config(), tmp_path / "run", profile=range(2, 3))
  err = capsys.readouterr().err
  assert "time of this run" in err
  assert [line.split()[0] for line in err.splitlines() if " % " in line][:2] == ["steps", "data"]
  assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
