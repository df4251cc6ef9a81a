"""`make demo` as a newcomer types it: a fresh clone, its own virtual environment, full size."""

import json
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _make_demo(clone):
  """Seconds that `make demo` took, and what it printed."""
  environment = dict(os.environ)
  environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)  # set for the tests' own processes
  started = time.monotonic()
  command = ["make", "--silent", "demo"]
  result = subprocess.run(
    command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=True
  )
  return time.monotonic() - started, result.stdout


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_demo_from_a_fresh_clone(tmp_path):
  clone = tmp_path / "clone"
  subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
  took_s, printed = _make_demo(clone)
  again_s, printed_again = _make_demo(clone)
  peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  print(f"first {took_s:.0f} s, second {again_s:.0f} s, peak {peak_bytes / 2**30:.2f} GiB")
  assert took_s <= 600
  assert again_s <= 60
  assert peak_bytes <= 6 * 2**30
  assert "annotators' ceiling" in printed
  assert printed_again == printed

  demo = clone / "runs" / "demo"
  for name in ("summary.mp4", "index.html", "storyboard.png", "timeline.png", "scores.json"):
    assert (demo / "summary" / name).stat().st_size > 0
  evaluation = json.loads((demo / "evaluation" / "evaluation.json").read_text())
  context = {row["name"]: row["tau"] for row in evaluation["context"]}
  last = evaluation["exits"][-1]
  assert last["share_of_ceiling"] >= 0.6
  assert last["tau"] >= context["centre prior"] + 0.15
