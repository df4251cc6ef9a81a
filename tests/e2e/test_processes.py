"""Two processes of one device give what one process of two devices gives: training and caching."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from launched import num_lines

from vsumjax.data.teacher_cache.reader import CacheReader

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


def _start(count, *command):
  """A command in `count` processes, which have two devices together."""
  port = _free_port()
  return [
    subprocess.Popen(
      [*map(str, (sys.executable, SCRIPT, port, index, count, *command))],
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


def _start_training(count, config, workdir):
  return _start(count, "train", "--config", config, "--workdir", workdir)


def _train(count, config, workdir):
  _end(_start_training(count, config, workdir), 0)
  finished = json.loads((workdir / "FINISHED.json").read_text())
  assert len(finished.pop("params_digest")) == 32  # of bits, which differ by rounding
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return finished, [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.long  # the test with all options says more
def test_two_processes_equal_one(write_config, config_values, tmp_path):
  config = write_config(tmp_path / "tiny.py", config_values())
  one, one_losses = _train(1, config, tmp_path / "one")
  two, two_losses = _train(2, config, tmp_path / "two")
  assert len(one_losses) == 6
  assert two_losses == pytest.approx(one_losses, abs=1e-5)
  assert two == one


def test_processes_that_would_share_rows_of_a_batch_are_refused(
  write_config, config_values, tmp_path
):
  """Each reads rows of its own; along `tensor` both need the same."""
  config = write_config(tmp_path / "tiny.py", config_values(mesh={"data": 1, "tensor": 2}))
  for out in _end(_start_training(2, config, tmp_path / "run"), 2):
    assert "mesh: {'data': 1, 'fsdp': 1, 'tensor': 2} cuts a batch into 1 parts" in out
  assert not (tmp_path / "run").exists()


def test_with_all_options_and_told_to_end_they_equal_one(write_config, config_values, tmp_path):
  """One of the two is told; both save the same step and end."""
  changes = {"train.num_steps": 24, "train.eval_every": 6, "train.checkpoint_every": 1000}
  config = write_config(tmp_path / "tiny.py", config_values(**OPTIONS, **changes))
  one, one_losses = _train(1, config, tmp_path / "one")
  workdir = tmp_path / "two"
  processes = _start_training(2, config, workdir)
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
  assert two_losses == pytest.approx(one_losses, abs=1e-5)
  assert two.pop("value") == pytest.approx(one.pop("value"), abs=1e-5)
  assert two == one
  assert two["metric"] == "validation/ce"


def _cache(count, checkpoint, out, *options, status=0):
  command = ("cache-teacher", "--checkpoint", checkpoint, "--out", out)
  sizes = () if "--verify" in options else ("--shard-size", 3)
  return _end(_start(count, *command, "--batch-size", 2, *sizes, *options), status)


def _assert_same_answers(one, other):
  """Of caches that differently many processes wrote: equal but for rounding."""
  assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
  one, other = CacheReader(one, {}), CacheReader(other, {})
  assert one.identity == other.identity
  moved = 0
  for example in range(len(one)):
    (scores, text), (other_scores, other_text) = one[example], other[example]
    np.testing.assert_allclose(scores, other_scores, atol=1e-5)
    if text is not None:
      assert text.tokens.tolist() == other_text.tokens.tolist()
      np.testing.assert_allclose(text.logsumexp, other_text.logsumexp, atol=1e-5)
      np.testing.assert_allclose(text.entropy, other_text.entropy, atol=1e-5)
      moved += (text.ids != other_text.ids).any(axis=1).sum()
  assert moved <= 1  # a draw may lie where rounding decides between two ids


@pytest.fixture(scope="module")
def straight(trained, tmp_path_factory):
  """The cache that one process writes."""
  out = tmp_path_factory.mktemp("straight") / "cache"
  _cache(1, trained, out)
  assert len(list(out.glob("shard-*"))) == 3
  return out


def test_two_processes_cache_the_same_answers_as_one(trained, straight, tmp_path):
  outputs = _cache(2, trained, tmp_path)
  _assert_same_answers(tmp_path, straight)
  assert f"cache {tmp_path}: 8/8, done in" in outputs[0]
  assert "cache" not in outputs[1]  # one process tells of all
  outputs = _cache(2, trained, tmp_path, "--verify")
  assert "8 examples; differ by" in outputs[0]
  assert "recompute" not in outputs[1]


def test_two_processes_cache_the_same_texts_as_one(trained, tmp_path):
  for count in (1, 2):
    _cache(count, trained, tmp_path / str(count), "--text", "sampled", "--max-new-tokens", 5)
  _assert_same_answers(tmp_path / "1", tmp_path / "2")


LONG = pytest.mark.long


@pytest.mark.parametrize(
  "missing", [(1,), pytest.param((0,), marks=LONG), pytest.param((1, 2), marks=LONG)]
)
def test_processes_finish_what_is_missing(trained, straight, tmp_path, missing):
  """One process may have more shards left than the other, or the only one."""
  out = shutil.copytree(straight, tmp_path / "cache")
  (out / "MANIFEST.json").unlink()
  for index in missing:
    (out / f"shard-{index:05d}-of-00003.arrayrecord").unlink()
  _cache(2, trained, out)
  _assert_same_answers(out, straight)


def test_where_one_process_fails_all_stop(trained, straight, tmp_path):
  """The first process finds that a shard is broken, while it seals and the other waits."""
  out = shutil.copytree(straight, tmp_path / "cache")
  (out / "MANIFEST.json").unlink()
  (out / "shard-00001-of-00003.arrayrecord").write_bytes(b"broken")
  outputs = _cache(2, trained, out, status=2)
  assert "shard-00001-of-00003.arrayrecord: the shard is broken" in outputs[0]
  assert "vsumjax cache-teacher: process 0 failed; its own output says why" in outputs[1]
