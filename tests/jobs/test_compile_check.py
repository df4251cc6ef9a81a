"""`compile-check`: the figures of a small model's programs, and the form of what is compiled."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vsumjax import cli
from vsumjax.tpu import hlo

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo.py"
TINY = [
  f"--config={CONFIG}:student",
  "--config.train.batch_size=32",
  "--config.tokenizer=none.model",
]


def compile_check(*options):
  """The command in a process of its own, with the compiler's own choices."""
  dropped = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
  environment = {name: value for name, value in os.environ.items() if name not in dropped}
  command = [sys.executable, ROOT / "launch" / "compile_check.py", *options]
  return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
  """Report and program of the demo student's train step on four chips."""
  pytest.importorskip("libtpu", reason="libtpu is not installed")
  out = tmp_path_factory.mktemp("checked")
  done = compile_check(
    *TINY, "--topology=v5e:2x2", f"--out={out}/r.json", f"--hlo={out}/p.txt",
    "--config.model.dtype=bfloat16", "--config.mesh.data=1", "--config.mesh.fsdp=4",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  report = json.loads((out / "r.json").read_text())
  return report, hlo.parse((out / "p.txt").read_text()), done


def test_the_report_has_the_figures(checked):
  report, _, done = checked
  assert 0 < report["core_ms"] <= report["predicted_ms"] < 100
  parts = report["core_ms"] + report["exposed_collective_ms"] + report["exposed_copy_ms"]
  assert report["predicted_ms"] == pytest.approx(parts)
  seconds, flops = report["predicted_ms"] / 1e3, report["model_flops_per_device"]
  assert report["mfu"] == pytest.approx(flops / seconds / 197e12)
  assert report["fits"]
  assert report["hbm_peak_bytes"] < report["hbm_capacity_bytes"] == int(15.75 * 2**30)
  assert len(report["operations"]) == len(report["buffers"]) == 10
  assert report["versions"].keys() == {"jax", "libtpu"}
  assert "MFU" in done.stdout
  assert "none.model: not there; a small tokenizer stands in" in done.stderr


def test_weights_are_gathered_and_their_gradients_are_exchanged(checked):
  """No loop over parts of a product, no synchronous all-reduce of the gradient of a weight."""
  report, module, _ = checked
  assert report["collectives"]["all-gather"]["count"] > 0
  assert report["collectives"]["all-to-all"]["count"] > 0
  assert not [name for name in module.computations if "windowed_dot" in name]
  for instructions in module.computations.values():
    for i in instructions:
      # Newer compilers gather a small vector by an all-reduce, named after its cast.
      if i.opcode == "all-reduce" and not i.op_name.endswith("convert_element_type"):
        assert not re.search(r"layers|encoderblock", i.op_name), i.op_name


@pytest.mark.parametrize(
  "program",
  [
    "score",
    pytest.param("cache", marks=pytest.mark.long),
    pytest.param("generate", marks=pytest.mark.long),
  ],
)
def test_programs_without_gradients_need_the_forward_flops(checked, program, tmp_path):
  out = tmp_path / "report.json"
  done = compile_check(*TINY, "--topology=v5e:2x2", f"--program={program}", f"--out={out}")
  assert done.returncode == 0, done.stderr[-3000:]
  report = json.loads(out.read_text())
  assert (report["program"], report["fits"]) == (program, True)
  assert report["predicted_ms"] > 0
  if program != "generate":
    forward = checked[0]["model_flops_per_device"] / 3
    assert report["model_flops_per_device"] == pytest.approx(forward)


def test_attention_runs_in_kernels_where_these_are_asked_for(tmp_path):
  pytest.importorskip("libtpu", reason="libtpu is not installed")
  done = compile_check(
    *TINY, "--topology=v5e:2x2", f"--hlo={tmp_path}/p.txt", "--config.model.attention=flash",
    "--config.model.dtype=bfloat16", "--config.mesh.data=1", "--config.mesh.fsdp=4",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  text = (tmp_path / "p.txt").read_text()
  # Forward, and the gradients of queries and of keys and values, in each of the two towers.
  assert text.count('custom_call_target="tpu_custom_call"') >= 6


def test_nothing_large_lies_whole_on_every_device(checked):
  assert checked[0]["replicated"] == []


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--topology=v5e:3x3"], "--topology: 'v5e:3x3' is not known"),
    (["--topology=v5e:2x2", "--program=run"], "--program: 'run' is not one of train, score"),
    (["--topology=v5e:2x2", "--config.mesh.fsdp=3"], "mesh: (data, fsdp, tensor)"),
    (
      ["--topology=v5e:2x2", "--slices=2", "--config.mesh.data=1", "--config.mesh.fsdp=8"],
      "mesh.data: 1 is not a multiple of the 2 slices",
    ),
    (["--topology=v5e:2x2", "--config.train.batch_size=30"], "30 rows in 1 parts do not divide"),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, said, capsys):
  if "is not known" not in said:
    pytest.importorskip("libtpu", reason="libtpu is not installed")
  assert cli.main(["compile-check", *TINY, *options]) == 2
  lines = capsys.readouterr().err.splitlines()
  assert said in lines[-1]
  assert len([line for line in lines if line.startswith("vsumjax")]) == 1


def test_advice_keeps_the_fastest_setting_that_fits(monkeypatch, tmp_path, capsys):
  """The search, on times made up: remat is faster, twice the rows do not fit, two slices help."""
  from vsumjax.experiment.config import load_config
  from vsumjax.jobs import advise
  from vsumjax.jobs.compile_check import Checked
  from vsumjax.tpu import topologies
  from vsumjax.types import InputError

  def check(config, topology, program):
    rows, remat = config.train.batch_size, config.task.model.remat
    if rows > 32:
      raise InputError("does not fit")
    ms = rows * (1.0 if remat else 2.0) * config.train.accumulate + 3 + len(config.compiler_options)
    figures = {"rows": rows, "predicted_ms": ms, "fits": True, "mfu": 0.5, "hbm_peak_bytes": 1}
    return Checked(figures, "")

  monkeypatch.setattr(advise, "check", check)
  overrides = {"train.batch_size": "32", "model.remat": "false", "tokenizer": "none.model"}
  config = load_config(f"{CONFIG}:student", overrides)
  out = tmp_path / "advice.json"
  best = advise.advise(config, topologies.parse("v5e:4x4"), out=out)
  assert best.changes == {"model.remat": True}
  assert best.ms_a_row == pytest.approx(35 / 32)
  tried = json.loads(out.read_text())["tried"]
  assert [each["why"] for each in tried if each["report"] is None] == ["does not fit"]
  assert len(tried) == 9
  assert "model.remat=True" in capsys.readouterr().out
