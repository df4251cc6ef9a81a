"""A launch script in a process of its own, to be stopped at a moment of choice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240

# A training to be disturbed, and all that its state may hold.
NUM_STEPS = 40
STEPS = {"train.num_steps": NUM_STEPS, "train.eval_every": 10, "train.log_every": 1}
OPTIONS = {
  "train.accumulate": 2,
  "train.ema_decay": 0.9,
  "train.keep_best": "validation/loss",
}

needs_proc = pytest.mark.skipif(
  not Path("/proc/self/stat").exists(), reason="needs Linux' /proc to see processes"
)


class Launched:
  """launch/SCRIPT with its arguments; its output is kept until it ends."""

  def __init__(self, script, *arguments):
    command = [sys.executable, ROOT / "launch" / script, *arguments]
    self._process = subprocess.Popen(
      list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    self.pid = self._process.pid

  def wait_until(self, happened):
    """Waits as long as the process runs and the deadline has not passed."""
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
      assert self._process.poll() is None, self._process.stderr.read()
      assert time.monotonic() < deadline
      time.sleep(0.001)

  def end(self, status):
    """Waits for it to end with this status; what it wrote to stderr."""
    _, err = self._process.communicate(timeout=DEADLINE_S)
    assert self._process.returncode == status, err
    return err

  def interrupt(self):
    """Presses Ctrl-C and waits; what it wrote to stderr."""
    self._process.send_signal(signal.SIGINT)
    return self.end(130)

  def terminate(self, status=143):
    """Asks it to end and waits; what it wrote to stderr, and the seconds it took."""
    started = time.monotonic()
    self._process.send_signal(signal.SIGTERM)
    err = self.end(status)
    return err, time.monotonic() - started

  def kill(self):
    self._process.send_signal(signal.SIGKILL)
    assert self._process.wait(DEADLINE_S) == -signal.SIGKILL
    self._process.stdout.close()  # what it started may hold the other ends
    self._process.stderr.close()

  def workers(self):
    """Process ids of those it started, and of those that they started, that run."""
    return _started_by(self.pid)


class Training(Launched):
  """launch/train.py."""

  def __init__(self, config, workdir):
    super().__init__("train.py", "--config", config, "--workdir", workdir)
    self.workdir = workdir

  def kill(self):
    super().kill()
    assert not (self.workdir / "FINISHED.json").exists()

  def finish(self):
    """The first step it made."""
    err = self.end(0)
    steps = [line for line in err.splitlines() if line.startswith(f"train {self.workdir}: ")]
    told, _, table = err.partition("time of this run")
    assert told.split() == " ".join(steps).split(), err
    assert "steps" in table, err
    return int(steps[0].split(": ")[1].split("/")[0])


def num_lines(workdir):
  """Steps that were logged."""
  path = workdir / "metrics.jsonl"
  return path.read_text().count("train/loss") if path.exists() else 0


def result(workdir):
  """What FINISHED.json says, and what was logged of each step."""
  finished = json.loads((workdir / "FINISHED.json").read_text())
  names = ("step", "train/loss", "train/grad_norm", "validation/loss")
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return finished, [[line.get(name) for name in names] for line in lines]


def _started_by(pid):
  found = []
  for entry in Path("/proc").glob("[0-9]*"):
    fields = _stat(entry.name)
    if fields and int(fields[1]) == pid and fields[0] != "Z":
      found += [int(entry.name), *_started_by(int(entry.name))]
  return found


def _is_running(pid):
  fields = _stat(pid)
  return bool(fields) and fields[0] != "Z"


def _stat(pid):
  """State, parent, ...: the fields of /proc/PID/stat after the name; none of a process gone."""
  try:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
  except OSError:
    return []


def require_gone(pids, within_s=20):
  """Waits until all have ended; ends and reports those that stay."""
  deadline = time.monotonic() + within_s
  while any(map(_is_running, pids)) and time.monotonic() < deadline:
    time.sleep(0.01)
  left = [pid for pid in pids if _is_running(pid)]
  for pid in left:
    os.kill(pid, signal.SIGKILL)
  assert not left
