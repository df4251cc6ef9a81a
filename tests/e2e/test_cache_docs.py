"""The commands and the figures of docs/cache.md."""

import re
import shlex
import struct
from pathlib import Path

import numpy as np

from vsumjax.benchmarks import cache
from vsumjax.data.teacher_cache.reader import CacheReader

DOCS = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()
COMMANDS = [
  line for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()
]


def test_the_commands_run(trained, run_cli, monkeypatch, tmp_path):
  assert len(COMMANDS) == 3
  (tmp_path / "runs" / "demo").mkdir(parents=True)
  (tmp_path / "runs" / "demo" / "teacher").symlink_to(trained)
  small = cache.Task(num_scores=9, num_texts=2, text_tokens=2, vocab_size=600)
  monkeypatch.setattr(cache, "Task", lambda: small)
  monkeypatch.chdir(tmp_path)
  for command in COMMANDS:
    program, script, *arguments = shlex.split(command)
    assert program == ".venv/bin/python"
    name = Path(script).stem.replace("_", "-")
    status, _, err = run_cli(name, *arguments)
    assert status == 0, f"{command}: {err}"
  reader = CacheReader("runs/demo/teacher_cache", {"num_classes": 5})  # as the example says
  assert reader[7].score_logits.shape == (2, 5) and reader[7].text is None


def test_a_record_is_laid_out_as_the_table_says(trained, run_cli, tmp_path):
  run_cli("cache-teacher", "--checkpoint", trained, "--out", tmp_path)
  reader = CacheReader(tmp_path, {})
  record = reader._shard_reader(0).read_bytes(7, 8)[0]
  version, kind, size, example = struct.unpack("<BBHI", record[:8])
  assert (version, kind, size, example) == (2, 1, 10, 7)
  assert np.array_equal(np.frombuffer(record[16:], "<f4"), reader[7].score_logits.ravel())
