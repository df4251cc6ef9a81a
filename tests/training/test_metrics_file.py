"""Means of (sum, weight) pairs and the file of them."""

import math

import pytest

from vsumjax.training.metrics import Log, Mean, MetricsFile
from vsumjax.types import InputError


def test_mean_divides_last():
  mean = Mean()
  mean.add({"loss": (6.0, 3.0), "norm": (5.0, 1.0)})
  mean.add({"loss": (4.0, 1.0)})
  assert mean.result() == {"loss": 2.5, "norm": 5.0}


def test_mean_of_no_weight_is_nan():
  mean = Mean()
  mean.add({"loss": (0.0, 0.0)})
  assert math.isnan(mean.result()["loss"])


@pytest.fixture
def file(tmp_path):
  file = MetricsFile(tmp_path / "metrics.jsonl")
  for step in (1, 2, 2, 3):
    file.append(step, {"loss": step / 2})
  return file


def test_lines_come_back_in_order(file):
  assert [line["step"] for line in file.read()] == [1, 2, 2, 3]
  assert list(file.read())[3] == {"step": 3, "loss": 1.5}


def test_a_mean_of_nothing_is_null(file):
  file.append(4, {"loss": math.nan, "other": 1.0})
  assert list(file.read())[-1] == {"step": 4, "loss": None, "other": 1.0}


def test_truncate_drops_later_lines_and_is_the_start_of_new_ones(file):
  file.truncate_after(2)
  file.append(3, {"loss": 9.0})
  assert [(line["step"], line["loss"]) for line in file.read()] == [
    (1, 0.5),
    (2, 1.0),
    (2, 1.0),
    (3, 9.0),
  ]


def test_an_evaluation_that_is_made_again_is_dropped_with_later_lines(tmp_path):
  file = MetricsFile(tmp_path / "metrics.jsonl")
  for step in (3, 6, 9):
    file.append(step, {"train/loss": 1.0})
    file.append(step, {"validation/loss": 2.0})
  file.truncate_after(6, is_evaluated=False)
  names = [(line["step"], *list(line)[1:]) for line in file.read()]
  assert names == [(3, "train/loss"), (3, "validation/loss"), (6, "train/loss")]


def test_a_log_that_cannot_be_written_names_its_folder(tmp_path):
  log = Log(tmp_path, writes=True)
  log.resume(None, is_evaluated=False)
  (tmp_path / "metrics.jsonl").mkdir()
  with pytest.raises(OSError, match=f"^{tmp_path}: metrics cannot be written: Is a directory$"):
    log.append(1, {"loss": 0.0})


def test_truncate_without_a_file_makes_none(tmp_path):
  MetricsFile(tmp_path / "none.jsonl").truncate_after(3)
  assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_line_is_passed_over_and_removed(file, tmp_path):
  path = tmp_path / "metrics.jsonl"
  with path.open("a") as out:
    out.write('{"step": 4, "lo')
  assert [line["step"] for line in file.read()] == [1, 2, 2, 3]
  file.truncate_after(4)
  file.append(4, {"loss": 2.0})
  assert [line["step"] for line in file.read()] == [1, 2, 2, 3, 4]


def test_a_broken_line_within_is_named(file, tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([lines[0], "{", lines[2]]) + "\n")
  with pytest.raises(InputError, match=r"metrics\.jsonl:2: not a JSON line"):
    list(file.read())


def test_only_one_process_writes(tmp_path, file):
  path = tmp_path / "metrics.jsonl"
  before = path.read_text()
  other = MetricsFile(path, writes=False)
  other.truncate_after(0)
  other.append(9, {"loss": 0.0})
  assert path.read_text() == before
