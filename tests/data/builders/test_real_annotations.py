"""TVSum and SumMe as their authors published them, against the same data in other files."""

import h5py
import numpy as np
import pytest

from vsumjax.data.builders import Summe, Tvsum, stored
from vsumjax.data.manifest import load_manifest


def read(path):
  return [example for _, example in stored.read_examples(path)]


@pytest.fixture(scope="module")
def built_tvsum(authors_data, tmp_path_factory):
  data = tmp_path_factory.mktemp("tvsum")
  return stored.build(Tvsum, authors_data / "tvsum_original", data)[0]


@pytest.fixture(scope="module")
def built_summe(authors_data, tmp_path_factory):
  data = tmp_path_factory.mktemp("summe")
  return stored.build(Summe, authors_data / "summe_original", data)[0]


def test_tvsum_equals_the_other_file_in_every_field_that_both_have(authors_data, built_tvsum):
  examples = read(built_tvsum)
  assert len(examples) == 50
  with h5py.File(authors_data / "tvsum.h5") as file:
    assert len(file) == 50
    for index, example in enumerate(examples):
      group = file[f"video_{index + 1}"]
      for field in ("video_id", "title", "category"):
        assert example[field] == group[field][()], (index, field)
      np.testing.assert_array_equal(example["user_anno"], group["user_anno"][()])
      assert example["num_frames"] == group["n_frames"][()]
      assert example["length_s"] == group["length_s"][()]
      assert example["fps"] == group["fps_est"][()]
      # The other file has (mean - 1) / 4 at every 15th frame, in float32.
      gtscore = (example["gt_score"][group["picks"][()]] - 1) / 4
      np.testing.assert_allclose(gtscore, group["gtscore"][()], atol=3e-8, rtol=0)


def test_tvsum_is_what_its_paper_says(built_tvsum):
  examples = read(built_tvsum)
  assert {len(example["user_anno"]) for example in examples} == {20}
  categories = [example["category"] for example in examples]
  assert {categories.count(category) for category in categories} == {5}
  assert len(set(categories)) == 10
  for example in examples:
    assert set(np.unique(example["user_anno"])) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(example["gt_score"], example["user_anno"].mean(axis=0))
  titles = [example["title"].decode() for example in examples]
  assert titles[3] == "ŠKODA Tips How to Repair Your Tyre"


def test_summe_equals_the_other_file_in_every_field_that_both_have(authors_data, built_summe):
  examples = read(built_summe)
  assert len(examples) == 25
  with h5py.File(authors_data / "summe.h5") as file:
    assert len(file) == 25
    for index, example in enumerate(examples):
      group = file[f"video_{index + 1}"]
      assert example["video_id"] == group["video_name"][()]
      np.testing.assert_array_equal(example["user_summary"], group["user_summary"][()])
      np.testing.assert_array_equal(example["user_score"], group["user_score"][()])
      assert example["num_frames"] == group["n_frames"][()]
      assert example["fps"] == group["fps"][()]
      picked = example["gt_score"][group["picks"][()]]
      np.testing.assert_allclose(picked, group["gtscore"][()], atol=3e-8, rtol=0)


def test_summes_summaries_are_the_pieces_that_people_chose(built_summe):
  """The seconds of the pieces, times the stated rate, are frames: labels are 1 / fps apart."""
  starts_agree = []
  for example in read(built_summe):
    for person, summary in enumerate(example["user_summary"]):
      pieces_s = example["segments_s"][example["segment_user"] == person]
      starts = np.flatnonzero(np.diff(summary, prepend=0) == 1)
      # Pieces that touch or overlap make one run of frames.
      first = np.sort(pieces_s[:, 0]) * example["fps"]
      starts_agree += [(np.abs(first - start) < 1.01).any() for start in starts]
  assert len(starts_agree) > 1500
  assert np.mean(starts_agree) > 0.99


def test_as_manifests(built_tvsum, built_summe):
  tvsum, summe = load_manifest(built_tvsum), load_manifest(built_summe)
  assert (len(tvsum.videos), len(summe.videos)) == (50, 25)
  for item in tvsum.videos:
    labelled_s = item.labels.unit_s * item.labels.levels_AN.shape[1]
    assert labelled_s == pytest.approx(item.duration_s, rel=1e-12)
  for item in summe.videos:  # what is stated may be longer than what is annotated
    labelled_s = item.labels.unit_s * item.labels.levels_AN.shape[1]
    assert -0.01 <= item.duration_s - labelled_s < 1.5
    assert set(np.unique(item.labels.levels_AN)) == {1, 5}


def test_summes_other_file_is_read_as_an_eccv16_file(authors_data, tmp_path):
  from vsumjax.data.builders import Eccv16

  manual_dir = tmp_path / "manual"
  manual_dir.mkdir()
  name = "eccv16_dataset_summe_google_pool5.h5"
  (manual_dir / name).symlink_to(authors_data / "summe.h5")
  path, _ = stored.build(Eccv16, manual_dir, tmp_path / "data", config="summe")
  videos = load_manifest(path).videos
  with h5py.File(authors_data / "summe.h5") as file:
    for index, (example, item) in enumerate(zip(read(path), videos, strict=True)):
      group = file[f"video_{index + 1}"]
      for key in ("user_summary", "change_points", "n_frame_per_seg", "picks", "gtscore"):
        np.testing.assert_array_equal(example[key], group[key][()], err_msg=key)
      assert len(item.edges_s) == len(group["change_points"]) + 1
      assert item.edges_s[-1] == pytest.approx(group["n_frames"][()] / group["fps"][()])
