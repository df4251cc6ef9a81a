"""The speed benchmark at tiny size: turns, table and file, and what is missing said."""

import dataclasses
import json

import pytest

from vsumjax import testing
from vsumjax.benchmarks import model_step, peers
from vsumjax.convert import big_vision
from vsumjax.types import InputError

TASK = model_step.Task(testing.tiny_config(), batch=2, text_tokens=6)
ROWS = ["ours", "transformers", "big_vision"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
  """The report of a run without big_vision, the file it wrote, and what it printed."""
  pytest.importorskip("torch", reason="torch is not installed")
  pytest.importorskip("transformers", reason="transformers is not installed")
  out = tmp_path_factory.mktemp("benchmark") / "model_step.json"
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv(big_vision.CHECKOUT, raising=False)
    report = peers.benchmark_model_step(TASK, ROWS, rounds=2, out=out)
  assert json.loads(out.read_text()) == json.loads(json.dumps(report))
  return report


def test_the_report_says_what_was_measured(report):
  assert report["benchmark"] == "model_step"
  assert report["cores"] >= 1
  assert {"python", "jax", "flax", "torch", "transformers"} <= report["versions"].keys()
  assert (report["rounds"], report["batch"]) == (2, 2)
  assert (report["image_tokens"], report["text_tokens"]) == (16, 6)
  assert report["model"] == dataclasses.asdict(TASK.model)
  assert [row["name"] for row in report["rows"]] == ROWS


def test_every_round_of_every_row_is_kept(report):
  ours, transformers, _ = report["rows"]
  for row in (ours, transformers):
    assert row["missing"] == ""
    for what in peers.PASSES:
      values, summary = row["seconds"][what], row["summary"][what]
      assert len(values) == 2
      assert 0 < summary["min_s"] <= summary["median_s"] <= summary["max_s"] == max(values)
      ratio = summary["median_s"] / ours["summary"][what]["median_s"]
      assert summary["times_ours"] == pytest.approx(ratio)
  assert "text positions" in ours["computes"]["forward"]
  assert "all positions" in transformers["computes"]["forward"]


def test_a_row_without_its_library_says_so(report):
  row = report["rows"][-1]
  assert "set BIG_VISION to a checkout" in row["missing"]
  assert row["seconds"] == row["summary"] == {}


def test_the_table_has_ratios_and_what_is_missing(report, capsys):
  peers._print_table(report)
  out = capsys.readouterr().out
  assert "batch 2, 16 image and 6 text tokens, 2 rounds" in " ".join(out.split())
  assert [line.split()[:2] for line in out.splitlines() if line.startswith("  ours")] == [
    ["ours", "forward"],
    ["ours", "step"],
  ]
  assert "big_vision: big_vision cannot be imported" in out


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"rows": ["ours", "mine"]}, "--only: 'mine' is not one of ours, transformers"),
    ({"rounds": 0}, "--rounds: 0"),
    ({"task": dataclasses.replace(TASK, batch=0)}, "--batch: 0"),
  ],
)
def test_what_cannot_be_measured_is_refused(change, message):
  arguments = {"task": TASK, "rows": ["ours"], "rounds": 1} | change
  with pytest.raises(InputError, match=message):
    peers.benchmark_model_step(**arguments)


def test_a_process_that_ends_is_named():
  """Text of a negative length makes it fail; so would a lack of memory."""
  broken = dataclasses.replace(TASK, text_tokens=-1)
  with pytest.raises(InputError, match="ours: its process ended with status 1"):
    peers.benchmark_model_step(broken, ["ours"], rounds=1)


def test_the_sizes_of_the_figures():
  """As stated wherever the figures are: SigLIP 12 x 384, Gemma 2 8 x 512, 256 + 128 tokens."""
  task = model_step.Task()
  img, llm = task.model.img, task.model.llm
  assert (task.batch, task.image_tokens, task.text_tokens) == (8, 256, 128)
  assert (img.depth, img.width, img.mlp_dim, img.num_heads) == (12, 384, 1536, 6)
  assert (llm.depth, llm.width, llm.mlp_dim, llm.vocab_size) == (8, 512, 2048, 4096)
  assert (llm.num_heads, llm.num_kv_heads, llm.head_size) == (8, 4, 64)
  assert task.tokens().shape == (8, 384)
  assert task.is_text().sum(axis=1).tolist() == [128] * 8


def test_the_command(run_cli, monkeypatch, tmp_path):
  calls = []
  monkeypatch.setattr(
    peers, "benchmark_model_step", lambda *args, **options: calls.append((args, options))
  )
  out = tmp_path / "b.json"
  arguments = ("--rounds", 3, "--batch", 2, "--only", "ours", "transformers", "--out", out)
  assert run_cli("benchmark", "model_step", *arguments) == (0, "", "")
  assert run_cli("benchmark", "model_step") == (0, "", "")
  assert calls == [
    ((model_step.Task(batch=2), ["ours", "transformers"]), {"rounds": 3, "out": out}),
    ((model_step.Task(), list(model_step.ROWS)), {"rounds": 5, "out": None}),
  ]
