"""A training run that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vsumjax.config import build_config, to_dict

ROOT = Path(__file__).parents[2]


def _children(pid):
  """Processes started by `pid`, and by those, that are alive."""
  found = []
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = stat.read_text().rsplit(")", 1)[1].split()
    except OSError:  # it ended meanwhile
      continue
    if int(fields[1]) == pid and fields[0] != "Z":
      child = int(stat.parent.name)
      found += [child, *_children(child)]
  return found


def _alive(pid):
  try:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False


def _is_worker(pid):
  """Whether `pid` is a spawned process at work, and not the tracker of shared memory beside it."""
  try:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
  except OSError:
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux' /proc")
def test_workers_end_with_the_run(config_values, write_config, tmp_path):
  changes = {"data.num_workers": 2, "train.num_steps": 10**6, "train.eval_every": 10**6}
  values = to_dict(build_config(config_values(**changes | {"train.checkpoint_every": 10**6})))
  config = write_config(tmp_path / "config.py", values)
  workdir = tmp_path / "run"
  command = [sys.executable, ROOT / "launch" / "train.py", "--config", config, "--workdir", workdir]
  with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL) as run:
    children, give_up = [], time.monotonic() + 120
    while sum(map(_is_worker, children)) < 2:
      assert run.poll() is None and time.monotonic() < give_up
      time.sleep(0.2)
      children = _children(run.pid)
    os.kill(run.pid, signal.SIGKILL)
  give_up = time.monotonic() + 20
  while any(map(_alive, children)) and time.monotonic() < give_up:
    time.sleep(0.2)
  left = [pid for pid in children if _alive(pid)]
  for pid in left:
    os.kill(pid, signal.SIGKILL)
  assert not left
