"""Caching killed with SIGKILL at a random moment, or by a full disk: the same bytes in the end."""

import os
import random
import subprocess
import sys
import time

import pytest
from launched import DEADLINE_S, ROOT, Launched

SHARDS = [f"shard-{index:05d}-of-00008.arrayrecord" for index in range(8)]
OPTIONS = ("--batch-size", "1", "--shard-size", "1")


class Caching(Launched):
  """launch/cache_teacher.py with a shard for each example."""

  def __init__(self, checkpoint, out):
    super().__init__("cache_teacher.py", "--checkpoint", checkpoint, "--out", out, *OPTIONS)
    self.out = out


def _contents(out):
  return {path.name: path.read_bytes() for path in out.iterdir()}


def _num_shards(out):
  return sum((out / name).exists() for name in SHARDS)


@pytest.fixture(scope="module")
def straight(trained, tmp_path_factory):
  """What a run gives that nobody disturbs."""
  out = tmp_path_factory.mktemp("straight") / "cache"
  Caching(trained, out).end(0)
  assert sorted(_contents(out)) == ["MANIFEST.json", "identity.json", *SHARDS]
  return _contents(out)


def _kill_after(caching, num_shards, rng):
  identity = caching.out / "identity.json"
  caching.wait_until(lambda: identity.exists() and _num_shards(caching.out) >= num_shards)
  time.sleep(rng.uniform(0, 0.01))
  caching.kill()
  return {name: data for name, data in _contents(caching.out).items() if name[0] != "."}


def test_killed_twice_it_ends_as_if_never(trained, straight, tmp_path):
  rng = random.Random(0)
  out = tmp_path / "cache"
  for num_shards in (1, 3):
    left = _kill_after(Caching(trained, out), num_shards, rng)
    assert left.items() <= straight.items()
  err = Caching(trained, out).end(0)
  num_left = len(left.keys() & set(SHARDS))
  assert f"cache {out}: {num_left + 1}/8" in err  # it went on from the shards that were there
  assert _contents(out) == straight


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_killed_many_times_it_ends_as_if_never(trained, straight, tmp_path, seed):
  rng = random.Random(seed)
  out = tmp_path / "cache"
  for num_shards in (0, 2, 4, 7):
    assert _kill_after(Caching(trained, out), num_shards, rng).items() <= straight.items()
  Caching(trained, out).end(0)
  assert _contents(out) == straight


# In a namespace of its own, where an ordinary user may mount: a small disk, a run, a larger disk, a
# second run. What was there after each is copied out.
FULL_DISK = """
mount -t tmpfs -o size=$SIZE none "$OUT" || exit 99
"$@"; first=$?
cp -R "$OUT/." "$AFTER_FIRST"
mount -o remount,size=100m "$OUT"
"$@" || exit 98
cp -R "$OUT/." "$AFTER_SECOND"
exit $first
"""


def _in_namespace(script, *arguments, **variables):
  command = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    script,
    "sh",
    *arguments,
  ]
  try:
    return subprocess.run(
      list(map(str, command)),
      env=os.environ | {name: str(value) for name, value in variables.items()},
      capture_output=True,
      text=True,
      timeout=2 * DEADLINE_S,
    )
  except FileNotFoundError:
    pytest.skip("needs unshare, of util-linux")


@pytest.fixture
def small_disk(tmp_path):
  (tmp_path / "probe").mkdir()
  probe = _in_namespace('mount -t tmpfs none "$OUT"', OUT=tmp_path / "probe")
  if probe.returncode:
    pytest.skip(f"needs to mount without being root: {probe.stderr.strip()}")


# A shard is 128 KiB, the identity a page: full at the third shard, or with the last one.
@pytest.mark.parametrize(
  ("size", "finished", "failed"),
  [
    ("300k", SHARDS[:2], SHARDS[2]),
    pytest.param("1028k", SHARDS, "MANIFEST.json", marks=pytest.mark.long),
  ],
)
def test_a_full_disk_loses_nothing(trained, straight, small_disk, tmp_path, size, finished, failed):
  folders = {name: tmp_path / name for name in ("OUT", "AFTER_FIRST", "AFTER_SECOND")}
  for folder in folders.values():
    folder.mkdir()
  script = ROOT / "launch" / "cache_teacher.py"
  command = (sys.executable, script, "--checkpoint", trained, "--out", folders["OUT"], *OPTIONS)
  ended = _in_namespace(FULL_DISK, *command, SIZE=size, **folders)
  assert ended.returncode == 2, ended.stderr
  told = [line for line in ended.stderr.splitlines() if not line.startswith("cache ")]
  assert len(told) == 1
  path = folders["OUT"] / failed
  assert told[0].startswith(f"vsumjax cache-teacher: {path}: cannot be written: ")
  assert "No space left on device" in told[0]
  assert told[0].endswith("what is finished stays, and the same command resumes")
  left = _contents(folders["AFTER_FIRST"])
  assert sorted(left) == sorted(["identity.json", *finished])
  assert left.items() <= straight.items()
  assert _contents(folders["AFTER_SECOND"]) == straight
