"""`vsumjax evaluate`: rows of exits and context, and what each input is worth."""

import dataclasses
import json

import pytest

from vsumjax.data import manifest
from vsumjax.data.reading import INPUTS
from vsumjax.data.videos import Labels
from vsumjax.jobs.evaluate import evaluate


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
  out = tmp_path_factory.mktemp("evaluation")
  return evaluate(trained, out, show=False, batch_size=8), out


def test_every_exit_stands_beside_the_context(result):
  evaluation, out = result
  assert [row.name for row in evaluation.exits] == [
    "exit after layer 1",
    "exit after layer 2",
    "exit after layer 3",
  ]
  assert [row.name for row in evaluation.context] == [
    "random",
    "centre prior",
    "one human",
    "annotators' ceiling",
  ]
  assert evaluation.last is evaluation.exits[-1]
  for row in (*evaluation.exits, *evaluation.context):
    assert -1 <= row.tau <= 1
    assert -1 <= row.rho <= 1
    assert 0 <= row.f1 <= 1
  assert evaluation.row("one human").tau > evaluation.row("random").tau
  assert [path.name for path in out.iterdir()] == ["evaluation.json"]


def test_the_file_says_what_was_measured(result, trained, corpus):
  evaluation, out = result
  content = json.loads((out / "evaluation.json").read_text())
  finished = json.loads((trained / "FINISHED.json").read_text())
  assert content["parameters_digest"] == finished["params_digest"]
  assert content["manifest_digest"] == manifest.load_manifest(corpus / "manifest.jsonl").digest
  assert (content["split"], content["num_videos"], content["without"]) == ("test", 2, [])
  assert content["protocol"] == "uniform segments"
  assert content["exits"][-1]["tau"] == evaluation.last.tau
  ceiling = evaluation.row("annotators' ceiling").tau
  assert content["exits"][0]["share_of_ceiling"] == evaluation.exits[0].tau / ceiling
  assert content["context"][-1]["share_of_ceiling"] == 1


def _scores(trained, without):
  """The scores of all segments, by way of the job's own parts."""
  from vsumjax.experiment.workdir import load_student

  student = load_student(trained)
  source = student.experiment.task.source("test", without=frozenset(without))
  readouts = student.scorer(8).read(source, lambda *update: None)
  return [score for r in readouts for score in r.at_exit(2).score.tolist()]


@pytest.mark.parametrize("kind", INPUTS)
def test_taking_an_input_away_changes_the_scores(trained, kind):
  whole, without = _scores(trained, []), _scores(trained, [kind])
  assert len(whole) == len(without)
  changes = [abs(a - b) for a, b in zip(whole, without, strict=True)]
  assert max(changes) > 1e-4


def test_without_is_written_down(trained, tmp_path):
  evaluate(trained, tmp_path, without=frozenset({"text", "sound"}), show=False, batch_size=8)
  assert json.loads((tmp_path / "evaluation.json").read_text())["without"] == ["sound", "text"]


def _relabelled(corpus, tmp_path, relabel):
  videos = manifest.load_manifest(corpus / "manifest.jsonl").of_split("test")
  path = tmp_path / "other.jsonl"
  manifest.save_manifest(path, [dataclasses.replace(v, labels=relabel(v.labels)) for v in videos])
  return path


def test_one_annotator_has_no_ceiling_and_the_file_is_still_json(trained, corpus, tmp_path):
  def alone(labels):
    return Labels(labels.unit_s, labels.levels_AN[:1])

  path = _relabelled(corpus, tmp_path, alone)
  evaluate(trained, tmp_path / "out", manifest=str(path), batch_size=8)

  def refuse(constant):
    pytest.fail(f"{constant} is not JSON")

  text = (tmp_path / "out" / "evaluation.json").read_text()
  content = json.loads(text, parse_constant=refuse)
  assert [row["name"] for row in content["context"]] == ["random", "centre prior"]
  assert content["exits"][0]["share_of_ceiling"] is None


def test_the_command_prints_a_table(trained, run_cli, tmp_path):
  status, out, err = run_cli("evaluate", "model", trained, "--out", tmp_path / "out")
  assert status == 0
  assert "2 videos of split test" in out
  assert "exit after layer 3" in out
  assert "annotators' ceiling" in out
  assert err.startswith("score test: ")


def test_bad_input_is_one_line_and_leaves_nothing(trained, corpus, run_cli, tmp_path):
  unlabelled = _relabelled(corpus, tmp_path, lambda labels: None)
  out = tmp_path / "out"
  for options, named in (
    (("--manifest", unlabelled), "video 'test_000' has no labels"),
    (("--manifest", tmp_path / "none.jsonl"), "none.jsonl: cannot read the manifest"),
    (("--split", "tset"), "no video of split 'tset'"),
  ):
    status, stdout, err = run_cli("evaluate", "--checkpoint", trained, "--out", out, *options)
    assert (status, stdout) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert not out.exists()
