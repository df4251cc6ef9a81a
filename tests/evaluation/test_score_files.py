import json
import pathlib
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.evaluation.score_files import load_scores, save_scores_file
from vsumjax.summary import scores as summaries
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"
FIRST, SECOND = [0.5, 0.25, 1.0], [0.0, 0.125, 0.75, 2.0]


@pytest.fixture
def path(tmp_path):
  return tmp_path / "scores.file"


@pytest.fixture
def videos():
  return (
    AnnotatedVideo("video_1", 40, np.array([0, 15, 30]), 10.0, names=("Air_Force_One", "AwmHb4")),
    AnnotatedVideo("video_2", 60, np.array([0, 15, 30, 45]), 10.0, names=("Base jumping",)),
  )


def check(predictions):
  """That the scores are those of `FIRST` and `SECOND`."""
  assert list(predictions) == ["video_1", "video_2"]
  np.testing.assert_array_equal(predictions["video_1"].score_P, FIRST)
  np.testing.assert_array_equal(predictions["video_2"].score_P, SECOND)


@pytest.mark.parametrize("suffix", [".json", ".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize("unit", ["picks", "frames"])
def test_scores_of_our_forms_come_back(tmp_path, videos, suffix, unit):
  path = tmp_path / f"scores{suffix}"
  score_F = {"video_2": np.repeat(SECOND, 15), "video_1": np.repeat(FIRST, 15)[:40]}
  by_unit = {"picks": {"video_2": SECOND, "video_1": np.float32(FIRST)}, "frames": score_F}
  save_scores_file(path, unit, by_unit[unit])
  predictions = load_scores(path, videos)
  check(predictions)
  for video_id, expected in score_F.items():
    np.testing.assert_array_equal(predictions[video_id].score_F, expected)


@pytest.mark.parametrize("suffix", [".json", ".h5"])
def test_scores_of_spans_come_back(tmp_path, videos, suffix):
  path = tmp_path / f"scores{suffix}"
  spans = {
    "video_1": (np.array([[0, 1.5], [1.5, 3], [3, 4]]), np.array(FIRST)),
    "video_2": ([[0, 1.5], [1.5, 3], [3, 4.5], [4.5, 6]], SECOND),
  }
  save_scores_file(path, "spans", spans)
  check(load_scores(path, videos))


@given(
  st.dictionaries(
    st.integers(0, 30),
    hnp.arrays(np.float64, 5, elements=st.floats(allow_nan=False, allow_infinity=False)),
    min_size=1,
  ),
  st.sampled_from([".json", ".npz", ".h5"]),
)
def test_every_bit_comes_back(tmp_path_factory, scores, suffix):
  path = tmp_path_factory.mktemp("bits") / f"scores{suffix}"
  videos = [AnnotatedVideo(f"video_{n}", 5, np.arange(5), 1.0) for n in scores]
  save_scores_file(path, "frames", {f"video_{n}": score_F for n, score_F in scores.items()})
  for video, score_F in zip(videos, scores.values(), strict=True):
    np.testing.assert_array_equal(
      load_scores(path, [video], known=videos)[video.id].score_F, score_F
    )


def test_the_unit_is_that_of_the_file_not_of_the_number(tmp_path, videos):
  for suffix in (".json", ".h5"):
    path = tmp_path / f"scores{suffix}"
    save_scores_file(path, "frames", {"video_1": FIRST})
    with pytest.raises(InputError, match="video_1: 3 scores, but it has 40 frames"):
      load_scores(path, videos[:1])


def test_a_video_may_be_called_file(tmp_path):
  video = AnnotatedVideo("file", 2, np.arange(2), 1.0)
  save_scores_file(tmp_path / "scores.npz", "frames", {"file": [1, 2]})
  assert load_scores(tmp_path / "scores.npz", [video])["file"].score_F.tolist() == [1, 2]


@pytest.mark.parametrize(
  "nested", [lambda row: row, lambda row: [row], lambda row: [[x] for x in row]]
)
def test_plain_json_is_read(path, videos, nested):
  path.write_text(json.dumps({"video_1": nested(FIRST), "video_2": nested(SECOND)}))
  check(load_scores(path, videos))


@pytest.mark.parametrize(
  "names",
  [
    ("tvsum/video_1", "../data/x.h5/video_2"),
    ("Air_Force_One", "Base jumping"),
    ("air force one", "BASE_JUMPING"),
    ("AwmHb4", "x/base jumping"),
  ],
)
def test_videos_are_known_by_any_of_their_names(path, videos, names):
  path.write_text(json.dumps(dict(zip(names, (FIRST, SECOND), strict=True))))
  check(load_scores(path, videos))


def test_scores_of_the_rest_of_the_benchmark_are_passed_over(path, videos):
  path.write_text(json.dumps({"video_1": [None], "video_2": SECOND}))
  assert list(load_scores(path, videos[1:], known=videos)) == ["video_2"]
  with pytest.raises(InputError, match=r"'video_1' is not a video of the benchmark; .* video_2$"):
    load_scores(path, videos[1:])


def test_arrays_of_numpy_are_read(path, videos):
  with path.open("wb") as file:
    np.savez_compressed(file, video_1=np.float16(FIRST)[None], video_2=np.array(SECOND)[:, None])
  check(load_scores(path, videos))


@pytest.mark.parametrize("prefix", ["", "tvsum/"])
@pytest.mark.parametrize(("key", "figure"), [("score", "fm"), ("importance_scores", "fscore")])
def test_groups_of_hdf5_are_read(path, videos, prefix, key, figure):
  with h5py.File(path, "w") as file:
    file[f"{prefix}video_1/{key}"] = np.array(FIRST, np.float32)
    file[f"{prefix}video_1/machine_summary"] = (np.arange(38) > 30).astype(np.float32)
    file[f"{prefix}video_1/{figure}"] = 0.61
    file[f"{prefix}video_1/gtscore"] = np.ones(3)
    file[f"{prefix}video_2/{key}"] = np.array(SECOND)
  predictions = load_scores(path, videos)
  check(predictions)
  first = predictions["video_1"]
  assert first.fscore == 0.61
  np.testing.assert_array_equal(first.summary_F, (np.arange(40) > 30) & (np.arange(40) < 38))
  assert predictions["video_2"].summary_F is None
  assert predictions["video_2"].fscore is None


def test_data_sets_of_hdf5_are_read(path, videos):
  with h5py.File(path, "w") as file:
    file["video_1"], file["video_2"] = FIRST, SECOND
  check(load_scores(path, videos))


def test_what_summarize_wrote_is_read(tmp_path, make_summary):
  video = AnnotatedVideo("video_7", 115, np.arange(0, 115, 20), 10.0, names=("talk",))
  other = AnnotatedVideo("video_8", 115, np.arange(0, 115, 20), 10.0)
  summaries.save_scores(tmp_path / "a" / "scores.json", make_summary())
  summaries.save_scores(tmp_path / "b" / "scores.json", make_summary(media="video_8.webm"))
  expected = [1.5, 4.31, 2.0, 3.0, 4.9, 4.9]
  for path in (tmp_path / "a" / "scores.json", tmp_path / "a"):
    np.testing.assert_array_equal(load_scores(path, [video])["video_7"].score_P, expected)
  found = load_scores(tmp_path, [other, video])
  assert list(found) == ["video_8", "video_7"]
  np.testing.assert_array_equal(found["video_8"].score_P, expected)


def json_of(**changes):
  return json.dumps({"video_1": FIRST, "video_2": SECOND} | changes)


def ours(unit, **scores):
  return json.dumps({"schema": 1, "unit": unit, "scores": scores})


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (json_of(video_2=SECOND[:-1]), "video_2: 3 scores, but it has 4 picks and 60 frames"),
    (json_of(video_2=[0, 1, float("nan"), 2]), "video_2: score 2 is nan, must be a finite number"),
    (json_of(video_2=[0, 1, float("-inf"), 2]), "video_2: score 2 is -inf, must be a finite"),
    (json_of(video_2=[0, None, 1, 2]), "video_2: score 1 is null, must be a finite number"),
    (json_of(video_2=[0, "1", 1, 2]), 'video_2: score 1 is "1", must be a finite number'),
    (json_of(video_2=[0, 1, 1, True]), "video_2: score 3 is true, must be a finite number"),
    (json_of(video_2=[0, 1, [2], 3]), "video_2: score 2 is a list, must be a finite number"),
    (json_of(video_2=[[1, 2], [3, 4]]), "video_2: score 0 is a list"),
    (json_of(video_2=[[[1, 2, 3, 4]]]), "video_2: score 0 is a list"),
    (json_of(video_2=[0, 10**400, 1, 2]), "video_2: a score is a whole number of more than"),
    (json_of(video_2=[]), "video_2: has no scores"),
    (json_of(video_2=[[]]), "video_2: has no scores"),
    (json_of(video_2=None), "video_2: expected a list of scores, found NoneType"),
    (json_of(video_2={"a": 1}), "video_2: expected a list of scores, found dict"),
    (json_of(vidoe_3=[1]), "'vidoe_3' is not a video of the benchmark; the nearest is video_[12]$"),
    (json_of(base_jumping=SECOND), "video_2: there are two entries, 'video_2' and 'base_jumping'"),
    ('{"video_1": [1], "video_1": [2]}', "video_1: there are two entries"),
    (json.dumps({"video_1": FIRST}), "has no scores of video_2$"),
    ("{}", "holds no scores"),
    ("", "neither JSON nor .npz nor HDF5"),
    ("[1, 2]", "expected an object, one list of scores a video"),
    ("{" * 100000, "neither JSON"),
    ('{"schema": 2}', "schema: is 2, this version reads 1"),
    (ours("seconds"), "unit: must be one of picks, frames, spans, is 'seconds'"),
    ('{"schema": 1, "unit": "picks"}', "scores: must be an object, one entry a video"),
    (ours("frames", video_1=FIRST), "video_1: 3 scores, but it has 40 frames"),
    (ours("picks", video_1=FIRST, video_2=60 * [1]), "video_2: 60 scores, but it has 4 picks"),
    (ours("spans", video_1=FIRST), "video_1: must be an object of span_s and score"),
    (
      ours("spans", video_1={"span_s": [[0, 4], [4]], "score": [1, 2]}),
      "video_1: span 1 must be a start and an end in seconds",
    ),
    (
      ours("spans", video_1={"span_s": [[0, "4"]], "score": [1]}),
      'video_1: span_s, in one row: score 1 is "4"',
    ),
    (ours("spans", video_1={"span_s": 3, "score": [1]}), "video_1: span_s: expected the start"),
    (
      ours("spans", video_1={"span_s": [[0, 9]], "score": [1, 2]}),
      "video_1: has 1 spans, but 2 scores",
    ),
    (
      ours("spans", video_1={"span_s": [[0, 1]], "score": [1]}),
      "video_1: frame 20, at 2.05 s, is in none",
    ),
    ('{"schema": 1, "segments": []}', "is no whole scores.json of `vsumjax summarize`"),
    (
      '{"schema": 1, "media": "video_1.mp4", "segments": [{"start_s": 0}]}',
      "is no whole scores.json of `vsumjax summarize`",
    ),
    ('{"schema": 1, "media": "video_1.mp4", "segments": []}', "video_1: has no scores"),
  ],
)
def test_json_that_is_wrong_is_told_with_file_and_video(path, videos, content, message):
  path.write_text(content)
  with pytest.raises(InputError, match=rf"scores\.file: {message}"):
    load_scores(path, videos)


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(
      st.sampled_from(["video_1", "schema", "unit", "scores", "segments", "span_s", "score"]), inner
    )
  ),
)


@given(JSON | st.builds(lambda value: {"schema": 1, "unit": "spans", "scores": value}, JSON))
def test_any_json_is_read_or_told_in_one_line(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "any.json"
  path.write_text(json.dumps(content))
  video = AnnotatedVideo("video_1", 40, np.array([0, 15, 30]), 10.0)
  try:
    prediction = load_scores(path, [video])["video_1"]
  except InputError as error:
    assert "any.json" in str(error)
    assert "\n" not in str(error)
  else:
    assert np.isfinite(prediction.score_F).all()


@given(st.binary(max_size=60))
def test_any_bytes_are_told(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "any.bytes"
  path.write_bytes(content)
  video = AnnotatedVideo("video_1", 40, np.array([0, 15, 30]), 10.0)
  with pytest.raises(InputError, match=r"any\.bytes"):
    load_scores(path, [video])


def test_several_missing_videos_are_counted(path, videos):
  path.write_text(json.dumps({"video_1": FIRST}))
  more = [AnnotatedVideo(f"video_{n}", 1, np.array([0]), 1.0) for n in (3, 4)]
  with pytest.raises(InputError, match=r"has no scores of video_2 and of 2 more$"):
    load_scores(path, [*videos, *more])


def test_a_name_of_two_videos_is_told(path, videos):
  other = AnnotatedVideo("video_9", 1, np.array([0]), 1.0, names=("air_force one",))
  path.write_text(json.dumps({"Air_Force_One": FIRST}))
  with pytest.raises(InputError, match="'Air_Force_One' may be video_1 or video_9; use the id"):
    load_scores(path, videos[:1], known=[other])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"video_1/score": None}, "video_1: has neither score nor importance_scores"),
    ({"video_1/score": np.ones((3, 3))}, r"video_1: has shape \[3, 3\], expected \[scores\]"),
    ({"video_1/score": np.zeros(0)}, "video_1: has no scores"),
    ({"video_1/score": 1.0}, r"video_1: has shape \[\], expected \[scores\]"),
    ({"video_1/score": np.array([True, False, True])}, "video_1: holds bool, expected numbers"),
    ({"video_1/score": np.array([1, 2, np.nan])}, "video_1: score 2 is nan"),
    ({"video_1/score": np.ones(5)}, "video_1: 5 scores, but it has 3 picks and 40 frames"),
    ({"video_1/machine_summary": np.ones(41)}, "video_1: machine_summary: has 41 entries, but"),
    ({"video_1/machine_summary": np.full(40, 0.5)}, "video_1: machine_summary: holds 0.5"),
    ({"video_1/machine_summary": np.full(40, np.nan)}, "video_1: machine_summary: holds nan"),
    ({"video_1/machine_summary": np.ones((1, 40))}, "video_1: machine_summary: has shape"),
    ({"video_1/fscore": np.ones(2)}, "video_1: fscore: expected one number"),
    ({"video_1/span_s": np.ones(2)}, "video_1: span_s: expected the start"),
    ({"empty": h5py.Empty("f")}, "'empty' is not a video of the benchmark"),
  ],
)
def test_hdf5_that_is_wrong_is_told_with_file_and_video(path, videos, changes, message):
  with h5py.File(path, "w") as file:
    for key, value in ({"video_1/score": FIRST, "video_1/x": 1} | changes).items():
      if value is not None:
        file[key] = value
  with pytest.raises(InputError, match=rf"scores\.file: {message}"):
    load_scores(path, videos[:1])


def test_an_attribute_that_is_no_unit_is_told(path, videos):
  with h5py.File(path, "w") as file:
    file["video_1"], file.attrs["unit"] = FIRST, "seconds"
  with pytest.raises(InputError, match="attribute unit: must be one of picks, frames, spans"):
    load_scores(path, videos[:1])
  with h5py.File(path, "w") as file:
    file["video_1"], file.attrs["unit"] = FIRST, "spans"
  with pytest.raises(InputError, match="video_1: span_s: there is none, and the unit is spans"):
    load_scores(path, videos[:1])


@pytest.mark.parametrize("suffix", [".json", ".npz", ".h5"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_told(tmp_path, videos, suffix, share):
  path = tmp_path / f"scores{suffix}"
  save_scores_file(path, "picks", {"video_1": FIRST, "video_2": SECOND})
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(InputError, match=rf"scores\{suffix}: "):
    load_scores(path, videos)


def test_objects_in_npz_are_never_run(path, videos):
  with path.open("wb") as file:
    np.savez(file, video_1=np.array([{}], object))
  with pytest.raises(InputError, match=r"scores\.file: cannot be read as \.npz \(Object arrays"):
    load_scores(path, videos[:1])


def test_a_zip_of_something_else_is_told(path, videos):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("video_1", "text")
  with pytest.raises(InputError, match=r"scores\.file: video_1: expected a list of scores"):
    load_scores(path, videos[:1])


def test_what_is_not_there_is_told(tmp_path, videos):
  with pytest.raises(InputError, match=r"nowhere: cannot be read: No such file"):
    load_scores(tmp_path / "nowhere", videos)
  with pytest.raises(InputError, match=r"holds no scores\.json and no \*/scores\.json"):
    load_scores(tmp_path, videos)


@pytest.mark.parametrize(
  ("name", "unit", "scores", "message"),
  [
    ("a.json", "seconds", {}, "unit must be one of picks, frames, spans, not 'seconds'"),
    ("a.txt", "picks", {}, r"scores of picks go into \.json, \.npz or \.h5"),
    ("a.npz", "spans", {}, r"scores of spans go into \.json or \.h5"),
    ("a.json", "picks", {"video_1": [1, np.nan]}, "video_1: score 1 is nan"),
    ("a.h5", "picks", {"video_1": []}, "video_1: has no scores"),
    ("a.npz", "picks", {"video_1": ["1"]}, "video_1: holds <U1, expected numbers"),
  ],
)
def test_what_cannot_be_saved_is_told_and_leaves_nothing(tmp_path, name, unit, scores, message):
  with pytest.raises(InputError, match=message):
    save_scores_file(tmp_path / name, unit, scores)
  assert not list(tmp_path.iterdir())


def test_the_levels_of_tvsum_go_through_a_file(tmp_path):
  if not SHARED.is_dir():
    pytest.skip("the real annotations of ../shared/data are not here")
  videos = load_benchmark(SHARED / "tvsum.h5", segments="")
  path = tmp_path / "oracle.json"
  save_scores_file(path, "frames", {video.id: video.levels_AF.mean(axis=0) for video in videos})
  predictions = load_scores(path, videos)
  for video in videos:
    gtscore_P = (predictions[video.id].score_P - 1) / 4
    np.testing.assert_allclose(gtscore_P, video.gtscore_P, atol=1e-6)
