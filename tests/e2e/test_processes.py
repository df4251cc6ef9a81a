"""Two processes of one device train to the same numbers as one process of two devices."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from launched import num_lines

SCRIPT = Path(__file__).parent / "two_processes.py"
OPTIONS = {
  "train.accumulate": 2,
  "train.ema_decay": 0.8,
  "train.keep_best": "validation/ce",
}


def _free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def _start(count, config, workdir):
  port = _free_port()
  command = ["train", "--config", str(config), "--workdir", str(workdir)]
  return [
    subprocess.Popen(
      [*map(str, (sys.executable, SCRIPT, port, index, count)), *command],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(count)
  ]


def _end(processes, status):
  """What they wrote."""
  outs = [process.communicate(timeout=240)[0] for process in processes]
  assert [process.returncode for process in processes] == [status] * len(processes), outs
  return outs


def _train(count, config, workdir):
  _end(_start(count, config, workdir), 0)
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


def test_with_all_options_and_told_to_end_they_equal_one(write_config, config_values, tmp_path):
  """One of the two is told; both save the same step and end."""
  changes = {"train.num_steps": 24, "train.eval_every": 6, "train.checkpoint_every": 1000}
  config = write_config(tmp_path / "tiny.py", config_values(**OPTIONS, **changes))
  one, one_losses = _train(1, config, tmp_path / "one")
  workdir = tmp_path / "two"
  processes = _start(2, config, workdir)
  while num_lines(workdir) < 4:
    assert [process.poll() for process in processes] == [None, None]
    time.sleep(0.01)
  processes[1].send_signal(signal.SIGTERM)
  outs = _end(processes, 143)
  first, second = (out.splitlines()[-1] for out in outs)
  assert first == second
  assert first.startswith("vsumjax train: stopped; saved at step ")
  two, two_losses = _train(2, config, workdir)
  assert len(one_losses) == 24
  assert two_losses == one_losses
  assert two == one
  assert two["metric"] == "validation/ce"
