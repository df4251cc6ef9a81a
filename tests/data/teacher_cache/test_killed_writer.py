"""A writer killed with SIGKILL between any two of its file operations: the rest is as if never."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_teacher_cache import CacheReader, contents, make_cache

from vsumjax.types import InputError

WRITER = Path(__file__).parent / "killed_writer.py"
MOST_OPERATIONS = 60


def write(folder, last):
  return subprocess.run(
    [sys.executable, WRITER, folder, str(last)], capture_output=True, text=True, timeout=120
  )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  return contents(make_cache(tmp_path_factory.mktemp("straight")))


@pytest.fixture(scope="module")
def num_operations(tmp_path_factory):
  finished = write(tmp_path_factory.mktemp("counted"), 0)
  assert finished.returncode == 0, finished.stderr
  count = int(finished.stdout)
  assert 20 < count <= MOST_OPERATIONS
  return count


def check(folder, last, straight):
  killed = write(folder, last)
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  left = contents(folder) if folder.exists() else {}
  whole = {name: data for name, data in left.items() if not name.startswith(".")}
  assert whole.items() <= straight.items()  # what has its name is complete
  if "MANIFEST.json" not in whole:
    with pytest.raises(InputError, match="not a finished teacher cache"):
      CacheReader(folder, {})
  assert contents(make_cache(folder)) == straight


def test_killed_anywhere_it_ends_as_if_never(num_operations, straight, tmp_path):
  rng = random.Random(0)
  sealing = range(num_operations - 8, num_operations + 1)
  for last in [*rng.sample(range(2, sealing.start), 2), *rng.sample(sealing, 2)]:
    check(tmp_path / str(last), last, straight)


@pytest.mark.long
@pytest.mark.parametrize("last", range(1, MOST_OPERATIONS + 1))
def test_killed_at_every_operation_it_ends_as_if_never(num_operations, straight, tmp_path, last):
  if last > num_operations:
    pytest.skip(f"it makes {num_operations} operations")
  check(tmp_path / "cache", last, straight)
