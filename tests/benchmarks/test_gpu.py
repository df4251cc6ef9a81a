"""The GPU's benchmark at tiny size on the CPU, and what it says without a GPU."""

import json

import pytest

from vsumjax import cli, testing
from vsumjax.benchmarks import gpu
from vsumjax.models import exits


def test_every_part_is_measured(tmp_path, capsys):
  config = testing.tiny_config(exits=exits.ExitsConfig((3,)), dtype="bfloat16")
  sizes = gpu.Sizes(config, rows=2, text_tokens=6, matrix=64)
  report = gpu.benchmark_gpu(sizes, rounds=2, out=tmp_path / "gpu.json")
  assert json.loads((tmp_path / "gpu.json").read_text()) == report
  assert (report["rows"], report["tokens"]) == (2, 22)
  for name in ("train", "score"):
    row = report[name]
    assert row["segments_per_s"] == pytest.approx(2 / (row["ms"] / 1e3))
    assert row["mfu_of_measured_peak"] == pytest.approx(row["tflops"] * 1e12 / report["peak_flops"])
  assert 0 < report["train"]["loss"] < 10
  assert report["attention"].keys() == {"vision, xla", "decoder, xla"}
  assert all(row["relative_error"] < 0.02 for row in report["attention"].values())
  assert "segments a second" in capsys.readouterr().out


def test_the_3b_student_is_measured():
  sizes = gpu.full_size(16, remat=True)
  assert (sizes.tokens, sizes.config.llm.width, sizes.config.exits.layers) == (512, 2304, (26,))


def test_without_a_gpu_it_says_so(capsys):
  assert cli.main(["benchmark", "gpu"]) == 2
  assert "finds cpu here and no GPU" in capsys.readouterr().err
