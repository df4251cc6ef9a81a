"""The study: students of every seed, means over seeds, and the file of all values."""

import json

import pytest

from vsumjax.evaluation.labelled import CEILING, Row
from vsumjax.studies import study

CONTEXT = ["random", "centre prior", "one human", CEILING]
CONFIG = """
from ml_collections import ConfigDict

def get_chain(arg):
  root = dict(pair.split("=") for pair in arg.split(","))["root"]
  stages = [dict(name=n, config="", workdir=f"{root}/{n}", cache="") for n in NAMES]
  return ConfigDict({"stages": tuple(stages)})

NAMES = ("teacher", "mentor", "student")
"""


@pytest.fixture
def asked(trained, monkeypatch):
  """Every student is the same trained model; -> what was asked for, in order."""
  asked = []
  evaluate = study.evaluate

  def noting(workdir, out, *, without, show):
    asked.append((workdir.name, *without))
    return evaluate(trained, out, without=without, show=show)

  monkeypatch.setattr(study, "run_chain", lambda chain: asked.append("chain"))
  monkeypatch.setattr(study, "load_config", lambda spec: spec.partition(":")[2])
  monkeypatch.setattr(study, "train", lambda config, out: asked.append(config) or out)
  monkeypatch.setattr(study, "evaluate", noting)
  return asked


def test_a_seed_measures_the_chain_and_what_is_changed(asked, tmp_path):
  (tmp_path / "config.py").write_text(CONFIG)
  named = study._run_seed(tmp_path / "config.py", tmp_path, tmp_path, 1)
  num = len(study.ABLATIONS)
  chain, *students = asked[:num]
  assert chain == "chain"
  base = f"student,root={tmp_path},corpus={tmp_path},seed=1,"
  assert students == [base + options for options in study.ABLATIONS.values() if options]
  assert asked[num : num + 4] == [
    ("student_kd_none",),
    ("student_kd_single",),
    ("student",),
    ("student_kd_none_exits_last",),
  ]
  assert asked[2 * num :] == [
    *(("student", name) for name in ("frames", "sound", "text")),
    ("mentor",),
    ("teacher",),
  ]
  rows = {name: row for name, row, _ in named}
  assert len(rows) == len(named)
  for name in study.ABLATIONS:
    assert rows[f"ablation: {name}"] == rows[f"{name}, exit after layer 3"]
  assert list(rows)[-9:-4] == [
    *(f"MSKD without {name}" for name in ("frames", "sound", "text")),
    "mentor",
    "teacher",
  ]
  assert list(rows)[-4:] == CONTEXT
  assert {ceiling for *_, ceiling in named} == {rows[CEILING].tau}


def test_seeds_are_averaged_and_kept(monkeypatch, tmp_path, capsys):
  runs = []

  def run_seed(config_file, root, corpus, seed):
    runs.append((root, corpus))
    tau = 0.2 + 0.1 * seed
    better = {name: tau + (0.1 + 0.01 * seed) * ("MSKD" in name) for name in study.ABLATIONS}
    return [
      ("student", Row("student", tau, 0.5, 0.25), 0.5),
      *((f"ablation: {name}", Row("", value, 0, 0), 0.5) for name, value in better.items()),
      (CEILING, Row("", 0.5, 0.6, 0.4), 0.5),
    ]

  corpora = []
  monkeypatch.setattr(study, "_run_seed", run_seed)
  monkeypatch.setattr(study, "make_corpus", lambda root, config: corpora.append(root))
  rows = study.run_study(tmp_path / "config.py", tmp_path, [0, 2])
  assert corpora == [tmp_path]
  assert runs == [(tmp_path / "seed_0", tmp_path), (tmp_path / "seed_2", tmp_path)]
  assert rows["student"]["tau"] == pytest.approx([0.2, 0.4])
  assert rows["student"]["share_of_ceiling"] == pytest.approx([0.4, 0.8])
  assert json.loads((tmp_path / "study.json").read_text()) == {"seeds": [0, 2], "rows": rows}
  out = capsys.readouterr().out
  assert "means of 2 seeds (± standard deviation)" in out
  assert "0.300 ± 0.141   0.500   0.250           60%" in out
  lines = {line.split("  ")[1]: line for line in out.splitlines() if " ± " in line}
  assert "+0.110 ± 0.127" in lines["MSKD"]
  assert "+0.000 ± 0.000" in lines["single-stage KD"]
  assert "+" not in lines["CE only"]
