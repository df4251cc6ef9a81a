import authors_files
import h5py
import numpy as np
import pytest
from authors_files import TVSUM, tvsum_levels, write_tvsum_mat, write_tvsum_tsv

from vsumjax.data.builders import Tvsum, tvsum
from vsumjax.data.manifest import load_manifest
from vsumjax.types import InputError

FIRST = f"\tVT\t{tvsum_levels(0)[0, 0]:.0f},"


def check(examples):
  assert len(examples) == len(TVSUM)
  for index, (example, video) in enumerate(zip(examples, TVSUM, strict=True)):
    assert example["video_id"].decode() == video["id"]
    assert example["title"].decode() == video["title"]
    assert example["category"].decode() == video["category"]
    assert example["media"] == b""
    assert example["num_frames"] == video["frames"]
    assert example["length_s"] == video["length_s"]
    assert example["fps"] == video["frames"] / video["length_s"]
    assert example["user_anno"].dtype == np.uint8
    np.testing.assert_array_equal(example["user_anno"], tvsum_levels(index))
    np.testing.assert_array_equal(example["gt_score"], tvsum_levels(index).mean(axis=0))


def test_the_mat_file_is_read_in_its_order(build_examples, manual_dir):
  (manual_dir / "matlab").mkdir()
  write_tvsum_mat(manual_dir / "matlab" / tvsum.MAT_FILE)
  check(build_examples(Tvsum))


def test_the_tsv_files_say_the_same(build_examples, manual_dir):
  write_tvsum_tsv(manual_dir)
  check(build_examples(Tvsum))


def test_the_mat_file_goes_before_the_tsv_files(build_examples, manual_dir):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  write_tvsum_tsv(manual_dir, lengths=("9", "9", "9"))
  check(build_examples(Tvsum))


def test_videos_are_found_by_their_ids(build, build_examples, manual_dir):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  (manual_dir / "video").mkdir()
  for name in ("AwmHb44_ouw.mp4", "xxdtq8mxegs.webm", "-esJrBWj2d8.jpg"):
    (manual_dir / "video" / name).touch()
  media = [example["media"].decode() for example in build_examples(Tvsum)]
  assert media == ["video/AwmHb44_ouw.mp4", "", "video/xxdtq8mxegs.webm"]


def test_as_a_manifest(build, manual_dir):
  write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  (manual_dir / "xxdtq8mxegs.mp4").touch()
  loaded = load_manifest(build(Tvsum))
  assert [video.id for video in loaded.videos] == [video["id"] for video in TVSUM]
  assert [video.title for video in loaded.videos] == [video["title"] for video in TVSUM]
  assert {video.split for video in loaded.videos} == {"train"}
  assert [video.media for video in loaded.videos] == [None, None, manual_dir / "xxdtq8mxegs.mp4"]
  for index, (video, item) in enumerate(zip(TVSUM, loaded.videos, strict=True)):
    assert item.duration_s == video["length_s"]
    assert item.edges_s is None
    assert item.labels.levels_AN.dtype == np.int8
    np.testing.assert_array_equal(item.labels.levels_AN, tvsum_levels(index))
    assert item.labels.unit_s * video["frames"] == pytest.approx(video["length_s"], rel=1e-15)


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ({"without": ("title",)}, "tvsum50/title: there is no such key"),
    ({"change": {"user_anno/1": np.full((4, 50), 6.0)}}, "video 2: user_anno: holds 6.0"),
    ({"change": {"user_anno/1": np.full((4, 50), 1.5)}}, "video 2: user_anno: holds 1.5"),
    (
      {"change": {"user_anno/0": np.ones((4, 106))}},
      "video 1: user_anno: has shape [4, 106], expected [any, 107]",
    ),
    ({"change": {"gt_score/2": np.ones((1, 7))}}, "video 3: gt_score: has shape [7]"),
    ({"change": {"length/0": np.array([[0.0]])}}, "video 1: length: must be a number above 0"),
    ({"change": {"length/0": np.ones((2, 1))}}, "tvsum50/length: expected one number"),
    ({"change": {"title/0": np.ones((3, 1))}}, "tvsum50/title: expected text, is float64"),
  ],
)
def test_a_wrong_mat_file_is_named_with_its_key(build, manual_dir, content, told):
  path = write_tvsum_mat(manual_dir / tvsum.MAT_FILE, **content)
  refuse(build, f"{path}: {told}")


def refuse(build, told):
  with pytest.raises(InputError) as raised:
    build(Tvsum)
  message = str(raised.value)
  assert message.startswith(told)
  assert "\n" not in message


def test_cut_and_foreign_files_are_refused(build, manual_dir):
  path = write_tvsum_mat(manual_dir / tvsum.MAT_FILE)
  whole = path.read_bytes()
  for data in (b"", b"no HDF5 at all", whole[:600], whole[: len(whole) // 2], whole[:-1]):
    path.write_bytes(data)
    refuse(build, f"{path}: not an HDF5 file, or a cut one")


def test_other_hdf5_files_are_refused(build, manual_dir):
  path = manual_dir / tvsum.MAT_FILE
  with h5py.File(path, "w") as file:
    file["other"] = 1
  refuse(build, f"{path}: tvsum50/video: there is no such key")
  with h5py.File(path, "w") as file:
    file["tvsum50/video"] = np.ones(3)
  refuse(build, f"{path}: tvsum50/video: expected an array of references")


def test_it_is_said_what_to_get_and_where_to_put_it(build, manual_dir):
  (manual_dir / "unrelated.txt").touch()
  refuse(
    build,
    f"{manual_dir}: holds no ydata-tvsum50.mat and no ydata-tvsum50-anno.tsv; get"
    " ydata-tvsum50-v1_1.zip from the authors of TVSum",
  )
  write_tvsum_tsv(manual_dir)
  (manual_dir / tvsum.INFO_FILE).unlink()
  refuse(build, f"{manual_dir}: holds no ydata-tvsum50-info.tsv, and the other .tsv needs it")


@pytest.mark.parametrize(
  ("file", "old", "new", "told"),
  [
    (tvsum.INFO_FILE, "\tlength", "\tlenght", ":1: lacks the column 'length'"),
    (tvsum.INFO_FILE, "\t2\n", "\ttwo\n", ": video '-esJrBWj2d8': length: must be"),
    (tvsum.INFO_FILE, "\t2\n", "\t2\t3\n", ":3: has 6 columns, the first line 5"),
    (tvsum.INFO_FILE, "\t-esJrBWj2d8\t", "\tother\t", ": has no line of video '-esJrBWj2d8'"),
    (tvsum.ANNO_FILE, "\tVT\t", " VT ", ":1: has 1 columns, expected video id"),
    (tvsum.ANNO_FILE, "\tVT\t", "\tVT\tx,", ":1: the levels must be numbers"),
    (tvsum.ANNO_FILE, "\tVT\t", "\tVT\t1,", ": video 'AwmHb44_ouw': annotators have 107 and 108"),
    (tvsum.ANNO_FILE, FIRST, "\tVT\t7,", ": video 'AwmHb44_ouw': user_anno: holds 7.0"),
  ],
)
def test_a_wrong_tsv_file_is_named_with_its_line(build, manual_dir, file, old, new, told):
  write_tvsum_tsv(manual_dir)
  path = manual_dir / file
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))
  refuse(build, f"{path}{told}")


def test_empty_and_binary_tsv_files_are_refused(build, manual_dir):
  write_tvsum_tsv(manual_dir)
  path = manual_dir / tvsum.ANNO_FILE
  path.write_text("\n")
  refuse(build, f"{path}: holds no line")
  path.write_bytes(b"\xff\xfe\x00")
  refuse(build, f"{path}: cannot be read")


def test_the_synthetic_titles_cover_both_spellings():
  codes = [authors_files._codes(video["title"], index != 1) for index, video in enumerate(TVSUM)]
  assert codes[1].max() > 255  # UTF-16
  assert codes[2].size > len(TVSUM[2]["title"])  # UTF-8, a byte a unit
