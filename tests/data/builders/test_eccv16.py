import h5py
import numpy as np
import pytest
from authors_files import SUMME, SUMME_FPS, TVSUM, summe_codes, write_eccv16, write_summe
from authors_files import write_tvsum_mat as write_tvsum

from vsumjax.data.builders import Eccv16, tvsum
from vsumjax.data.manifest import load_manifest
from vsumjax.types import InputError

FRAMES = tuple(video["frames"] for video in TVSUM)


def eccv16_file(manual_dir, name="tvsum"):
  return manual_dir / f"eccv16_dataset_{name}_google_pool5.h5"


def test_every_key_is_kept(build_examples, manual_dir):
  path = write_eccv16(eccv16_file(manual_dir), FRAMES)
  examples = build_examples(Eccv16, "tvsum")
  assert [example["key"] for example in examples] == [b"video_1", b"video_2", b"video_3"]
  with h5py.File(path) as file:
    for example in examples:
      group = file[example["key"].decode()]
      assert example["num_frames"] == group["n_frames"][()]
      assert len(example["picks"]) == group["n_steps"][()]
      for key in set(group) - {"n_frames", "n_steps"}:
        np.testing.assert_array_equal(example[key], group[key][()], err_msg=key)
        assert example[key].size


def test_keys_to_spare_may_be_missing(build_examples, manual_dir):
  write_eccv16(eccv16_file(manual_dir, "ovp"), FRAMES, full=False)
  for example in build_examples(Eccv16, "ovp"):
    for key in ("features", "gtscore", "gtsummary", "change_points", "n_frame_per_seg"):
      assert len(example[key]) == 0
    assert example["change_points"].shape == (0, 2)
    assert (example["fps"], example["length_s"], example["title"]) == (0, 0, b"")


def test_videos_are_in_the_order_of_their_numbers(build_examples, manual_dir):
  write_eccv16(eccv16_file(manual_dir, "youtube"), range(30, 42), full=False)
  keys = [example["key"].decode() for example in build_examples(Eccv16, "youtube")]
  assert keys == [f"video_{number}" for number in range(1, 13)]


def test_tvsums_names_and_seconds_come_from_its_authors_file(build_examples, manual_dir):
  write_eccv16(eccv16_file(manual_dir), FRAMES[::-1])  # the number of frames tells which is which
  write_tvsum(manual_dir / tvsum.MAT_FILE)
  for example, video in zip(build_examples(Eccv16, "tvsum"), TVSUM[::-1], strict=True):
    assert example["video_id"].decode() == video["id"]
    assert example["title"].decode() == video["title"]
    assert example["category"].decode() == video["category"]
    assert example["length_s"] == video["length_s"]
    assert example["fps"] == video["frames"] / video["length_s"]


def test_summes_seconds_come_from_its_authors_files(build_examples, manual_dir):
  frames = [len(summe_codes(name)) for name in SUMME]
  write_eccv16(eccv16_file(manual_dir, "summe"), frames, names=SUMME)
  write_summe(manual_dir)
  for example, name in zip(build_examples(Eccv16, "summe"), SUMME, strict=True):
    assert example["video_id"].decode() == name
    assert example["fps"] == SUMME_FPS[name]
    assert example["length_s"] == len(summe_codes(name)) / SUMME_FPS[name] + 0.5


def test_another_video_of_the_same_name_gives_no_seconds(build_examples, manual_dir):
  write_eccv16(eccv16_file(manual_dir, "summe"), [41, 42, 43], names=SUMME)
  write_summe(manual_dir)
  assert [float(example["fps"]) for example in build_examples(Eccv16, "summe")] == [0, 0, 0]


def test_as_a_manifest(build, manual_dir):
  write_eccv16(eccv16_file(manual_dir, "summe"), [60, 90], names=["A_b", "C"], fps=30.0)
  (manual_dir / "A_b.mp4").touch()
  (manual_dir / "video_2.mp4").touch()
  first, second = load_manifest(build(Eccv16, "summe")).videos
  assert (first.id, first.title, first.duration_s) == ("A_b", "A b", 2.0)
  assert (first.media, second.media) == (manual_dir / "A_b.mp4", manual_dir / "video_2.mp4")
  assert first.edges_s == (0.0, 20 / 30, 1.0, 2.0)
  with h5py.File(eccv16_file(manual_dir, "summe")) as file:
    summary = file["video_1/user_summary"][()]
  np.testing.assert_array_equal(first.labels.levels_AN, 1 + 4 * summary)
  assert first.labels.unit_s == 1 / 30


def test_segments_with_a_gap_are_no_edges(build, manual_dir):
  gap = {"change_points": np.array([[0, 9], [11, 59]])}
  write_eccv16(eccv16_file(manual_dir), [60], fps=30.0, change=gap)
  (video,) = load_manifest(build(Eccv16, "tvsum")).videos
  assert video.edges_s is None


def test_a_manifest_needs_seconds(build, manual_dir):
  write_eccv16(eccv16_file(manual_dir), [60])
  path = build(Eccv16, "tvsum")
  with pytest.raises(InputError, match=r"video 'video_1': nothing says how fast it runs; put the"):
    load_manifest(path)


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"user_summary": None}, "video_1/user_summary: there is no such key"),
    ({"picks": None}, "video_1/picks: there is no such key"),
    ({"n_frames": None}, "video_1/n_frames: there is no such key"),
    ({"n_frames": np.array([60, 60])}, "video_1/n_frames: expected one number"),
    ({"user_summary": np.ones((3, 59))}, "video_1/user_summary: has shape [3, 59], expected"),
    ({"user_summary": np.full((3, 60), 2)}, "video_1/user_summary: holds 2"),
    ({"gtscore": np.ones(3)}, "video_1/gtscore: has shape [3], expected [4]"),
    ({"features": np.ones((3, 8))}, "video_1/features: has shape [3, 8], expected [4, any]"),
    ({"change_points": np.ones((3, 3))}, "video_1/change_points: has shape [3, 3]"),
    ({"change_points": np.array([[9, 0]])}, "video_1/change_points: a segment ends before"),
    ({"fps": -1.0}, "video_1/fps: must be a number above 0, is -1.0"),
    ({"n_frames": np.array(0)}, "video_1/n_frames: must be a number above 0, is 0"),
    ({"picks": "every 15th"}, "video_1/picks: holds |S10, expected numbers"),
    ({"video_name": np.array([1, 2])}, "video_1/video_name: must be one text"),
    ({"video_name": b"\xff"}, "video_1/video_name: must be one text"),
  ],
)
def test_a_wrong_file_is_named_with_its_key(build, manual_dir, change, told):
  path = write_eccv16(eccv16_file(manual_dir), [60], change=change)
  refuse(build, f"{path}: {told}")


def refuse(build, told):
  with pytest.raises(InputError) as raised:
    build(Eccv16, "tvsum")
  message = str(raised.value)
  assert message.startswith(told)
  assert "\n" not in message


def test_other_files_are_refused(build, manual_dir):
  write_eccv16(eccv16_file(manual_dir, "summe"), [60])
  refuse(build, f"{manual_dir}: holds no eccv16_dataset_tvsum_*.h5; get the .h5 files that")
  path = eccv16_file(manual_dir)
  path.write_bytes(b"no HDF5")
  refuse(build, f"{path}: not an HDF5 file")
  with h5py.File(path, "w"):
    pass
  refuse(build, f"{path}: holds no video")
  with h5py.File(path, "w") as file:
    file["video_1"] = 3
  refuse(build, f"{path}: video_1: expected a group")
