import pathlib

import h5py
import numpy as np
import pytest

from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"


@pytest.fixture
def shared():
  if not SHARED.is_dir():
    pytest.skip("the real annotations of ../shared/data are not here")
  return SHARED


def eccv16_video():
  """The keys of the usual files, their types too."""
  generator = np.random.default_rng(0)
  return {
    "features": generator.random((4, 8), np.float32),
    "gtscore": generator.random(4, np.float32),
    "user_summary": (generator.random((3, 50)) < 0.2).astype(np.float32),
    "change_points": np.array([[0, 19], [20, 34], [35, 49]], np.int32),
    "n_frame_per_seg": np.array([20, 15, 15], np.int32),
    "n_frames": np.array(50),
    "picks": np.array([0, 15, 30, 45], np.int32),
    "n_steps": np.array(4),
    "gtsummary": np.array([0, 1, 0, 0], np.float32),
  }


def mr_hisum_video():
  return {
    "gtscore": np.linspace(0, 1, 30),
    "gt_summary": (np.arange(30) > 25).astype(np.int64),
    "change_points": np.array([[0, 10], [10, 26], [26, 30]]),
  }


def write(path, **videos):
  with h5py.File(path, "w") as file:
    for video, keys in videos.items():
      for key, value in keys.items():
        if value is not None:
          file[f"{video}/{key}"] = value
  return path


@pytest.fixture
def path(tmp_path):
  return tmp_path / "benchmark.h5"


def test_the_usual_file_is_read(path):
  keys = eccv16_video()
  write(path, video_10=keys, video_2=keys | {"video_name": "Air_Force_One", "fps": 25.0})
  second, tenth = load_benchmark(path)
  assert (second.id, tenth.id) == ("video_2", "video_10")
  assert (second.names, tenth.names) == (("Air_Force_One",), ())
  assert (second.fps, tenth.fps) == (25.0, 0.0)
  assert (tenth.num_frames, tenth.num_picks) == (50, 4)
  assert tenth.summary_AF.dtype == bool
  np.testing.assert_array_equal(tenth.summary_AF, keys["user_summary"] == 1)
  np.testing.assert_array_equal(tenth.gtscore_P, keys["gtscore"].astype(np.float64))
  np.testing.assert_array_equal(tenth.segments_K2, keys["change_points"])
  assert not tenth.ends_overlap
  assert tenth.levels_AF is None


def test_features_are_never_read(path):
  write(path, video_1=eccv16_video() | {"features": "no numbers at all"})
  assert len(load_benchmark(path)) == 1


def test_levels_and_names_are_read(path):
  levels_AF = np.random.default_rng(0).integers(1, 6, (20, 50))
  keys = eccv16_video() | {"user_summary": None, "n_frames": None, "user_anno": levels_AF}
  about = {"title": "Jak vyměnit pneumatiky", "category": "VT", "video_id": "AwmHb44_ouw"}
  (video,) = load_benchmark(write(path, video_1=keys | about | {"fps_est": 29.97}))
  assert (video.title, video.category, video.names) == (
    "Jak vyměnit pneumatiky",
    "VT",
    ("AwmHb44_ouw",),
  )
  assert video.fps == 29.97
  assert video.num_frames == 50
  assert video.levels_AF.dtype == np.uint8
  np.testing.assert_array_equal(video.levels_AF, levels_AF)


@pytest.mark.parametrize(
  "names", [("gtscore", "gt_summary"), ("gt_score", "gt_summary"), ("gtscore", "gtsummary")]
)
def test_files_of_a_frame_a_second_are_read(path, names):
  keys = mr_hisum_video()
  renamed = dict(zip(names, (keys["gtscore"], keys["gt_summary"]), strict=True))
  write(path, qwErty=renamed | {"change_points": keys["change_points"]})
  (video,) = load_benchmark(path)
  assert (video.num_frames, video.fps, video.ends_overlap) == (30, 1.0, True)
  np.testing.assert_array_equal(video.picks_P, np.arange(30))
  np.testing.assert_array_equal(video.gtscore_P, keys["gtscore"])
  np.testing.assert_array_equal(video.summary_AF, keys["gt_summary"][None] == 1)
  np.testing.assert_array_equal(video.segments_K2, [[0, 9], [10, 25], [26, 29]])


def test_a_summary_at_the_picks_is_no_summary_of_frames(path):
  (video,) = load_benchmark(write(path, video_1=eccv16_video() | {"user_summary": None}))
  assert video.summary_AF is None


@pytest.mark.parametrize(
  ("change_points", "mended"),
  [
    ([[0, 19], [20, 50]], [[0, 19], [20, 49]]),  # one frame more than there are
    ([[1, 20], [21, 50]], [[0, 19], [20, 49]]),  # counted from 1
    ([[1, 20], [21, 51]], [[0, 19], [20, 49]]),  # both
    ([[1, 20], [21, 49]], [[1, 20], [21, 49]]),  # nothing about the first frame
    ([[0, 50]], [[0, 49]]),
    ([[0, 19], [25, 40]], [[0, 19], [25, 40]]),
  ],
)
def test_other_habits_of_counting_are_mended(path, change_points, mended):
  write(path, video_1=eccv16_video() | {"change_points": np.array(change_points)})
  (video,) = load_benchmark(path)
  np.testing.assert_array_equal(video.segments_K2, mended)
  assert not video.ends_overlap


def test_segments_lie_under_any_key_or_none(path):
  segments_K2 = np.array([[0, 24], [25, 49]])
  keys = eccv16_video() | {"kts/googlenet_5": segments_K2}
  write(path, video_1=keys, video_2=eccv16_video())
  first, second = load_benchmark(path, segments="kts/googlenet_5")
  np.testing.assert_array_equal(first.segments_K2, segments_K2)
  assert second.segments_K2 is None
  assert load_benchmark(path, segments="")[0].segments_K2 is None
  with pytest.raises(
    InputError,
    match=r"benchmark\.h5: no video has the segments 'shots'; name one of change_points,"
    r" kts/googlenet_5, or '' for none$",
  ):
    load_benchmark(path, segments="shots")
  with pytest.raises(InputError, match=r"video_1/kts: is a group, expected an array"):
    load_benchmark(path, segments="kts")


def test_segments_are_made_of_features(path):
  """12 picks of three plain scenes, which change at picks 5 and 9."""
  scenes = np.repeat(np.eye(3, 8), (5, 4, 3), axis=0)
  noise = np.random.default_rng(0).normal(0, 0.02, scenes.shape)
  keys = {"n_frames": 175, "picks": np.arange(0, 175, 15), "features": scenes + noise}
  (video,) = load_benchmark(write(path, video_1=keys), segments="kts:features")
  assert video.segments_K2.tolist() == [[0, 74], [75, 134], [135, 174]]
  assert not video.ends_overlap


def test_features_that_cannot_be_cut_are_told(path):
  write(path, video_1=eccv16_video() | {"features": np.full((4, 8), np.nan)})
  with pytest.raises(InputError, match=r"benchmark.h5: video_1/features: .*not finite"):
    load_benchmark(path, segments="kts:features")
  with pytest.raises(InputError, match="no video has the segments 'kts:resnet'"):
    load_benchmark(path, segments="kts:resnet")


def test_another_file_completes_the_videos(path, tmp_path):
  keys = eccv16_video()
  levels_AF = np.ones((2, 50), np.uint8)
  about = {"title": "T", "category": "VT", "video_id": "id", "fps": 24.0, "user_anno": levels_AF}
  other = {"n_frames": 50, "picks": keys["picks"], "gtscore": np.ones(4), **about}
  annotations = write(tmp_path / "levels.h5", video_1=other, video_2=other)
  write(path, video_1=keys)
  for first, second in ((path, annotations), (annotations, path)):
    if first is annotations:
      write(path, video_1=keys, video_2=keys)
    video = load_benchmark(first, annotations=second)[0]
    assert (video.title, video.category, video.names, video.fps) == ("T", "VT", ("id",), 24.0)
    np.testing.assert_array_equal(video.levels_AF, levels_AF)
    np.testing.assert_array_equal(video.segments_K2, keys["change_points"])
    own = keys["gtscore"] if first is path else other["gtscore"]
    np.testing.assert_array_equal(video.gtscore_P, own.astype(np.float64))


def test_tvsums_levels_as_text_complete_the_videos(path, tmp_path):
  keys = eccv16_video()
  write(path, video_1=keys, video_2=keys | {"title": "Second"})
  levels_AF = np.random.default_rng(0).integers(1, 6, (4, 50))
  annotations = tmp_path / "ydata-tvsum50-anno.tsv"

  def save(levels_AF):
    rows = [",".join(map(str, row)) for row in levels_AF]
    names = ("AwmHb44_ouw", "AwmHb44_ouw", "98MoyGZKHXc", "98MoyGZKHXc")
    lines = [f"{name}\tVT\t{row}\n" for name, row in zip(names, rows, strict=True)]
    annotations.write_text("".join(lines))

  save(levels_AF)
  first, second = load_benchmark(path, annotations=annotations)
  assert (first.names, second.names) == (("AwmHb44_ouw",), ("98MoyGZKHXc",))
  assert (first.category, first.fps, second.title) == ("VT", 0.0, "Second")
  np.testing.assert_array_equal(first.picks_P, keys["picks"])
  np.testing.assert_array_equal(first.levels_AF, levels_AF[:2])
  np.testing.assert_array_equal(second.levels_AF, levels_AF[2:])
  save(levels_AF[:, 1:])
  with pytest.raises(InputError, match=r"anno\.tsv: video_1: n_frames: has 49 frames, but .* 50;"):
    load_benchmark(path, annotations=annotations)
  save(levels_AF + 0.5)
  with pytest.raises(InputError, match=r"anno\.tsv: video 'AwmHb44_ouw': levels: holds \d\.5"):
    load_benchmark(path, annotations=annotations)
  with pytest.raises(InputError, match=r"nowhere: cannot be read"):
    load_benchmark(path, annotations=tmp_path / "nowhere")


def test_scores_at_other_picks_are_not_taken_over(path, tmp_path):
  keys = eccv16_video()
  write(path, video_1=keys | {"gtscore": None})
  other = {"n_frames": 50, "picks": np.array([0, 25]), "gtscore": np.ones(2)}
  annotations = write(tmp_path / "levels.h5", video_1=other)
  assert load_benchmark(path, annotations=annotations)[0].gtscore_P is None


def test_annotations_of_other_videos_are_told(path, tmp_path):
  keys = eccv16_video()
  write(path, video_1=keys)
  annotations = tmp_path / "levels.h5"
  write(annotations, video_2=keys)
  with pytest.raises(InputError, match=r"levels\.h5: has no video_1, which .*benchmark\.h5 has"):
    load_benchmark(path, annotations=annotations)
  write(annotations, video_1={"n_frames": 60, "picks": np.array([0])})
  with pytest.raises(InputError, match=r"levels\.h5: video_1: n_frames: has 60 frames, but .* 50;"):
    load_benchmark(path, annotations=annotations)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"n_frames": None, "user_summary": None}, "video_1/n_frames: there is no such key"),
    ({"n_frames": 0}, "video_1/n_frames: must be a number above 0"),
    ({"n_frames": [50, 50]}, "video_1/n_frames: expected one number"),
    ({"n_frames": 49}, r"video_1/user_summary: has shape \[3, 50\], expected \[any, 49\]"),
    ({"picks": None}, "video_1/picks: there is no such key, and no gtscore"),
    ({"picks": None, "gtscore": None}, "video_1/picks: there is no such key"),
    ({"picks": [0, 15, 30, 50]}, "video_1/picks: holds 50, expected whole numbers from 0 to 49"),
    ({"picks": [0, 1.5, 3, 4]}, "video_1/picks: holds 1.5"),
    ({"picks": [0, 30, 15, 45]}, "video_1: picks_P: must ascend"),
    ({"picks": [1, 15, 30, 45]}, "video_1: picks_P: the first must be frame 0"),
    ({"gtscore": [1.0, np.nan, 1.0, 1.0]}, "video_1: gtscore_P: entry 1 is nan"),
    ({"gtscore": np.ones(5)}, r"video_1/gtscore: has shape \[5\], expected \[4\]"),
    ({"gtscore": "abcd"}, "video_1/gtscore: holds .S4, expected numbers"),
    ({"user_summary": np.full((3, 50), 0.5)}, "video_1/user_summary: holds 0.5"),
    ({"user_summary": np.full((3, 50), np.nan)}, "video_1/user_summary: holds nan"),
    ({"user_anno": np.full((3, 50), -1)}, "video_1/user_anno: holds -1"),
    ({"user_anno": np.ones((0, 50))}, r"video_1/user_anno: has shape \[0, 50\]"),
    ({"change_points": [0, 19]}, r"video_1/change_points: has shape \[2\]"),
    ({"change_points": [[0, 19], [19, 49], [50, 70]]}, "video_1/change_points: holds 70"),
    ({"change_points": [[0, 19], [20, 51]]}, r"reach over \[0, 51\], but the video has 50 frames"),
    ({"change_points": [[0, 19], [18, 49]]}, "segments 0 and 1 overlap"),
    ({"fps": 0.0}, "video_1/fps: must be a number above 0"),
    ({"video_name": 3}, "video_1/video_name: must be one text"),
  ],
)
def test_what_is_wrong_is_told_with_file_video_and_key(path, changes, message):
  write(path, video_1=eccv16_video() | changes)
  with pytest.raises(InputError, match=rf"benchmark\.h5: .*{message}"):
    load_benchmark(path)


def test_what_is_no_benchmark_is_told(path):
  with pytest.raises(InputError, match=r"benchmark\.h5: not an HDF5 file"):
    load_benchmark(path)
  path.write_text("video_1")
  with pytest.raises(InputError, match=r"benchmark\.h5: not an HDF5 file, or a cut one"):
    load_benchmark(path)
  write(path)
  with pytest.raises(InputError, match=r"benchmark\.h5: holds no video"):
    load_benchmark(path)
  with h5py.File(path, "w") as file:
    file["video_1"] = np.ones(3)
  with pytest.raises(InputError, match=r"benchmark\.h5: video_1: expected a group, one a video"):
    load_benchmark(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_file_is_told(path, share):
  content = write(path, video_1=eccv16_video()).read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(InputError, match=r"benchmark\.h5: "):
    load_benchmark(path)


def test_summe_is_read(shared):
  videos = load_benchmark(shared / "summe.h5")
  assert [video.id for video in videos] == [f"video_{number}" for number in range(1, 26)]
  assert videos[0].names == ("Air_Force_One",)
  assert all(15 <= len(video.summary_AF) <= 18 for video in videos)
  assert all(video.segments_K2[-1, 1] == video.num_frames - 1 for video in videos)


@pytest.mark.parametrize("segments", ["kts_vidsummethods/googlenet_5", "shots_idt_transnet"])
def test_tvsum_is_read(shared, segments):
  videos = load_benchmark(shared / "tvsum.h5", segments=segments)
  assert len(videos) == 50
  assert len({video.category for video in videos}) == 10
  for video in videos:
    assert video.levels_AF.shape == (20, video.num_frames)
    assert video.segments_K2[0, 0] == 0
    assert video.segments_K2[-1, 1] == video.num_frames - 1


def test_tvsum_without_canonical_segments_says_what_there_is(shared):
  with pytest.raises(InputError, match=r"no video has the segments 'change_points'; name one of"):
    load_benchmark(shared / "tvsum.h5", segments="change_points")
  assert load_benchmark(shared / "tvsum.h5")[0].segments_K2 is None
