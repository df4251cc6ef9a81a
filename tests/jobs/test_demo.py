"""The whole chain in small: every stage once, and nothing twice."""

import json

import jax
import pytest

from vsumjax.data.made import corpora
from vsumjax.data.teacher_cache.reader import verify
from vsumjax.jobs import demo

STEPS = (
  "config.train.update(num_steps=4, batch_size=4, checkpoint_every=4, eval_every=4, log_every=1)"
)
SMALL = corpora.CorpusConfig(
  num_train=2, num_validation=1, num_test=1, num_annotators=3, min_s=8, max_s=8, height=48,
  width=64, fps=5,
)  # fmt: skip
STAGES = ("teacher", "mentor", "student")


@pytest.fixture(scope="module")
def run(write_small_demo, tmp_path_factory):
  """`run()` runs the demo in small on one device; the root is `run.root`."""
  root = tmp_path_factory.mktemp("demo")
  write_small_demo(root / "small.py", STEPS)
  one, make_corpus = jax.devices()[:1], corpora.make_corpus

  def run():
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(
        corpora, "make_corpus", lambda out, config, update: make_corpus(out, SMALL, update)
      )
      patch.setattr(jax, "devices", lambda: one)
      return demo.run_demo(root / "small.py", root / "run", seed=3)

  run.root = root / "run"
  return run


@pytest.fixture(scope="module")
def first(run):
  return run()


def _digests(root):
  return {
    stage: json.loads((root / stage / "FINISHED.json").read_text())["params_digest"]
    for stage in STAGES
  }


def test_every_stage_leaves_its_results(run, first):
  root = run.root
  assert len(set(_digests(root).values())) == 3
  for stage in ("teacher", "mentor"):
    verify(root / f"{stage}_cache")
  for stage, terms in {
    "teacher": {"ce"},
    "mentor": {"ce", "kl_teacher"},
    "student": {"ce", "kl_mentor", "kl_teacher"},
  }.items():
    config = json.loads((root / stage / "config.json").read_text())
    assert config["train"]["seed"] == 3
    line = json.loads((root / stage / "metrics.jsonl").read_text().splitlines()[1])
    assert {k for k in line if k.startswith(("train/ce", "train/kl"))} == {
      f"train/{term}" for term in terms
    }
  assert len(first.exits) == 4
  assert (root / "evaluation" / "evaluation.json").is_file()
  assert (root / "summary" / "index.html").is_file()


def test_a_second_run_trains_nothing(run, first, capfd):
  root = run.root
  before = _digests(root)
  times = {path: path.stat().st_mtime_ns for path in root.glob("*_cache/*")}
  metrics = {stage: (root / stage / "metrics.jsonl").read_text() for stage in STAGES}
  again = run()
  assert again == first
  assert _digests(root) == before
  assert {stage: (root / stage / "metrics.jsonl").read_text() for stage in STAGES} == metrics
  shards = {p: t for p, t in times.items() if p.suffix == ".arrayrecord"}
  assert shards
  assert all(path.stat().st_mtime_ns == time for path, time in shards.items())
  out, err = capfd.readouterr()
  assert str(root / "summary" / "index.html") in out
  assert "4/4" in err
  assert "train " not in err  # no step was made
