"""What processes agree on, for a job of one; tests/e2e/test_processes.py has two."""

import numpy as np
import pytest

from vsumjax.host import together
from vsumjax.types import InputError


def test_a_job_of_one_agrees_with_itself():
  assert [each.tolist() for each in together.gather(3, True)] == [[3], [1]]
  assert together.on_all(lambda: "done") == "done"
  ran = []
  together.on_first(lambda: ran.append(1))
  assert ran == [1]


def test_its_own_failure_is_what_it_was():
  def fail():
    raise OSError("the disk is full")

  with pytest.raises(OSError, match="the disk is full"):
    together.on_all(fail)


def test_the_others_learn_which_process_failed(monkeypatch):
  everyone = np.array([[0], [0], [1]], np.int32)
  monkeypatch.setattr(together.multihost_utils, "process_allgather", lambda own: everyone)
  with pytest.raises(InputError, match="process 2 failed; its own output says why"):
    together.on_all(lambda: None)
