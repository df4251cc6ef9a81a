"""The scripts as a user runs them: no noise of the libraries, one line for what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _launch(script, *arguments):
  command = [sys.executable, ROOT / "launch" / script, *arguments]
  return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240)


def _assert_one_line(result, named):
  assert result.returncode == 2
  assert result.stdout == ""
  assert result.stderr.count("\n") == 1, result.stderr
  assert named in result.stderr


def test_an_unknown_config_key(tmp_path):
  config = ROOT / "configs" / "demo.py"
  workdir = tmp_path / "run"
  result = _launch(
    "train.py", "--config", f"{config}:teacher", "--workdir", workdir, "--config.train.sede=3"
  )
  _assert_one_line(result, "train.sede: unknown; did you mean train.seed?")
  assert not workdir.exists()


def test_a_text_file_named_mp4(trained, tmp_path):
  path, out = tmp_path / "text.mp4", tmp_path / "out"
  path.write_text("not a video\n" * 100)
  result = _launch("summarize.py", "--video", path, "--checkpoint", trained, "--out", out)
  _assert_one_line(result, f"{path}: not a video")
  assert not out.exists()


def test_a_folder_that_is_no_workdir(tmp_path):
  result = _launch("evaluate.py", "--checkpoint", tmp_path, "--out", tmp_path / "out")
  _assert_one_line(result, f"{tmp_path}: training has not finished there")
  assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_eight_devices_serves_on_one(trained, corpus, tmp_path):
  """Trained on eight, in this process; a process of its own has one."""
  out = tmp_path / "out"
  video = corpus / "media" / "test_000.mp4"
  result = _launch("summarize.py", "--video", video, "--checkpoint", trained, "--out", out)
  assert result.returncode == 0, result.stderr
  assert f"open {out / 'index.html'}" in result.stdout
  lines = result.stderr.splitlines()
  assert lines
  assert all(line.startswith(("score: ", "render: ")) for line in lines), result.stderr


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "launch").glob("*.py")))
def test_every_script_explains_itself(script):
  result = _launch(script, "--help")
  assert result.returncode == 0
  assert "usage: " in result.stdout
  assert result.stderr == ""
