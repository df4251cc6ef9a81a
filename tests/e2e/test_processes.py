"""Two processes of one device give what one process of two devices gives: training and caching."""

import json
import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "two_processes.py"


def _free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def _run(count, *command):
  """Runs a command in `count` processes, which have two devices together."""
  port = _free_port()
  processes = [
    subprocess.Popen(
      [*map(str, (sys.executable, SCRIPT, port, index, count, *command))],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(count)
  ]
  outputs = [process.communicate(timeout=240)[0] for process in processes]
  return [process.returncode for process in processes], outputs


def _train(count, config, workdir):
  statuses, outputs = _run(count, "train", "--config", config, "--workdir", workdir)
  assert statuses == [0] * count, outputs
  finished = json.loads((workdir / "FINISHED.json").read_text())
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return finished, [line["train/loss"] for line in lines if "train/loss" in line]


def test_two_processes_equal_one(write_config, config_values, tmp_path):
  config = write_config(tmp_path / "tiny.py", config_values())
  one, one_losses = _train(1, config, tmp_path / "one")
  two, two_losses = _train(2, config, tmp_path / "two")
  assert len(one_losses) == 6
  assert two_losses == one_losses
  assert two == one


SHARD_SIZE = "4"


def _cache(count, checkpoint, out, *options):
  return _run(count, "cache-teacher", "--checkpoint", checkpoint, "--out", out, *options)


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}
