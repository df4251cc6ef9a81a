"""The store of decoded frames: made once, bounded, shared, never left behind."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest

from vsumjax.data.prepared.store import BusyError, DecodedStore
from vsumjax.types import InputError


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  return tmp_path


def test_a_value_is_made_once_whoever_asks():
  store, made = DecodedStore(10_000), []

  def make(name):
    made.append(name)
    time.sleep(0.01)
    return np.full(10, int(name), np.uint8)

  def read(index):
    name = str(index % 5)
    return bytes(store.get(name, lambda: make(name))) == bytes([index % 5] * 10)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(pool.map(read, range(40)))
  assert sorted(made) == list("01234")


def test_the_least_recently_used_value_is_dropped_first():
  store = DecodedStore(25)
  for name in "abac":  # a is used again before c comes
    store.get(name, lambda: bytes(10))
    time.sleep(0.002)
  made = []
  for name in "acb":
    store.get(name, lambda name=name: made.append(name) or bytes(10))
  assert made == ["b"]
  assert store.used_bytes <= 25


def test_what_is_dropped_stays_readable_and_a_value_too_large_is_handed_out():
  store = DecodedStore(10)
  first = store.get("a", lambda: b"12345678")
  large = store.get("b", lambda: bytes(range(100)))
  assert bytes(first) == b"12345678" and bytes(large) == bytes(range(100))
  assert store.used_bytes <= 10


def test_values_are_read_only():
  view = DecodedStore(100).get("a", lambda: b"1234")
  with pytest.raises(TypeError, match="read-only"):
    view[0] = 0


def _make_in_child(pickled, name):
  store = pickle.loads(pickled)
  return bytes(store.get(name, lambda: str(os.getpid()).encode()))


def test_processes_share_it_and_only_the_first_removes_it():
  store = DecodedStore(1000)
  with concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context("spawn")
  ) as pool:
    answers = set(pool.map(_make_in_child, [pickle.dumps(store)] * 8, ["a"] * 8))
  assert len(answers) == 1
  assert store.folder.is_dir()
  assert bytes(store.get("a", lambda: b"mine")) in answers


def test_it_goes_with_its_process_and_what_a_killed_one_left_goes_with_the_next(temporary_folder):
  code = (
    f"import tempfile; tempfile.tempdir = {str(temporary_folder)!r}\n"
    "from vsumjax.data.prepared.store import BusyError, DecodedStore\n"
    "import sys, time\n"
    "store = DecodedStore(100); store.get('a', lambda: b'1'); print(store.folder, flush=True)\n"
    "time.sleep(float(sys.argv[1]))"
  )
  ended = subprocess.run([sys.executable, "-c", code, "0"], capture_output=True, text=True)
  assert ended.returncode == 0, ended.stderr
  assert not list(temporary_folder.iterdir())
  killed = subprocess.Popen([sys.executable, "-c", code, "60"], stdout=subprocess.PIPE, text=True)
  left = killed.stdout.readline().strip()
  living = DecodedStore(100)
  assert pathlib.Path(left).is_dir() and living.folder.is_dir()
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  killed.stdout.close()
  DecodedStore(100)
  assert not pathlib.Path(left).is_dir()
  assert living.folder.is_dir()


def _make_stores(folder, number):
  tempfile.tempdir = folder
  stores = [DecodedStore(100) for _ in range(number)]
  return [bytes(store.get("a", lambda: b"1")) for store in stores] == [b"1"] * number


def test_processes_that_start_at_once_take_nothing_from_each_other(temporary_folder):
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(4, mp_context=spawn) as pool:
    assert all(pool.map(_make_stores, [str(temporary_folder)] * 12, [40] * 12))


def test_a_folder_that_is_gone_is_told():
  store = DecodedStore(100)
  shutil.rmtree(store.folder)
  with pytest.raises(InputError, match="cannot keep decoded frames: No such file"):
    store.get("a", lambda: b"1")


def test_what_others_are_making_need_not_be_waited_for():
  store, begun, go_on = DecodedStore(100), threading.Event(), threading.Event()

  def slow():
    begun.set()
    go_on.wait()
    return b"1"

  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    made = pool.submit(store.get, "a", slow)
    begun.wait()
    with pytest.raises(BusyError):
      store.get("a", lambda: b"2", wait=False)
    go_on.set()
    assert bytes(made.result()) == b"1"
  assert bytes(store.get("a", lambda: b"2", wait=False)) == b"1"


def test_a_full_disk_is_told(monkeypatch):
  store = DecodedStore(100)

  def full(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("pathlib.Path.write_bytes", full)
  with pytest.raises(InputError, match=r"No space left.*TMPDIR"):
    store.get("a", lambda: b"1")
