"""`vsumjax evaluate WHAT`: the subcommands, their options, and the options that stood for them."""

import json
import re

import numpy as np
import pytest

from vsumjax import cli
from vsumjax.jobs import evaluation_commands

SUBCOMMANDS = ("model", "scores", "folds", "captions", "retrieval", "answers")


@pytest.fixture
def folder(tmp_path, monkeypatch):
  captions = {"a": "a man rides a horse", "b": "a dog runs"}
  references = {"a": ["a man rides a horse", "a rider"], "b": ["the dog is running fast"]}
  (tmp_path / "captions.json").write_text(json.dumps(captions))
  (tmp_path / "references.json").write_text(json.dumps(references))
  (tmp_path / "answers.json").write_text(json.dumps({"1": "Horse", "2": "two"}))
  (tmp_path / "questions.json").write_text(json.dumps({"1": "horse", "2": "2"}))
  np.save(tmp_path / "similarities.npy", np.eye(3, dtype=np.float32))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def evaluate(arguments):
  return cli.main(["evaluate", *arguments.split()])


def results(folder):
  """The files of `out`, which is emptied."""
  found = {path.name: path.read_text() for path in (folder / "out").iterdir()}
  for name in found:
    (folder / "out" / name).unlink()
  return found


@pytest.mark.parametrize(
  ("new", "old"),
  [
    (
      "captions captions.json --references references.json --out out",
      "--out out --captions captions.json --references references.json",
    ),
    ("retrieval similarities.npy --out out", "--similarities=similarities.npy --out out"),
    (
      "answers answers.json --references questions.json --answer-form vqa --out out",
      "--references questions.json --answer-form vqa --answers answers.json --out out",
    ),
  ],
)
def test_both_spellings_print_and_write_the_same(folder, capsys, new, old):
  told = []
  for spelling in (new, old):
    assert evaluate(spelling) == 0
    told.append((results(folder), capsys.readouterr()))
  assert told[0] == told[1]
  assert told[0][0]


@pytest.mark.parametrize(
  ("new", "old"),
  [
    ("model c --out o --without text", "--out o --without text --checkpoint c"),
    ("scores a b --benchmark h --fold 1", "--scores a b --benchmark h --fold 1"),
    (
      "folds --config c --manifest m --benchmark h --out o --seeds 4 5",
      "--config c --manifest m --benchmark h --out o --seeds 4 5 --cross-validate",
    ),
    ("folds --config c --manifest m", "--cross --config c --manifest m"),
    ("--help", "--help"),
    ("scores --scores a", "scores a"),
  ],
)
def test_an_old_spelling_becomes_the_subcommand(new, old):
  spelled = [evaluation_commands.in_subcommands(words.split()) for words in (new, old)]
  assert sorted(spelled[0]) == sorted(spelled[1])
  assert spelled[0][0] == spelled[1][0] == new.split()[0]


def test_captions(folder, capsys):
  assert evaluate("captions captions.json --references references.json --out out") == 0
  assert json.loads(results(folder)["captions.json"])["num_videos"] == 2
  assert "METEOR (exact, stem)" in capsys.readouterr().out


def test_retrieval(folder):
  assert evaluate("retrieval similarities.npy --out out") == 0
  result = json.loads(results(folder)["retrieval.json"])
  assert result["text_to_video"]["recall"]["1"] == 1.0


@pytest.mark.parametrize(("form", "accuracy"), [("plain", 0.5), ("vqa", 1.0)])
def test_answers(folder, form, accuracy):
  flags = f"answers answers.json --references questions.json --answer-form {form} --out out"
  assert evaluate(flags) == 0
  assert json.loads(results(folder)["answers.json"])["accuracy"] == accuracy


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("captions captions.json", "captions: the following arguments are required: --references"),
    ("--captions captions.json", "captions: the following arguments are required: --references"),
    ("folds --manifest m --out o --benchmark b", "folds: .* are required: --config"),
    ("scores captions.json", "scores: the following arguments are required: --benchmark"),
    ("scores --benchmark b", "scores: the following arguments are required: FILE"),
    ("--checkpoint nothing", "model: the following arguments are required: --out"),
    ("scores a --bench b --fold x", "scores: argument --fold: invalid int value: 'x'"),
  ],
)
def test_what_argparse_refuses_is_one_line(folder, capsys, arguments, message):
  with pytest.raises(SystemExit, match="2"):
    evaluate(arguments)
  _assert_line(capsys, f"^vsumjax evaluate {message}")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      "scores s.json --benchmark b --meteor d",
      "--meteor belongs to `evaluate captions`, not to `evaluate scores`",
    ),
    (
      "--similarities s.npy --references r.json",
      "--references belongs to `evaluate captions` and `evaluate answers`,"
      " not to `evaluate retrieval`",
    ),
    (
      "--captions captions.json --similarities s.npy",
      "--similarities belongs to `evaluate retrieval`, not to `evaluate captions`",
    ),
    ("scores s.json --split test", "--split belongs to `evaluate model`, not to"),
    ("scores s.json --foldd 1", "`evaluate scores` has no option --foldd; did you mean --fold?"),
    ("retrieval s.npy --zzz", "no option --zzz; see `evaluate retrieval --help`"),
    ("tvsum", "there is no `evaluate tvsum`; there are model, scores, folds, captions,"),
    ("--out o", "`evaluate` needs one of model, scores, folds, captions, retrieval, answers"),
  ],
)
def test_what_does_not_belong_together_is_one_line(folder, capsys, arguments, message):
  assert evaluate(arguments) == 2
  _assert_line(capsys, f"^vsumjax evaluate: .*{re.escape(message)}")
  assert not (folder / "out").exists()


def _assert_line(capsys, pattern):
  out, err = capsys.readouterr()
  assert out == ""
  assert err.count("\n") == 1
  assert re.search(pattern, err), err


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_explains_itself_by_a_line_that_it_takes(capsys, monkeypatch, name):
  with pytest.raises(SystemExit, match="0"):
    cli.main(["evaluate", name, "--help"])
  printed = capsys.readouterr().out
  example = printed.rpartition("example:\n")[2].split()
  assert example[:3] == ["vsumjax", "evaluate", name]
  ran = []
  monkeypatch.setattr(cli, "report", lambda command, run, verbose: ran.append(command))
  cli.main(example[1:])
  assert ran == ["evaluate"]


def test_the_subcommands_are_listed(capsys):
  with pytest.raises(SystemExit, match="2"):
    cli.main(["evaluate"])
  listed = capsys.readouterr().err
  assert all(f"\n  {name} " in listed for name in SUBCOMMANDS)
