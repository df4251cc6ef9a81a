"""What TensorBoard reads: the values of metrics.jsonl, each step once."""

import json
import struct
from math import nan

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from vsumjax.training.events import EventsFile
from vsumjax.training.metrics import Log


def _events(path):
  """The records of an event file: length, its checksum, the message, its checksum."""
  content = path.read_bytes()
  while content:
    length, length_crc = struct.unpack("<QI", content[:12])
    message, (crc,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length :][:4])
    assert (length_crc, crc) == (masked_crc32c(content[:8]), masked_crc32c(message))
    yield event_pb2.Event.FromString(message)
    content = content[16 + length :]


def _as_tensorboard_shows(folder):
  """[(step, name, value)]: a START purges what earlier files say of its step and later ones."""
  shown = []
  for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
    for event in _events(path):
      if event.session_log.status == event_pb2.SessionLog.START:
        shown = [entry for entry in shown if entry[0] < event.step]
      shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
  return shown


@pytest.fixture
def write(tmp_path):
  def write(resumed, steps, offset=0.0):
    log = Log(tmp_path, writes=True)
    log.resume(resumed, is_evaluated=True)
    for step in steps:
      log.append(step, {"train/loss": step / 2 + offset, "goodput/steps": 0.5})
    log.close()

  return write


def test_a_resumed_run_shows_every_step_once(write, tmp_path):
  write(None, range(8))
  write(4, range(5, 8), offset=100.0)
  shown = _as_tensorboard_shows(tmp_path / "events")
  losses = {step: value for step, name, value in shown if name == "train/loss"}
  assert losses == {step: step / 2 + 100 * (step > 4) for step in range(8)}
  assert len(shown) == 16
  assert len(list((tmp_path / "events").iterdir())) == 2


def test_both_files_say_the_same(write, tmp_path):
  write(None, range(3))
  lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
  said = [(line["step"], name, line[name]) for line in lines for name in line if name != "step"]
  assert len(said) == 6
  assert _as_tensorboard_shows(tmp_path / "events") == said


def test_a_run_that_starts_anew_purges_all(write, tmp_path):
  write(None, range(3))
  write(None, range(1))
  assert {step for step, *_ in _as_tensorboard_shows(tmp_path / "events")} == {0}


def test_a_file_is_one_that_tensorboard_reads(tmp_path):
  file = EventsFile(tmp_path, 300)
  file.append(2**40, {"größe": -1.5, "too large": 1e300, "nan": nan})
  file.close()
  (path,) = tmp_path.iterdir()
  assert path.name.startswith("events.out.tfevents.")
  version, start, said = _events(path)
  assert version.file_version == "brain.Event:2"
  assert (start.step, start.session_log.status) == (300, event_pb2.SessionLog.START)
  assert (said.step, said.wall_time) == (2**40, pytest.approx(start.wall_time, abs=60))
  values = {value.tag: value.simple_value for value in said.summary.value}
  assert values == {
    "größe": -1.5,
    "too large": float("inf"),
    "nan": pytest.approx(nan, nan_ok=True),
  }


def test_nothing_is_made_where_nothing_is_written(write, tmp_path):
  write(3, ())
  log = Log(tmp_path, writes=False)
  log.resume(None, is_evaluated=True)
  log.append(1, {"train/loss": 1.0})
  assert list(tmp_path.iterdir()) == []
