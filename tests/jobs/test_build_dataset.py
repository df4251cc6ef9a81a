"""`vsumjax build-dataset`: what it writes, what it says, and what it refuses."""

import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from vsumjax.data.manifest import load_manifest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def manual_dir(tmp_path):
  """Two videos in the format of SumMe's authors."""
  folder = tmp_path / "manual" / "GT"
  folder.mkdir(parents=True)
  for name, num_people in (("First_video", 2), ("second", 3)):
    cells = np.empty((1, num_people), object)
    texts = np.empty((1, num_people), object)
    for person in range(num_people):
      cells[0, person], texts[0, person] = np.array([[1.0, 2.0]]), "ME"
    scipy.io.savemat(folder / f"{name}.mat", {
      "nFrames": 36_000, "FPS": 10, "video_duration": 3600.0,
      "user_score": np.eye(36_000, num_people, dtype=np.uint8),
      "gt_score": np.zeros((36_000, 1)), "segments": cells, "all_userIDs": texts,
    })  # fmt: skip
  return folder.parent


def rows(out):
  """{first column: the others} of a printed table."""
  return {
    cells[0]: cells[1:]
    for cells in (line.split("  ") for line in out.splitlines())
    for cells in ([cell.strip() for cell in cells if cell.strip()],)
    if len(cells) > 1
  }


def test_a_data_set_is_built_and_what_it_holds_is_told(run_cli, manual_dir, tmp_path):
  data = tmp_path / "data"
  (manual_dir / "second.mp4").touch()
  build = ("build-dataset", "summe", "--manual-dir", manual_dir, "--data-dir", data)
  status, out, err = run_cli(*build)
  path = data / "summe" / "1.0.0"
  assert (status, err) == (0, "")
  assert out.endswith(f"Built.\nAs a manifest: {path}\n")
  told = rows(out)
  assert told["videos"] == ["2"]
  assert told["annotators of a video"] == ["2 to 3"]
  assert told["hours"] == ["2.00"]
  assert told["titles"] == ["all"]
  assert told["video files"] == ["1 of 2"]
  assert told["KTS segments"] == ["none"]
  assert [video.id for video in load_manifest(path).videos] == ["First_video", "second"]
  status, again, err = run_cli(*build)
  assert (status, err) == (0, "")
  assert again == out.replace(
    "Built.", "It was there already; delete the folder to build it again."
  )


def test_every_eccv16_file_is_built(run_cli, tmp_path):
  manual_dir, data = tmp_path / "manual", tmp_path / "data"
  manual_dir.mkdir()
  for name in ("ovp", "tvsum"):
    with h5py.File(manual_dir / f"eccv16_dataset_{name}_google_pool5.h5", "w") as file:
      file["video_1/user_summary"] = np.ones((5, 30))
      file["video_1/n_frames"] = 30
      file["video_1/picks"] = [0, 15]
  build = ("build-dataset", "eccv16", "--manual-dir", manual_dir, "--data-dir", data)
  status, out, err = run_cli(*build)
  assert (status, err) == (0, "")
  paths = [line.removeprefix("As a manifest: ") for line in out.splitlines() if "As a" in line]
  assert paths == [str(data / "eccv16" / name / "1.0.0") for name in ("tvsum", "ovp")]
  assert rows(out)["seconds"] == ["none"]


@pytest.fixture
def videos(corpus, tmp_path):
  """A folder with two real videos, one with words, and one broken one."""
  folder = tmp_path / "videos"
  folder.mkdir()
  media = sorted((corpus / "media").glob("*.mp4"))
  (folder / "a.mp4").symlink_to(media[0])
  (folder / "b.mp4").symlink_to(media[1])
  (folder / "a.srt").write_text("")
  (folder / "broken.mp4").write_text("no video")
  (folder / "notes.txt").touch()
  return folder


def test_a_folder_becomes_a_manifest(run_cli, videos, tmp_path):
  out_path = tmp_path / "out" / "manifest.jsonl"
  labels = tmp_path / "labels.json"
  labels.write_text('{"b.mp4": {"unit_s": 1, "levels": [[1, 2]]}}')
  status, out, err = run_cli(
    "build-dataset", "folder", "--videos", videos, "--out", out_path, "--labels", labels,
    "--shares", "0", "0", "1",
  )  # fmt: skip
  assert status == 0
  assert out.endswith(
    f"other files, neither videos nor words beside one: 1\nThe manifest: {out_path}\n"
  )
  assert "left out: broken.mp4: not a video or sound file, or a broken one" in out
  assert err.startswith(f"look into {videos}: 1/3")
  assert rows(out)["train"] == ["0", "0.00", "0", "0", "0"]
  assert rows(out)["test"][0] == "2"
  assert rows(out)["test"][2:] == ["1", "1", "0"]
  a, b = load_manifest(out_path).videos
  assert (a.id, a.split, a.transcript.resolve()) == ("a.mp4", "test", videos / "a.srt")
  assert (b.id, b.split, b.labels.unit_s) == ("b.mp4", "test", 1.0)


@pytest.mark.parametrize(
  ("argv", "told"),
  [
    (["tvsum"], "tvsum needs --manual-dir"),
    (["summe", "--manual-dir", "x"], "summe needs --data-dir"),
    (["folder", "--out", "x"], "folder needs --videos"),
    (["folder", "--videos", "x"], "folder needs --out"),
    (["folder", "--videos", "none", "--out", "x"], "none: there is no such folder"),
    (["tvsum", "--manual-dir", "none", "--data-dir", "x"], "none: no such folder; get ydata-tv"),
    (["eccv16", "--manual-dir", "none", "--data-dir", "x"], "none: holds no eccv16_dataset_*.h5"),
  ],
)
def test_what_is_missing_is_told_in_one_line(run_cli, tmp_path, monkeypatch, argv, told):
  monkeypatch.chdir(tmp_path)
  status, out, err = run_cli("build-dataset", *argv)
  assert (status, out) == (2, "")
  assert err.startswith(f"vsumjax build-dataset: {told}")
  assert err.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


def test_a_broken_file_leaves_no_data_set(run_cli, manual_dir, tmp_path):
  (manual_dir / "GT" / "second.mat").write_bytes(b"cut")
  data = tmp_path / "data"
  status, out, err = run_cli(
    "build-dataset", "summe", "--manual-dir", manual_dir, "--data-dir", data
  )
  assert (status, out) == (2, "")
  assert err.startswith(
    f"vsumjax build-dataset: {manual_dir / 'GT' / 'second.mat'}: not a MATLAB 5"
  )
  assert err.count("\n") == 1
  assert not [path for path in data.rglob("*") if path.is_file()]


def test_the_script_is_quiet_and_imports_no_tensorflow(manual_dir, tmp_path):
  code = (
    "import runpy, sys\n"
    "try:\n  runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n  assert 'tensorflow' not in sys.modules\n"
  )
  script = str(ROOT / "launch" / "build_dataset.py")
  argv = [script, "summe", "--manual-dir", str(manual_dir), "--data-dir", str(tmp_path / "data")]
  done = subprocess.run(
    [sys.executable, "-c", f"import sys; sys.argv = {argv!r}\n{code}"],
    capture_output=True, text=True, check=False, cwd=ROOT,
  )  # fmt: skip
  assert (done.returncode, done.stderr) == (0, "")
  assert "Built." in done.stdout
