"""The benchmark of teacher caches at tiny size, and its figures of bytes at full size."""

import json
import os

import numpy as np
import pytest

from vsumjax.benchmarks import cache
from vsumjax.benchmarks.cache import Task, benchmark_cache
from vsumjax.types import InputError

TASK = Task(num_scores=60, num_texts=6, text_tokens=5, vocab_size=600, num_made=2)


def test_every_kind_is_written_and_read(tmp_path, capsys):
  out = tmp_path / "cache.json"
  cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
  report = benchmark_cache(tmp_path / "root", task=TASK, rounds=2, out=out)
  assert json.loads(out.read_text()) == json.loads(json.dumps(report))
  assert [row["name"] for row in report["rows"]] == ["score", "sampled", "topk"]
  for row in report["rows"]:
    passes = cache.PASSES if row["tokens_per_record"] else cache.PASSES[1:]
    assert {name: len(values) for name, values in row["seconds"].items()} == dict.fromkeys(
      passes, 2
    )
    summary = row["summary"]
    assert summary["bytes_per_record"] == row["num_bytes"] / row["num_records"]
    median = np.median(row["seconds"]["write"])
    assert summary["write"]["records_per_s"] == pytest.approx(row["num_records"] / median)
    assert summary["write"]["tokens_per_s"] == pytest.approx(
      row["num_records"] * row["tokens_per_record"] / median
    )
  made = report["rows"][2]
  assert made["summary"]["make"]["tokens_per_s"] == pytest.approx(
    2 * 5 / np.median(made["seconds"]["make"])
  )
  assert "records/s" in capsys.readouterr().out
  assert not list((tmp_path / "root").iterdir())
  if cores:
    assert report["pinned_to_one_core"] and os.sched_getaffinity(0) == cores


def test_bytes_on_disk_stay_within_what_was_promised(tmp_path):
  """Containers and headers included, where almost all draws differ, which takes the most."""
  bounds = {"score": ("bytes_per_record", 64), "sampled": ("bytes_per_token", 48)}
  bounds["topk"] = ("bytes_per_token", 560)
  task = Task(num_scores=8192, num_texts=1024, vocab_size=20_000, num_made=2, zipf=(0.0, 0.0))
  for name, (what, most) in bounds.items():
    row = cache._row(task, name)
    cache._time(task, row, tmp_path / name)
    assert cache._summary(task, row)[what] <= most


def test_made_up_distributions_are_of_all_sorts():
  logits_yV = cache._made_logits(Task(), 0)
  probs = np.exp(logits_yV - np.logaddexp.reduce(logits_yV, axis=1)[:, None])
  entropy = -(probs * np.log(probs)).sum(axis=1)
  assert entropy.min() < 1 and entropy.max() > 5


def test_no_round_is_refused(tmp_path):
  with pytest.raises(InputError, match="--rounds"):
    benchmark_cache(tmp_path, rounds=0)
