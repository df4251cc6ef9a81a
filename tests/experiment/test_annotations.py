"""Benchmarks by name: what `build-dataset` built, as videos to measure on."""

import dataclasses
import json
import pathlib

import h5py
import numpy as np
import pytest

from vsumjax import cli
from vsumjax.evaluation import protocols
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.experiment.annotations import open_benchmark
from vsumjax.jobs.build_dataset import build_dataset
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"
TITLES = {"Q1": "one", "Q2": "two"}


@pytest.fixture
def manual_dir(tmp_path):
  """The tab-separated files of TVSum's authors, of two videos, and an eccv16 file of them."""
  folder = tmp_path / "manual"
  folder.mkdir()
  generator = np.random.default_rng(0)
  anno, info = [], ["category\tvideo_id\ttitle\turl\tlength"]
  with h5py.File(folder / "eccv16_dataset_tvsum_google_pool5.h5", "w") as file:
    for number, (video_id, title) in enumerate(TITLES.items(), start=1):
      num_frames = 60 * number
      info.append(f"VT\t{video_id}\t{title}\thttps://example.org\t0:0{2 * number}")
      for row in generator.integers(1, 6, (3, num_frames)).tolist():
        anno.append(f"{video_id}\tVT\t{','.join(map(str, row))}")
      group = file.create_group(f"video_{number}")
      group["n_frames"], group["picks"] = num_frames, np.arange(0, num_frames, 15)
      group["gtscore"] = np.full(4 * number, 0.25, np.float32)
      group["user_summary"] = np.eye(3, num_frames, dtype=np.float32)
      group["change_points"] = np.array([[0, 29], [30, num_frames - 1]])
  (folder / "ydata-tvsum50-anno.tsv").write_text("\n".join(anno) + "\n")
  (folder / "ydata-tvsum50-info.tsv").write_text("\n".join(info) + "\n")
  return folder


def test_a_built_data_set(manual_dir, tmp_path):
  build_dataset("tvsum", manual_dir, tmp_path / "data")
  videos = open_benchmark("tvsum", data_dir=tmp_path / "data")
  assert [(video.id, *video.names, video.title) for video in videos] == [
    ("video_1", "Q1", "one"),
    ("video_2", "Q2", "two"),
  ]
  assert videos[0].picks_P.tolist() == [0, 15, 30, 45]
  assert videos[1].levels_AF.shape == (3, 120)
  assert (videos[1].fps, videos[1].category) == (30.0, "VT")
  expected = (videos[1].levels_AF.mean(axis=0)[videos[1].picks_P] - 1) / 4
  np.testing.assert_allclose(videos[1].gtscore_P, expected)
  assert videos[1].segments_K2 is None


def test_scores_are_measured_by_the_name_of_the_benchmark(manual_dir, tmp_path, capsys):
  for name in ("tvsum", "eccv16"):
    build_dataset(name, manual_dir, tmp_path / "data")
  scores = {"Q1": [0.1, 0.5, 0.4, 0.2], "video_2": [0.5] * 8}
  (tmp_path / "scores.json").write_text(json.dumps(scores))
  files = ["--scores", str(tmp_path / "scores.json"), "--data-dir", str(tmp_path / "data")]
  assert cli.main(["evaluate", *files, "--benchmark", "tvsum", "--protocol", "all"]) == 0
  printed = capsys.readouterr().out
  assert all(name in printed for name in protocols.BY_NAME)


def test_segments_come_from_the_usual_file(manual_dir, tmp_path):
  for name in ("tvsum", "eccv16"):
    build_dataset(name, manual_dir, tmp_path / "data")
  videos = open_benchmark("tvsum", data_dir=tmp_path / "data")
  assert videos[1].segments_K2.tolist() == [[0, 29], [30, 119]]
  assert videos[1].summary_AF.sum() == 3
  assert videos[1].gtscore_P.tolist() == [0.25] * 8
  assert videos[1].levels_AF.shape == (3, 120)


def test_files_of_different_benchmarks_are_refused(manual_dir, tmp_path):
  with h5py.File(manual_dir / "eccv16_dataset_tvsum_google_pool5.h5", "a") as file:
    del file["video_2"]
  for name in ("tvsum", "eccv16"):
    build_dataset(name, manual_dir, tmp_path / "data")
  with pytest.raises(InputError, match="eccv16: has no video_2 of 120 frames"):
    open_benchmark("tvsum", data_dir=tmp_path / "data")


@pytest.mark.parametrize("name", ["tvsum", "summe"])
def test_real_annotations_are_those_of_the_usual_file(name, tmp_path):
  if not (SHARED / f"{name}_original").exists():
    pytest.skip(f"../shared/data/{name}_original is absent")
  build_dataset(name, SHARED / f"{name}_original", tmp_path)
  videos, usual = open_benchmark(name, data_dir=tmp_path), load_benchmark(SHARED / f"{name}.h5")
  assert [video.id for video in videos] == [video.id for video in usual]
  for video, other in zip(videos, usual, strict=True):
    for field in dataclasses.fields(video):
      if field.name in ("num_frames", "picks_P", "levels_AF", "summary_AF", "names"):
        np.testing.assert_array_equal(getattr(video, field.name), getattr(other, field.name))
