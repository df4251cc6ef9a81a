import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.media import segmentation
from vsumjax.types import InputError


def scatter(features):
  return float(((features - features.mean(axis=0)) ** 2).sum())


def objective(features, edges, penalty):
  num_changes = len(edges) - 2
  g = num_changes * (math.log(len(features) / num_changes) + 1) if num_changes else 0.0
  within = sum(scatter(features[a:b]) for a, b in itertools.pairwise(edges))
  return within + penalty * g


def best_by_hand(features, max_segments, penalty, min_length, max_length):
  """The least objective over every segmentation there is; None without one."""
  num_frames = len(features)
  values = [
    objective(features, edges, penalty)
    for num_changes in range(max_segments)
    for inner in itertools.combinations(range(1, num_frames), num_changes)
    for edges in [(0, *inner, num_frames)]
    if all(min_length <= b - a <= max_length for a, b in itertools.pairwise(edges))
  ]
  return min(values, default=None)


@st.composite
def problems(draw):
  num_frames = draw(st.integers(1, 10))
  numbers = st.one_of(st.integers(-3, 3), st.floats(-100, 100))
  rows = st.lists(numbers, min_size=2, max_size=2)
  features = draw(st.lists(rows, min_size=num_frames, max_size=num_frames))
  min_length = draw(st.integers(1, 3))
  return {
    "features": np.array(features, np.float64),
    "max_segments": draw(st.integers(1, 10)),
    "penalty": draw(st.sampled_from([0.0, 0.1, 1.0, 30.0])),
    "min_length": min_length,
    "max_length": draw(st.integers(min_length, 10)),
  }


@pytest.mark.parametrize("block_rows", [(96, 1024), (1, 1), (3, 3)])
def test_kts_is_the_best_of_all_segmentations(block_rows, monkeypatch):
  monkeypatch.setattr(segmentation, "_BLOCK_ROWS", block_rows)

  @given(problems())
  def check(problem):
    features = problem.pop("features")
    best = best_by_hand(features, **problem)
    if best is None:
      with pytest.raises(InputError, match="kts: "):
        segmentation.kts(features, **problem)
      return
    edges = segmentation.kts(features, **problem)
    assert edges.dtype == np.int64
    assert (edges[0], edges[-1]) == (0, len(features))
    lengths = np.diff(edges)
    assert problem["min_length"] <= lengths.min() <= lengths.max() <= problem["max_length"]
    assert len(lengths) <= problem["max_segments"]
    slack = 1e-9 * (1 + scatter(features))
    assert objective(features, edges, problem["penalty"]) == pytest.approx(best, abs=slack)

  check()


def stepwise(lengths, noise, num_dims=4, seed=0):
  rng = np.random.default_rng(seed)
  means = rng.choice([-1.0, 1.0], (len(lengths), num_dims))
  means[1::2] = -means[:-1:2][: len(means[1::2])]  # neighbours differ in every dimension
  steps = np.repeat(means, lengths, axis=0)
  return steps + noise * rng.standard_normal(steps.shape)


@pytest.mark.parametrize("max_length", [None, 700])
def test_kts_finds_the_changes_of_a_long_sequence(max_length):
  lengths = [300, 500, 7, 411, 90, 600, 3, 289]  # in more than one block
  features = stepwise(lengths, noise=0.3)
  edges = segmentation.kts(features, max_segments=20, penalty=2.0, max_length=max_length)
  np.testing.assert_array_equal(edges, np.cumsum([0, *lengths]))


def test_kts_does_not_mind_where_the_origin_is():
  features = stepwise([30, 20, 50], noise=0.1)
  far = features + 1e6
  np.testing.assert_array_equal(segmentation.kts(far, max_segments=9), [0, 30, 50, 100])


def test_small_changes_far_from_the_origin_are_found():
  lengths = [50] * 200
  steps = np.repeat(np.resize([0.0, 0.01], len(lengths)), lengths)[:, None]
  # The first frame, from which features are counted, is far from all others.
  features = np.concatenate([[[-1000.0]], steps])
  edges = segmentation.kts(features, max_segments=250, penalty=1e-4, max_length=80)
  np.testing.assert_array_equal(edges, np.cumsum([0, 1, *lengths]))


def test_penalty_counts_as_in_the_paper():
  # A change in the middle of 4 frames saves a scatter of 4 * 1.5 ** 2 and costs C (log 4 + 1).
  features = np.array([[0.0], [0.0], [3.0], [3.0]])
  limit = 9 / (math.log(4) + 1)
  for penalty, edges in ((0.999 * limit, [0, 2, 4]), (1.001 * limit, [0, 4])):
    found = segmentation.kts(features, max_segments=2, penalty=penalty)
    np.testing.assert_array_equal(found, edges)


def test_constant_features_are_one_segment():
  for penalty in (0.0, 1.0):
    edges = segmentation.kts(np.full((50, 3), 0.1), max_segments=50, penalty=penalty)
    np.testing.assert_array_equal(edges, [0, 50])


def test_one_frame_and_two():
  np.testing.assert_array_equal(segmentation.kts([[5.0]], max_segments=3), [0, 1])
  np.testing.assert_array_equal(segmentation.kts([[0.0], [9.0]], max_segments=3), [0, 1, 2])
  np.testing.assert_array_equal(segmentation.kts([[0.0], [1.0]], max_segments=3), [0, 2])
  np.testing.assert_array_equal(segmentation.kts([[0.0], [9.0]], max_segments=1), [0, 2])


def test_of_equal_segmentations_the_earliest_last_change_is_taken():
  features = np.array([[0.0], [2.0], [0.0]])
  edges = segmentation.kts(features, max_segments=2, penalty=0.1)
  np.testing.assert_array_equal(edges, [0, 1, 3])
  edges = segmentation.kts(np.zeros((7, 1)), max_segments=3, max_length=3)
  np.testing.assert_array_equal(edges, [0, 1, 4, 7])


@pytest.mark.parametrize(
  ("features", "options", "message"),
  [
    (np.array([[1.0], [np.nan]]), {}, "features of frame 1 are not finite"),
    (np.array([[np.inf], [1.0]]), {}, "features of frame 0 are not finite"),
    (np.zeros((0, 3)), {}, r"features must be \[T, D\]"),
    (np.zeros(3), {}, r"features must be \[T, D\]"),
    (np.zeros((9, 1)), {"penalty": -1.0}, "penalty -1.0 must be"),
    (np.zeros((9, 1)), {"penalty": math.nan}, "penalty nan must be"),
    (np.zeros((9, 1)), {"min_length": 0}, "min_length 0 at least 1"),
    (np.zeros((9, 1)), {"min_length": 10}, "and the 9 frames"),
    (np.zeros((9, 1)), {"max_length": 2}, "cannot be cut into at most 4 segments"),
    (np.zeros((9, 1)), {"max_segments": 0}, "cannot be cut into at most 0 segments"),
    (np.zeros((7, 1)), {"min_length": 4, "max_length": 6}, "cannot be cut into at most 1 seg"),
  ],
)
def test_kts_refuses_what_it_cannot_cut(features, options, message):
  with pytest.raises(InputError, match=message):
    segmentation.kts(features, **{"max_segments": 4, **options})


def test_kts_needs_the_memory_it_states():
  num_frames, max_length, max_segments, dims = 6000, 40, 400, 32
  features = np.random.default_rng(0).standard_normal((num_frames, dims)).astype(np.float32)
  tracemalloc.start()
  segmentation.kts(features, max_segments=max_segments, max_length=max_length)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  sums = 8 * dims * (num_frames + 2 * max_length + 2048)
  tables = max_segments * num_frames + 16 * max_segments * (max_length + 1024)
  assert peak < sums + tables + 80 * 2**20 < 8 * num_frames**2 / 2


RATE = 10.0
CELLS = 64


def shot(rng, num_frames, noise=0.005, drift=0.0):
  """A picture of its own, that drifts towards another one."""
  start, end = rng.uniform(0, 1, (2, CELLS, 3))
  share = drift * np.arange(num_frames)[:, None, None] / RATE
  return (1 - share) * start + share * end + noise * rng.standard_normal((num_frames, CELLS, 3))


def shots(seed, lengths, **options):
  rng = np.random.default_rng(seed)
  return np.concatenate([shot(rng, length, **options) for length in lengths])


def boundaries(colours):
  found = segmentation.shot_boundaries(colours, RATE)
  assert found.dtype == np.int64
  return found.tolist()


@given(
  st.integers(0, 1000),
  st.lists(st.integers(5, 40), min_size=1, max_size=6),
  st.sampled_from([0.0, 0.005, 0.03]),
  st.sampled_from([0.0, 0.1, 0.2]),
)
def test_cuts_are_found_where_they_are(seed, lengths, noise, drift):
  colours = shots(seed, lengths, noise=noise, drift=drift)
  assert boundaries(colours) == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("start", [1, 20, 34])
def test_a_flash_is_no_cut(length, start):
  colours = shots(0, [40])
  colours[start : start + length] += 0.5
  assert boundaries(colours) == []


def test_a_cut_beside_a_flash_is_found():
  colours = shots(0, [30, 30])
  colours[22:24] += 0.5
  colours[41] += 0.5
  assert boundaries(colours) == [30]


def test_a_thing_that_appears_is_no_cut():
  colours = shots(0, [40])
  colours[20:, : CELLS * 2 // 5] = 0.9
  assert boundaries(colours) == []
  colours[20:, : CELLS * 4 // 5] = 0.9
  assert boundaries(colours) == [20]


def test_a_pan_is_no_cut():
  rng = np.random.default_rng(0)
  wall = np.cumsum(rng.normal(0, 0.05, (CELLS * 3, 3)), axis=0)
  for speed in (1, 2):
    colours = np.stack([wall[speed * t : speed * t + CELLS] for t in range(60)])
    assert boundaries(colours) == []


@pytest.mark.parametrize("length", [4, 8, 12])
def test_a_dissolve_is_found_once_and_within_it(length):
  for seed in range(20):
    one, other = shots(seed, [30]), shots(seed + 100, [30])
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None]
    dissolve = (1 - share) * one[-1] + share * other[0]
    (found,) = boundaries(np.concatenate([one, dissolve, other]))
    assert 30 <= found <= 30 + length


def test_frames_shown_twice_change_nothing():
  cuts = boundaries(np.repeat(shots(1, [9, 12, 10], drift=0.3), 2, axis=0))
  assert cuts == [18, 42]


def test_slides_are_shots():
  slides = np.repeat(shots(2, [1, 1, 1, 1], noise=0), [30, 7, 50, 12], axis=0)
  assert boundaries(slides) == [30, 37, 87]


def test_short_sequences_have_few_shots():
  assert boundaries(np.zeros((1, CELLS, 3))) == []
  assert boundaries(np.zeros((2, CELLS, 3))) == []
  assert boundaries(shots(0, [1, 1])) == [1]


def test_a_constant_picture_is_one_shot():
  assert boundaries(np.full((100, CELLS, 3), 0.3)) == []


@pytest.mark.parametrize(
  ("colours", "message"),
  [
    (np.full((3, CELLS, 3), np.nan), "colours of frame 0 are not finite"),
    (np.zeros((3, CELLS)), r"colours must be \[T, P, C\]"),
    (np.zeros((0, CELLS, 3)), r"colours must be \[T, P, C\]"),
  ],
)
def test_colours_that_are_no_pictures_are_refused(colours, message):
  with pytest.raises(InputError, match=message):
    segmentation.shot_boundaries(colours, RATE)
