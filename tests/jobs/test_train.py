"""`vsumjax train`: what lies in a workdir afterwards."""

import json
import shutil

import pytest

from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.experiment.config import build_config
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.train import train
from vsumjax.types import InputError


def test_a_workdir_holds_all_that_using_the_model_needs(trained, make_config, corpus):
  names = {path.name for path in trained.iterdir()}
  assert names == {
    "config.json",
    "tokenizer.model",
    "checkpoints",
    "events",
    "metrics.jsonl",
    "FINISHED.json",
  }
  assert build_config(json.loads((trained / "config.json").read_text())) == make_config()
  copy = load_tokenizer(trained / "tokenizer.model")
  assert copy.digest == load_tokenizer(corpus / "tokenizer.model").digest


def test_training_a_finished_stage_again_changes_nothing(trained, make_config, capfd):
  files = ("config.json", "metrics.jsonl", "FINISHED.json")
  before = [(trained / name).read_text() for name in files]
  train(make_config(), trained)
  assert [(trained / name).read_text() for name in files] == before
  assert capfd.readouterr() == ("", "")  # no step, no progress


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("FINISHED.json", "[]"),
    ("FINISHED.json", "{}"),
    ("FINISHED.json", '{"step": 6}'),
    ("FINISHED.json", '{"step": "6", "params_digest": "0"}'),
    ("FINISHED.json", '{"step": 6, "params_digest": "0", "folder": 3}'),
    ("config.json", "{}"),
    ("config.json", "[]"),
    ("tokenizer.model", ""),
  ],
)
def test_a_file_of_a_workdir_that_is_broken_is_named(trained, name, content, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / "broken")
  (workdir / name).write_text(content)
  with pytest.raises(InputError, match=f"^{workdir / name}: "):
    load_student(workdir)


def test_overrides_of_the_command_count(run_cli, write_config, config_values, trained, tmp_path):
  """A file of 9 steps; the workdir has the 6 that the command asks for."""
  path = write_config(tmp_path / "tiny.py", config_values(**{"train.num_steps": 9}))
  command = ("train", "--config", path, "--workdir", trained)
  assert run_cli(*command, "--config.train.num_steps=6") == (0, "", "")
  status, out, err = run_cli(*command)
  assert (status, out) == (2, "")
  # Steps are part of the schedule, so that a longer run is another run.
  assert "cannot resume: train.num_steps is 6 in the checkpoint and 9 now" in err
  assert err.count("\n") == 1


def test_a_window_to_profile_that_holds_no_step_is_refused(
  run_cli, write_config, config_values, tmp_path
):
  path = write_config(tmp_path / "tiny.py", config_values())
  command = ("train", "--config", path, "--workdir", tmp_path / "run", "--profile", "5:5")
  status, out, err = run_cli(*command)
  assert (status, out) == (2, "")
  assert err.startswith("vsumjax train: --profile: '5:5' is not START:STOP")
  assert not (tmp_path / "run").exists()
