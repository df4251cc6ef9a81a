import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import three_videos
from authors_files import TVSUM, tvsum_levels, write_tvsum_mat

from vsumjax.data.builders import Eccv16, Summe, Tvsum, base, stored, tvsum
from vsumjax.data.manifest import load_manifest, save_manifest
from vsumjax.data.windows import WindowSource
from vsumjax.types import InputError


@pytest.fixture
def built(build, manual_dir):
  """The folder of a built TVSum of three videos, one of them there."""
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  (manual_dir / "xxdtq8mxegs.mp4").write_bytes(b"a video")
  return build(Tvsum)


def test_a_data_set_that_is_there_is_left_as_it_is(built, manual_dir, tmp_path):
  before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
  shutil.rmtree(manual_dir)
  assert stored.build(Tvsum, manual_dir, tmp_path / "data") == (built, False)
  assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before


def test_nothing_else_is_left_beside_it(built, tmp_path):
  data = tmp_path / "data"
  assert built == data / "tvsum" / "1.0.0"
  assert [path.name for path in data.iterdir()] == ["tvsum"]
  assert [path.name for path in (data / "tvsum").iterdir()] == ["1.0.0"]
  info = json.loads((built / "dataset_info.json").read_text())
  assert info["fileFormat"] == "array_record"
  assert info["disableShuffling"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError("broken")])
def test_an_interrupted_build_leaves_nothing_half_done(
  build, manual_dir, tmp_path, monkeypatch, error
):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  whole = tvsum.load_annotations

  def interrupted(folder):
    examples = whole(folder)
    yield next(examples)
    raise error

  with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, InputError)):
    patch.setattr(tvsum, "load_annotations", interrupted)
    build(Tvsum)
  assert list((tmp_path / "data").rglob("*")) == [tmp_path / "data" / "tvsum"]
  assert len(load_manifest(build(Tvsum)).videos) == 3


def test_what_a_killed_build_left_is_cleared(build, manual_dir, tmp_path):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                            capture_output=True, check=True, text=True)  # fmt: skip
  left = tmp_path / "data" / "tvsum" / f".1.0.0.{int(finished.stdout)}.tmp"
  left.mkdir(parents=True)
  build(Tvsum)
  assert not left.exists()


def test_a_folder_in_the_way_is_told(build, manual_dir, tmp_path):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  target = tmp_path / "data" / "tvsum" / "1.0.0"
  target.mkdir(parents=True)
  with pytest.raises(InputError, match=r"1\.0\.0: is there and holds no dataset_info\.json"):
    build(Tvsum)
  assert target.exists()


@pytest.mark.parametrize(("builder", "file"), [(Tvsum, tvsum.MAT_FILE), (Summe, "GT")])
def test_a_missing_or_empty_manual_dir_is_told(build, manual_dir, builder, file):
  with pytest.raises(InputError, match=file) as raised:  # empty
    build(builder)
  assert "\n" not in str(raised.value)
  assert str(manual_dir) in str(raised.value)
  manual_dir.rmdir()
  with pytest.raises(InputError, match=f"manual: no such folder; get .*{file}"):
    build(builder)


_READ_BACK = """
import sys, warnings
import tensorflow_datasets as tfds
import vsumjax.data.builders
with warnings.catch_warnings():
  warnings.simplefilter("ignore", DeprecationWarning)  # of TFDS's own protocol buffers
  by_name = tfds.data_source("tvsum", split="train", data_dir=sys.argv[1])
  by_folder = tfds.builder_from_directory(sys.argv[2]).as_data_source(split="train")
for source in by_name, by_folder:
  assert len(source) == 3
  print(source[1]["video_id"].decode(), source[1]["user_anno"].sum(), source[1]["length_s"])
from vsumjax.data.manifest import load_manifest
print(len(load_manifest(sys.argv[2]).videos))
assert "tensorflow" not in sys.modules
"""


def test_tfds_reads_it_without_tensorflow(built):
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", _READ_BACK, str(built.parents[1]), str(built)],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  line = f"{TVSUM[1]['id']} {tvsum_levels(1).sum():.0f} 2.0"
  assert done.stdout.splitlines() == [line, line, "3"]


def test_reading_manifests_does_not_import_tfds():
  code = "import sys, vsumjax.data.manifest; assert 'tensorflow_datasets' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)


def test_the_digest_depends_on_content_alone(built, manual_dir, tmp_path):
  digest = load_manifest(built).digest
  assert len(digest) == 32
  other = manual_dir.rename(tmp_path / "elsewhere")
  again, _ = stored.build(Tvsum, other, tmp_path / "again")
  assert load_manifest(again).digest == digest
  assert load_manifest(again).videos[2].media == other / "xxdtq8mxegs.mp4"

  def digest_of(name, **change):
    write_tvsum_mat(other / tvsum.MAT_FILE, change=change)
    path, _ = stored.build(Tvsum, other, tmp_path / name)
    return load_manifest(path).digest

  levels = tvsum_levels(0)
  levels[0, 0] = levels[0, 0] % 5 + 1
  digests = {
    digest,
    digest_of("level", **{"user_anno/0": levels}),
    digest_of("length", **{"length/0": np.array([[3.594]])}),
    digest_of("title", **{"title/0": np.array([[65]], np.uint16)}),
  }
  (other / "xxdtq8mxegs.mp4").unlink()
  assert len(digests | {digest_of("media")}) == 5


def test_windows_are_made_of_it(build, manual_dir, folder, tokenizer):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  for video in TVSUM:
    shutil.copy(folder / "0.mp4", manual_dir / f"{video['id']}.mp4")
  videos = load_manifest(build(Tvsum)).of_split("train")
  source = WindowSource(videos[1:2], three_videos.CONFIG, tokenizer, targets="histogram")
  example = source[0]
  levels = tvsum_levels(1).reshape(-1, 2, 25)  # 25 frames a second, segments of a second
  for segment in range(2):
    assert example["frames"][segment].mean() == pytest.approx(20 + 30 * segment, abs=3)
    histogram = [(levels[:, segment] == level).mean() for level in range(1, 6)]
    np.testing.assert_allclose(example["targets"][segment], histogram, atol=1e-6)
  np.testing.assert_array_equal(example["weight"][:2], 1)


def test_media_that_has_gone_is_told(built, manual_dir):
  (manual_dir / "xxdtq8mxegs.mp4").unlink()
  with pytest.raises(InputError, match=r"video 'xxdtq8mxegs': there is no file .*mp4; put it back"):
    load_manifest(built)
  video = load_manifest(built, check_files=False).videos[2]
  assert video.media == manual_dir / "xxdtq8mxegs.mp4"


def test_it_can_be_saved_as_lines(built, tmp_path):
  loaded = load_manifest(built)
  save_manifest(tmp_path / "lines.jsonl", loaded.videos)
  again = load_manifest(tmp_path / "lines.jsonl")
  for video, same in zip(loaded.videos, again.videos, strict=True):
    assert (same.id, same.title, same.duration_s) == (video.id, video.title, video.duration_s)
    np.testing.assert_array_equal(same.labels.levels_AN, video.labels.levels_AN)


def _cut(path):
  path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
  ("file", "harm", "told"),
  [
    ("tvsum-train.array_record-00000-of-00001", pathlib.Path.unlink, "split 'train': "),
    ("tvsum-train.array_record-00000-of-00001", _cut, "split 'train': "),
    ("dataset_info.json", _cut, "cannot be read"),
    ("features.json", pathlib.Path.unlink, "cannot be read"),
    ("metadata.json", pathlib.Path.unlink, "lacks 'manual_dir'"),
  ],
)
def test_a_broken_data_set_is_told_in_one_line(built, file, harm, told):
  harm(built / file)
  with pytest.raises(InputError) as raised:
    load_manifest(built)
  message = str(raised.value)
  assert message.startswith(str(built))
  assert told in message
  assert message.endswith("delete the folder and build it again")
  assert "\n" not in message


def test_a_data_set_of_others_is_told(built):
  features = json.loads((built / "features.json").read_text())
  del features["featuresDict"]["features"]["fps"]
  (built / "features.json").write_text(json.dumps(features))
  with pytest.raises(InputError, match="'tvsum' has no feature 'fps'; only what `vsumjax build-"):
    load_manifest(built)


def test_other_folders_are_told(built, tmp_path):
  with pytest.raises(
    InputError,
    match=f"is a folder without manifest.jsonl and no built data set; did you mean {built}",
  ):
    load_manifest(tmp_path / "data")
  (tmp_path / "empty").mkdir()
  with pytest.raises(
    InputError,
    match=r"is a folder without manifest\.jsonl and no built data set; give the path of a",
  ):
    load_manifest(tmp_path / "empty")


def test_the_descriptions_are_those_of_the_page(built):
  page = (pathlib.Path(base.__file__).parents[3] / "docs" / "datasets.md").read_text()
  for builder in (Tvsum, Summe, Eccv16):
    assert builder.CARD.citation in page
    assert " ".join(builder.CARD.license.split()) in " ".join(page.split())
    assert builder.CARD.homepage in page
  info = json.loads((built / "dataset_info.json").read_text())
  assert info["citation"] == Tvsum.CARD.citation
  assert info["redistributionInfo"]["license"] == Tvsum.CARD.license


def test_no_temporary_folder_is_left(build, manual_dir, tmp_path, monkeypatch):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  (tmp_path / "tmp").mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
  load_manifest(build(Tvsum))
  assert list((tmp_path / "tmp").iterdir()) == []
