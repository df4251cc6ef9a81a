"""What `vsumjax evaluate` is given says what it measures."""

import json

import numpy as np
import pytest

from vsumjax import cli


@pytest.fixture
def folder(tmp_path):
  captions = {"a": "a man rides a horse", "b": "a dog runs"}
  references = {"a": ["a man rides a horse", "a rider"], "b": ["the dog is running fast"]}
  (tmp_path / "captions.json").write_text(json.dumps(captions))
  (tmp_path / "references.json").write_text(json.dumps(references))
  (tmp_path / "answers.json").write_text(json.dumps({"1": "Horse", "2": "two"}))
  (tmp_path / "questions.json").write_text(json.dumps({"1": "horse", "2": "2"}))
  np.save(tmp_path / "similarities.npy", np.eye(3, dtype=np.float32))
  return tmp_path


def evaluate(folder, *arguments):
  files = [str(folder / each) if "." in each else each for each in arguments]
  return cli.main(["evaluate", "--out", str(folder / "out"), *files])


def test_captions(folder, capsys):
  assert evaluate(folder, "--captions", "captions.json", "--references", "references.json") == 0
  result = json.loads((folder / "out" / "captions.json").read_text())
  assert result["num_videos"] == 2
  assert "METEOR (exact, stem)" in capsys.readouterr().out


def test_retrieval(folder):
  assert evaluate(folder, "--similarities", "similarities.npy") == 0
  result = json.loads((folder / "out" / "retrieval.json").read_text())
  assert result["text_to_video"]["recall"]["1"] == 1.0


@pytest.mark.parametrize(("form", "accuracy"), [("plain", 0.5), ("vqa", 1.0)])
def test_answers(folder, form, accuracy):
  flags = ("--answers", "answers.json", "--references", "questions.json", "--answer-form", form)
  assert evaluate(folder, *flags) == 0
  assert json.loads((folder / "out" / "answers.json").read_text())["accuracy"] == accuracy


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--captions", "captions.json"], "--captions and --answers need --references"),
    (["--cross-validate"], "--cross-validate needs --config"),
    (["--cross-validate", "--config", "c"], "--cross-validate needs --manifest"),
    (["--scores", "captions.json"], "--benchmark is needed"),
  ],
)
def test_what_belongs_together(folder, capsys, arguments, message):
  assert evaluate(folder, *arguments) == 2
  assert message in capsys.readouterr().err


def test_a_checkpoint_needs_a_folder_for_its_results(capsys):
  assert cli.main(["evaluate", "--checkpoint", "nothing"]) == 2
  assert "--checkpoint needs --out" in capsys.readouterr().err


def test_one_thing_at_a_time(folder):
  with pytest.raises(SystemExit, match="2"):
    evaluate(folder, "--captions", "captions.json", "--similarities", "similarities.npy")
