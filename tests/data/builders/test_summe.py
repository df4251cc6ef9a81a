import shutil

import numpy as np
import pytest
import scipy.io
from authors_files import SUMME, SUMME_FPS, summe_codes, write_summe

from vsumjax.data.builders import Summe
from vsumjax.data.manifest import load_manifest
from vsumjax.types import InputError


def test_the_mat_files_are_read_in_the_order_of_their_names(build_examples, manual_dir):
  write_summe(manual_dir / "SumMe")
  examples = build_examples(Summe)
  assert [example["video_id"].decode() for example in examples] == list(SUMME)
  assert [example["title"].decode() for example in examples] == [
    "Air Force One", "Base jumping", "car over camera",
  ]  # fmt: skip
  for name, example in zip(SUMME, examples, strict=True):
    codes = summe_codes(name)
    fps = SUMME_FPS[name]
    assert example["fps"] == fps
    assert example["num_frames"] == len(codes)
    assert example["length_s"] == len(codes) / fps + 0.5
    np.testing.assert_array_equal(example["user_score"], codes.T)
    np.testing.assert_array_equal(example["user_summary"], codes.T > 0)
    np.testing.assert_array_equal(example["gt_score"], (codes > 0).mean(axis=1))
    np.testing.assert_array_equal(example["segment_user"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(example["segments_s"][2], np.array([6.0, 13.0]) / fps)
    assert example["user_ids"] == [b"ME", b"ETH_84"]


def test_videos_are_found_by_their_names(build_examples, manual_dir):
  write_summe(manual_dir)
  (manual_dir / "videos").mkdir()
  for name in ("Base jumping.webm", "Base jumping.mp4", "Other.mp4"):
    (manual_dir / "videos" / name).touch()
  media = [example["media"].decode() for example in build_examples(Summe)]
  assert media == ["", "videos/Base jumping.mp4", ""]


def test_as_a_manifest_kept_is_the_highest_level(build, manual_dir):
  write_summe(manual_dir)
  loaded = load_manifest(build(Summe))
  for name, video in zip(SUMME, loaded.videos, strict=True):
    assert video.id == name
    assert video.labels.unit_s == 1 / SUMME_FPS[name]
    assert video.edges_s is None
    np.testing.assert_array_equal(video.labels.levels_AN, np.where(summe_codes(name).T > 0, 5, 1))


def refuse(build, told):
  with pytest.raises(InputError) as raised:
    build(Summe)
  message = str(raised.value)
  assert message.startswith(told)
  assert "\n" not in message


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ({"without": ("FPS",)}, "FPS: there is no such variable"),
    ({"change": {"FPS": 0}}, "FPS: must be a number above 0, is 0.0"),
    ({"change": {"FPS": np.nan}}, "FPS: expected one number"),
    ({"change": {"user_score": "text"}}, "user_score: holds <U4, expected numbers"),
    ({"change": {"nFrames": np.ones(2)}}, "nFrames: expected one number"),
    ({"change": {"nFrames": 41}}, "user_score: has shape [40, 3], expected [41, any]"),
    ({"change": {"gt_score": np.ones(3)}}, "gt_score: has shape [3], expected [40]"),
    ({"change": {"user_score": np.full((40, 3), 0.5)}}, "user_score: holds 0.5"),
    ({"change": {"user_score": np.zeros((40, 2))}}, "segments: has 3 cells, user_score 2"),
    ({"change": {"segments": np.ones((2, 2))}}, "segments: must be cells of"),
    ({"change": {"all_userIDs": np.ones((2, 2))}}, "all_userIDs: must be cells of"),
  ],
)
def test_a_wrong_file_is_named_with_its_variable(build, manual_dir, content, told):
  write_summe(manual_dir, **content)
  refuse(build, f"{manual_dir / 'GT' / 'Air_Force_One.mat'}: {told}")


def test_cut_and_foreign_files_are_refused(build, manual_dir):
  write_summe(manual_dir)
  path = manual_dir / "GT" / "Air_Force_One.mat"
  whole = path.read_bytes()
  for length in (0, 3, 60, 128, 131, 140, *range(200, len(whole) - 8, 701)):
    path.write_bytes(whole[:length])
    refuse(build, f"{path}: ")
  path.write_bytes(b"not of MATLAB at all" * 100)
  refuse(build, f"{path}: not a MATLAB 5 file")


def test_broken_bytes_give_one_line_or_nothing(build, manual_dir, tmp_path):
  """Whatever the damage, no other error than InputError comes out."""
  write_summe(manual_dir)
  path = manual_dir / "GT" / "Air_Force_One.mat"
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    data = bytearray(whole)
    data[int(rng.integers(128, len(data)))] ^= int(rng.integers(1, 256))
    path.write_bytes(data)
    try:
      build(Summe)
      shutil.rmtree(tmp_path / "data")
    except InputError as error:
      refused += 1
      assert str(error).startswith(f"{path}: ")
  assert refused > 5


def test_a_compressed_file_is_read(build_examples, manual_dir):
  write_summe(manual_dir)
  for path in (manual_dir / "GT").iterdir():
    content = scipy.io.loadmat(path)
    kept = {key: value for key, value in content.items() if not key.startswith("__")}
    scipy.io.savemat(path, kept, do_compression=True)
  np.testing.assert_array_equal(
    build_examples(Summe)[0]["user_score"], summe_codes("Air_Force_One").T
  )


def test_it_is_said_what_to_get_and_where_to_put_it(build, manual_dir):
  (manual_dir / "unrelated.txt").touch()
  refuse(
    build, f"{manual_dir}: holds no folder GT of .mat files; get SumMe.zip from the authors of"
  )
