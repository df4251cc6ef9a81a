"""Every full-size config compiles for the slice it is meant for, with memory to spare; minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vsumjax.studies.tpu_tables import ROWS

pytest.importorskip("libtpu", reason="libtpu is not installed")
ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what} {row.program} {row.topology}")
def test_it_fits_with_five_percent_to_spare(row, tmp_path):
  dropped = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
  environment = {name: value for name, value in os.environ.items() if name not in dropped}
  out = tmp_path / "report.json"
  command = [
    sys.executable, "launch/compile_check.py", "--config", row.config, "--topology", row.topology,
    "--program", row.program, "--out", out,
    *(f"--config.{key}={value}" for key, value in row.changes.items()),
  ]  # fmt: skip
  done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  report = json.loads(out.read_text())
  assert report["hbm_peak_bytes"] <= 0.95 * report["hbm_capacity_bytes"]
  assert report["mfu"] > 0
