import os
import subprocess
import sys

import pytest

from vsumjax.host.files import remove_leftovers, replacing, staging, write_atomically


def test_content_appears_whole_in_a_new_folder(tmp_path):
  path = tmp_path / "a" / "b.json"
  write_atomically(path, "one é")
  assert path.read_text(encoding="utf-8") == "one é"
  write_atomically(path, b"\x00two")
  assert path.read_bytes() == b"\x00two"
  assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stands_until_the_body_ends(tmp_path):
  path = tmp_path / "video.mp4"
  path.write_text("old")
  with replacing(path) as temporary:
    assert temporary.suffix == ".mp4"  # libraries choose the format by it
    assert temporary.parent == tmp_path
    temporary.write_text("new")
    assert path.read_text() == "old"
  assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_body_that_fails_leaves_what_was_there(tmp_path, error):
  path = tmp_path / "x.txt"
  path.write_text("old")
  with pytest.raises(error), replacing(path) as temporary:
    temporary.write_text("half")
    raise error
  assert path.read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.txt"):
    pass


def test_leftovers_of_killed_writers_go_and_nothing_else(tmp_path):
  for name in ("a.mp4", ".hidden"):
    (tmp_path / name).write_text("kept")
  with replacing(tmp_path / "b.mp4") as temporary:
    temporary.write_text("half")
    remove_leftovers(tmp_path)
    assert not temporary.exists()
    temporary.write_text("whole")
  assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", ".hidden"}


def test_staging_clears_what_a_killed_process_left(tmp_path):
  ended = subprocess.Popen([sys.executable, "-c", ""])
  ended.wait()
  for pid in (ended.pid, os.getppid()):
    (tmp_path / f".out.{pid}.tmp").mkdir()
  (tmp_path / ".out.notes.tmp").mkdir()
  with staging(tmp_path / "out") as folder:
    (folder / "out").write_text("whole")
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"out", ".out.notes.tmp", f".out.{os.getppid()}.tmp"}
