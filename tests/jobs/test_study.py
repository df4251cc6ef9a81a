"""The study: stages of every seed, means over seeds, and the file of all values."""

import json

import pytest

from vsumjax.jobs import study
from vsumjax.jobs.demo import Chain
from vsumjax.summary.protocols import CEILING, Row

CONTEXT = ["random", "centre prior", "one human", CEILING]


@pytest.fixture
def trained_chain(trained, monkeypatch):
  """Every stage of a chain is the same trained model; -> what was asked for, in order."""
  asked = []

  def train(self, stage, workdir="", **options):
    asked.append((stage, workdir, options))
    return trained

  monkeypatch.setattr(Chain, "train", train)
  monkeypatch.setattr(Chain, "cache", lambda self, stage: asked.append((stage, "cache")))
  return asked


def test_a_seed_measures_the_chain_and_what_is_taken_away(trained_chain, monkeypatch, tmp_path):
  taken_away = []
  evaluate = study.evaluate

  def noting(workdir, out, *, without, show):
    taken_away.append(without)
    return evaluate(workdir, out, without=without, show=show)

  monkeypatch.setattr(study, "evaluate", noting)
  named = study._run_seed(Chain(tmp_path / "config.py", tmp_path, tmp_path, 1))
  assert trained_chain == [
    ("teacher", "", {}),
    ("teacher", "cache"),
    ("mentor", "", {}),
    ("mentor", "cache"),
    ("student", "", {}),
    ("student", "student_alone", {"distil": "false"}),
  ]
  rows = {name: row for name, row, _ in named}
  exits = [f"exit after layer {layer}" for layer in (1, 2, 3)]
  inputs = ["student without frames", "student without sound", "student without text"]
  assert list(rows) == [
    *(f"student, {name}" for name in exits),
    *(f"CE only, {name}" for name in exits),
    *inputs,
    "mentor",
    "teacher",
    *CONTEXT,
  ]
  assert {ceiling for *_, ceiling in named} == {rows[CEILING].tau}
  assert taken_away == [*[set()] * 2, {"frames"}, {"sound"}, {"text"}, *[set()] * 2]


def test_seeds_are_averaged_and_kept(monkeypatch, tmp_path, capsys):
  chains = []

  def run_seed(chain):
    chains.append(chain)
    tau = 0.2 + 0.1 * chain.seed
    return [
      ("student", Row("student", tau, 0.5, 0.25), 0.5),
      (CEILING, Row("", 0.5, 0.6, 0.4), 0.5),
    ]

  corpora = []
  monkeypatch.setattr(study, "_run_seed", run_seed)
  monkeypatch.setattr(study, "make_corpus", lambda root, config: corpora.append(root))
  rows = study.run_study(tmp_path / "config.py", tmp_path, [0, 2])
  assert corpora == [tmp_path]
  assert [chain.root for chain in chains] == [tmp_path / "seed_0", tmp_path / "seed_2"]
  assert {chain.corpus for chain in chains} == {tmp_path}
  assert rows["student"]["tau"] == pytest.approx([0.2, 0.4])
  assert rows["student"]["share_of_ceiling"] == pytest.approx([0.4, 0.8])
  assert json.loads((tmp_path / "study.json").read_text()) == {"seeds": [0, 2], "rows": rows}
  out = capsys.readouterr().out
  assert "means of 2 seeds (± standard deviation)" in out
  assert "0.300 ± 0.141   0.500   0.250           60%" in out
