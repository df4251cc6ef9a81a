"""Every moment belongs to one kind."""

import pytest

from vsumjax.training import goodput


@pytest.fixture
def clock(monkeypatch):
  """A clock whose time is moved by hand: `clock.pass_s(seconds)`."""
  now = [100.0]
  monkeypatch.setattr(goodput.time, "monotonic", lambda: now[0])
  clock = goodput.Clock()

  def pass_s(seconds):
    now[0] += seconds

  clock.pass_s = pass_s
  return clock


def _spend(clock):
  clock.pass_s(1)
  with clock.spending("evaluation"):
    clock.pass_s(2)
    with clock.spending("compile"):
      clock.pass_s(4)
    clock.pass_s(1)
  with clock.spending("steps"):
    clock.pass_s(8)
  clock.pass_s(4)


def test_what_is_spent_within_another_kind_is_not_counted_twice(clock):
  _spend(clock)
  assert clock.seconds() == {
    "steps": 8,
    "data": 0,
    "evaluation": 3,
    "checkpoints": 0,
    "compile": 4,
    "other": 5,
  }
  assert clock.shares()["steps"] == 0.4
  assert sum(clock.shares().values()) == pytest.approx(1)


def test_the_kind_in_progress_is_counted_up_to_now(clock):
  with clock.spending("data"):
    clock.pass_s(3)
    assert clock.seconds()["data"] == 3
    clock.pass_s(1)
  assert clock.seconds()["data"] == 4


def test_an_error_ends_a_kind(clock):
  with pytest.raises(KeyError), clock.spending("steps"):
    clock.pass_s(1)
    raise KeyError
  clock.pass_s(1)
  assert clock.seconds()["steps"] == clock.seconds()["other"] == 1


def test_the_table_goes_to_standard_error(clock, capsys):
  _spend(clock)
  clock.print_table()
  out, err = capsys.readouterr()
  assert out == ""
  rows = {line.split()[0]: line.split()[1:4] for line in err.splitlines() if line.strip("─ ")}
  assert rows["steps"] == ["8.0", "40.0", "%"]
  assert rows["all"] == ["20.0", "100.0", "%"]
  assert set(goodput.KINDS) < set(rows)
