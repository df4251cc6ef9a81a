"""SIGTERM is remembered while there is something to save, and has its own meaning otherwise."""

import os
import signal
import threading

import pytest

from vsumjax.host.stopping import Interrupted, Stop


@pytest.fixture(autouse=True)
def taken():
  """SIGTERM as a test may send it: the signals that came through, in a list."""
  came = []
  before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
  yield came
  signal.signal(signal.SIGTERM, before)


def _terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def test_it_is_remembered_once_there_is_something_to_save(taken):
  with Stop() as stop:
    _terminate()
    assert (len(taken), stop.is_due()) == (1, False)
    stop.defer()
    stop.defer()
    assert not stop.is_due()
    _terminate()
    assert (len(taken), stop.is_due()) == (1, True)
  _terminate()
  assert len(taken) == 2


def test_waiting_is_interrupted(taken):
  with Stop() as stop:
    stop.defer()
    with pytest.raises(Interrupted), stop.interrupts():
      _terminate()
      threading.Event().wait(60)
    assert stop.is_due()
    with pytest.raises(Interrupted), stop.interrupts():  # what came before the wait counts, too
      pytest.fail("waited")
    _terminate()  # outside, nothing is raised
  assert taken == []


def _items(error=None):
  yield 1
  yield 2
  _terminate()
  if error:
    raise error
  yield 3


@pytest.mark.parametrize("error", [None, RuntimeError("a worker was told to end, too")])
def test_waiting_for_items_is_interrupted(taken, error):
  got = []
  with Stop() as stop:
    stop.defer()
    with pytest.raises(Interrupted):
      for item in stop.waiting_for(_items(error)):
        got.append(item)
  assert (got, taken) == ([1, 2], [])


def test_items_come_to_their_end_and_errors_through(taken):
  with Stop() as stop:
    assert list(stop.waiting_for(_items())) == [1, 2, 3]  # SIGTERM is not ours yet
    stop.defer()
    with pytest.raises(ZeroDivisionError):
      list(stop.waiting_for(1 / zero for zero in (0,)))
  assert len(taken) == 1


def test_an_error_after_sigterm_is_no_error(taken):
  """A worker that died of the same signal may be noticed first."""
  with Stop() as stop:
    stop.defer()

    def die():
      stop._asked = True
      raise RuntimeError

    with pytest.raises(Interrupted), stop.interrupts():
      die()
  assert taken == []


def test_waiting_before_there_is_something_to_save_is_as_ever(taken):
  with Stop() as stop, stop.interrupts():
    _terminate()
  assert len(taken) == 1


def test_in_a_thread_nothing_is_deferred(taken):
  stop = Stop()
  thread = threading.Thread(target=stop.defer)
  thread.start()
  thread.join()
  _terminate()
  assert (len(taken), stop.is_due()) == (1, False)
