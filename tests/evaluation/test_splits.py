import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.evaluation.splits import (
  Fold,
  Overlap,
  Split,
  carve_validation,
  load_splits,
  true_folds,
)
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"


@pytest.fixture
def shared():
  if not SHARED.is_dir():
    pytest.skip("the published splits of ../shared/data are not here")
  return SHARED


def make_videos(number, num_categories=1):
  return [
    AnnotatedVideo(
      id=f"video_{n + 1}",
      num_frames=1,
      picks_P=np.array([0]),
      fps=1.0,
      names=(f"Name_{n + 1}",),
      category=f"C{n % num_categories}",
    )
    for n in range(number)
  ]


def ids(*numbers):
  return tuple(f"video_{number}" for number in numbers)


FOLDS = (Fold(ids(1, 2), ids(3, 4)), Fold(ids(3, 4), ids(1, 2)))


def test_a_split_that_tests_all_once_is_a_partition():
  assert Split("s", FOLDS).is_partition
  assert Split("s", FOLDS).videos == set(ids(1, 2, 3, 4))


def test_overlap_counts_what_is_tested_never_and_again():
  folds = (Fold(ids(1, 2), ids(3, 4)), Fold(ids(1, 4), ids(3, 2)), Fold(ids(1, 2), ids(3, 4)))
  split = Split("s", folds)
  assert split.overlap == Overlap(never_tested=1, tested_again=2)
  assert not split.is_partition


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    ((ids(1, 2), ids(2)), "video_2 stands in train and in test"),
    ((ids(1, 1), ids(2)), "video_1 stands in train and in train"),
    ((ids(1), ids(2), ids(1)), "video_1 stands in train and in validation"),
    ((ids(1), ids(2), ids(2)), "video_2 stands in test and in validation"),
    ((ids(1), ()), "needs videos to train on and videos to test on"),
    (((), ids(1)), "needs videos to train on and videos to test on"),
  ],
)
def test_a_fold_that_tests_what_it_trains_on_is_refused(parts, message):
  with pytest.raises(InputError, match=message):
    Fold(*parts)


@given(st.data())
def test_true_folds_test_all_once_and_spread_categories(data):
  num_folds = data.draw(st.integers(2, 6))
  number = data.draw(st.integers(num_folds, 40))
  videos = make_videos(number, data.draw(st.integers(1, 5)))
  seed = data.draw(st.integers(0, 100))
  split = true_folds(videos, num_folds, seed)
  assert split.is_partition
  assert split.videos == {video.id for video in videos}
  assert split == true_folds(data.draw(st.permutations(videos)), num_folds, seed)
  sizes = [len(fold.test) for fold in split.folds]
  assert max(sizes) - min(sizes) <= 1
  for category in {video.category for video in videos}:
    members = {video.id for video in videos if video.category == category}
    tested = [len(members & set(fold.test)) for fold in split.folds]
    assert max(tested) - min(tested) <= 1


def test_true_folds_stay_as_they_are():
  """Figures of different versions are only comparable while this holds."""
  split = true_folds(make_videos(10))
  tests = [(7, 8), (4, 10), (1, 9), (3, 6), (2, 5)]
  assert [fold.test for fold in split.folds] == [ids(*numbers) for numbers in tests]


def test_another_seed_makes_other_folds():
  assert true_folds(make_videos(20), seed=1) != true_folds(make_videos(20), seed=2)


@pytest.mark.parametrize(("number", "num_folds"), [(4, 5), (4, 1), (0, 0)])
def test_a_wrong_number_of_folds_is_told(number, num_folds):
  with pytest.raises(InputError, match=f"cannot make {num_folds} folds of {number} videos"):
    true_folds(make_videos(number), num_folds)


def test_two_videos_of_one_id_are_told():
  with pytest.raises(InputError, match="video_1: there are two videos with this id"):
    true_folds(make_videos(3) + make_videos(3), 2)


@given(st.integers(2, 60), st.floats(0.01, 0.5), st.integers(0, 9))
def test_validation_comes_out_of_the_training_videos(number, share, seed):
  videos = make_videos(number + 1, 4)
  fold = Fold(tuple(video.id for video in videos[1:]), (videos[0].id,))
  train, validation = carve_validation(fold, share, seed, videos=videos)
  assert set(train) | set(validation) == set(fold.train)
  assert len(train) + len(validation) == len(fold.train)
  assert len(validation) == max(1, round(share * number))
  assert (train, validation) == carve_validation(fold, share, seed, videos=videos)
  other = Fold(fold.train[::-1], ids(9999))
  assert (train, validation) == carve_validation(other, share, seed, videos=videos)


def test_validation_is_spread_over_categories():
  videos = make_videos(41, 10)
  fold = Fold(tuple(video.id for video in videos[:40]), (videos[40].id,))
  category = {video.id: video.category for video in videos}
  for number in (4, 10):
    _, validation = carve_validation(fold, number / 40, videos=videos)
    assert len({category[video] for video in validation}) == number
  choices = {carve_validation(fold, 0.1, seed, videos=videos)[1] for seed in range(20)}
  assert len(choices) > 10


def test_a_published_validation_part_stays():
  fold = Fold(ids(1, 2), ids(3), ids(4))
  assert carve_validation(fold, 0.5) == (ids(1, 2), ids(4))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, np.nan, 0.9])
def test_a_share_that_leaves_nothing_is_told(share):
  with pytest.raises(InputError, match=r"above 0 and below 1|leaves none to train on"):
    carve_validation(Fold(ids(1, 2), ids(3)), share)


OURS = [{"train": ids(1, 2), "test": ids(3, 4)}, {"train": ids(3, 4), "test": ids(1, 2)}]
KEYS = [
  {"train_keys": ["../data/tvsum.h5/video_1", "x/video_2"], "test_keys": ["Name 3", "name_4"]},
  {"train_keys": ["video_3", "video_4"], "test_keys": ["video_1", "video_2"]},
]
TEXT = (
  "TVSum/split0/video_1,video_2/video_3,video_4\r\nTVSum/split1/video_3,video_4/video_1,video_2"
)


@pytest.mark.parametrize(
  ("content", "name"),
  [
    (OURS, ""),
    (KEYS, ""),
    ({"tvsum": {"csta": OURS, "pglsum": []}, "summe": {"csta": []}}, "tvsum/csta"),
    ({"tvsum": {"csta": OURS}}, ""),
    (TEXT, ""),
    (TEXT, "TVSum"),
    (TEXT + "\nSumMe/split0/a/b\n\n", "TVSum"),
  ],
)
def test_every_form_of_published_splits_is_read(tmp_path, content, name):
  path = tmp_path / "splits.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  split = load_splits(path, name, videos=make_videos(4))
  assert split == Split(name or "splits", FOLDS)


@pytest.mark.parametrize(
  "keys", [("train_keys", "test_keys", "val_keys"), ("train", "test", "val")]
)
def test_one_fold_with_a_validation_part_is_read(tmp_path, keys):
  path = tmp_path / "mr_hisum_split.json"
  path.write_text(json.dumps(dict(zip(keys, (ids(1, 2), ids(3), ids(4)), strict=True))))
  split = load_splits(path, videos=make_videos(4))
  assert split.folds == (Fold(ids(1, 2), ids(3), ids(4)),)
  assert split.overlap == Overlap(never_tested=3, tested_again=0)


@pytest.mark.parametrize(
  ("content", "name", "message"),
  [
    ("", "", "holds no fold"),
    ("{}", "", "holds no fold"),
    ("3", "", ":1: expected DATASET/FOLD"),
    ("TVSum/split0/video_1", "", ":1: expected DATASET/FOLD"),
    ("[1", "", "is not JSON"),
    ("[1]", "", "fold 0: must be an object of train and test"),
    ('[{"train": ["video_1"]}]', "", "fold 0: must be an object of train and test"),
    ('[{"train": "video_1", "test": []}]', "", "fold 0: train: must be a list of names"),
    ('[{"train": [1], "test": []}]', "", "fold 0: train: must be a list of names"),
    ('{"a": [], "b": []}', "", "has several splits; name one of its own: a, b"),
    ('{"a": {"b": []}}', "b", "has no split 'b'; name one of its own: a/b"),
    ("[]", "", "holds no fold"),
    ('{"a": [], "b": [1]}', "a", "split 'a': holds no fold"),
    ("[]", "b", "has no split 'b'; name one of its own: one without a name"),
    (
      json.dumps([OURS[0], {"train": ids(1), "test": ids(*range(7, 15))}]),
      "",
      "fold 1: test: names what is not a video of the benchmark: video_7, .*, video_11 and 3 more$",
    ),
    ('[{"train": ["video_1"], "test": ["Name_1"]}]', "", "video_1 stands in train and in test"),
    ('[{"train": ["video_1"], "test": []}]', "", "fold 0: a fold needs videos"),
  ],
)
def test_a_file_that_is_wrong_is_named_with_the_place(tmp_path, content, name, message):
  path = tmp_path / "splits.json"
  path.write_text(content)
  with pytest.raises(InputError, match=rf"splits\.json:? ?.*{message}"):
    load_splits(path, name, videos=make_videos(4))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_what_cannot_be_read_is_told(tmp_path, content):
  path = tmp_path / "splits.json"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(InputError, match=r"splits\.json: cannot be read"):
    load_splits(path, videos=make_videos(4))


def test_published_splits_overlap_as_they_are_known_to(shared):
  videos = {
    "tvsum": load_benchmark(shared / "tvsum.h5", segments=""),
    "summe": load_benchmark(shared / "summe.h5"),
  }
  overlap = {}
  for dataset in videos:
    for source in ("csta", "sspvs", "pglsum"):
      name = f"{dataset}/{source}"
      split = load_splits(shared / "splits.json", name, videos=videos[dataset])
      overlap[name] = split.overlap
  assert overlap.pop("tvsum/pglsum") == Overlap(never_tested=16, tested_again=13)
  assert overlap.pop("summe/pglsum") == Overlap(never_tested=7, tested_again=6)
  assert set(overlap.values()) == {Overlap(0, 0)}


def test_each_true_fold_of_tvsum_tests_one_video_of_each_category(shared):
  videos = load_benchmark(shared / "tvsum.h5", segments="")
  category = {video.id: video.category for video in videos}
  for fold in true_folds(videos).folds:
    assert len({category[video] for video in fold.test}) == len(fold.test) == 10
