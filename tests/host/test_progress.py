import sys

import pytest

from vsumjax.host import progress as module
from vsumjax.host.progress import progress


class Clock:
  """Stands in for time.monotonic."""

  def __init__(self):
    self.now = 1000.0

  def monotonic(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(module, "time", clock)
  return clock


def test_lines_at_the_start_every_15_seconds_and_at_the_end(capsys, clock):
  with progress("train x") as update:
    for done in range(1, 41):
      update(done, 40, f"loss {done}")
      clock.now += 1
  out, err = capsys.readouterr()
  assert out == ""
  assert err.splitlines() == [
    "train x: 1/40, time left unknown  loss 1",
    "train x: 16/40, 24 s left  loss 16",
    "train x: 31/40, 9 s left  loss 31",
    "train x: 40/40, done in 39 s  loss 40",
  ]


def test_a_resumed_job_counts_its_speed_from_where_it_resumes(capsys, clock):
  with progress("train") as update:
    update(300, 400)
    clock.now += 20
    update(320, 400)
  assert capsys.readouterr().err.splitlines()[1] == "train: 320/400, 80 s left"


def test_a_job_of_one_step_says_it_is_done(capsys, clock):
  with progress("score") as update:
    update(7, 7, "windows")
  assert capsys.readouterr().err == "score: 7/7, done in 0 s  windows\n"


def test_a_terminal_gets_a_bar_on_standard_error(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  with progress("make videos") as update:
    update(3, 12, "note")
  out, err = capsys.readouterr()
  assert out == ""
  assert "make videos" in err
  assert "3/12" in err
  assert "note" in err
