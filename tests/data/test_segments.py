import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vsumjax.data import segments
from vsumjax.data.manifest import Labels
from vsumjax.types import InputError


@pytest.mark.parametrize(
  ("duration_s", "edges_s"),
  [
    (8.0, [0, 2, 4, 6, 8]),
    (7.0, [0, 2, 4, 6, 7]),  # half a segment stays
    (6.99, [0, 2, 4, 6.99]),  # less is merged
    (8.01, [0, 2, 4, 6, 8.01]),
    (7.99, [0, 2, 4, 6, 7.99]),
    (0.2, [0, 0.2]),
  ],
)
def test_cut(duration_s, edges_s):
  spans = segments.cut(duration_s, 2.0)
  assert spans.dtype == np.float64
  np.testing.assert_array_equal(spans, np.stack([edges_s[:-1], edges_s[1:]], axis=1))


@given(st.floats(1e-3, 1e5), st.floats(0.05, 100))
def test_cut_covers_the_video_with_pieces_of_about_the_size(duration_s, segment_s):
  spans = segments.cut(duration_s, segment_s)
  assert spans[0, 0] == 0
  assert spans[-1, 1] == duration_s
  np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
  lengths_s = spans[:, 1] - spans[:, 0]
  slack_s = 1e-9 * duration_s
  assert lengths_s.max() < 1.5 * segment_s + slack_s
  if duration_s >= segment_s / 2:
    assert lengths_s.min() >= segment_s / 2 - slack_s


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_cut_refuses_what_is_no_length(bad):
  with pytest.raises(InputError, match="duration_s must be"):
    segments.cut(bad, 2.0)
  with pytest.raises(InputError, match="segment_s must be"):
    segments.cut(2.0, bad)


def test_edges_that_somebody_chose_are_segments():
  spans = segments.from_edges((1, 3.5, 9), 12.0)
  assert spans.dtype == np.float64
  np.testing.assert_array_equal(spans, [[1, 3.5], [3.5, 9]])


def test_last_edge_that_is_off_by_rounding_is_the_end():
  np.testing.assert_array_equal(segments.from_edges((0, 5, 10.03), 9.98), [[0, 5], [5, 9.98]])


@pytest.mark.parametrize("edges_s", [(0, 5, 10.2), (0, 5, 10, 20), (0, 10.01, 10.02), (11, 12)])
def test_edges_after_the_end_are_refused(edges_s):
  with pytest.raises(InputError, match=r"edges_s: goes on to [\d.]+ s, but the video ends at 10 s"):
    segments.from_edges(edges_s, 10.0)


def test_frame_times_are_middles_of_equal_parts():
  times = segments.frame_times(np.array([[0.0, 2.0], [2.0, 5.0]]), 2)
  np.testing.assert_allclose(times, [[0.5, 1.5], [2.75, 4.25]])
  np.testing.assert_allclose(segments.frame_times(np.array([[1.0, 4.0]]), 1), [[2.5]])


LABELS = Labels(2.0, np.array([[1, 3, 5], [2, 3, 5]], np.int8))


def test_histogram_of_spans_that_are_units():
  histogram = segments.level_histogram(LABELS, segments.cut(6.0, 2.0), 5)
  assert histogram.dtype == np.float32
  np.testing.assert_allclose(
    histogram, [[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], atol=1e-7
  )


def test_histogram_weighs_units_by_overlap():
  spans = np.array([[1.0, 5.0], [0.5, 2.5], [5.0, 9.0]])
  histogram = segments.level_histogram(LABELS, spans, 5)
  expected = [
    [0.125, 0.125, 0.5, 0, 0.25],
    [0.375, 0.375, 0.25, 0, 0],
    [0, 0, 0, 0, 1],  # the part that is labelled counts
  ]
  np.testing.assert_allclose(histogram, expected, atol=1e-7)


def test_histogram_is_zero_where_nothing_is_labelled():
  spans = np.array([[6.0, 8.0], [6.0 - 1e-9, 8.0], [100.0, 102.0]])
  np.testing.assert_array_equal(segments.level_histogram(LABELS, spans, 5), np.zeros((3, 5)))


def test_level_above_those_of_the_model_is_refused():
  with pytest.raises(InputError, match="level 5, above the 4 levels"):
    segments.level_histogram(LABELS, segments.cut(6.0, 2.0), 4)


@given(
  st.integers(1, 6), st.integers(1, 20), st.floats(0.3, 5), st.floats(0.5, 60), st.floats(0.3, 9)
)
def test_histogram_sums_to_one_or_is_zero(num_annotators, num_units, unit_s, duration_s, segment_s):
  rng = np.random.default_rng(0)
  labels = Labels(unit_s, rng.integers(1, 6, (num_annotators, num_units)).astype(np.int8))
  spans = segments.cut(duration_s, segment_s)
  histogram = segments.level_histogram(labels, spans, 5)
  assert (histogram >= 0).all()
  labelled = spans[:, 0] < num_units * unit_s - 2e-3
  np.testing.assert_allclose(histogram.sum(axis=1)[labelled], 1, atol=1e-5)


def histogram_of_every_unit(labels, span_s_N2, num_levels):
  """The definition: the overlap of every span with every unit."""
  share_UC = (labels.levels_AN[:, :, None] == np.arange(1, num_levels + 1)).mean(axis=0)
  start_U = np.arange(labels.levels_AN.shape[1]) * labels.unit_s
  start_NU = np.maximum(span_s_N2[:, :1], start_U)
  end_NU = np.minimum(span_s_N2[:, 1:], start_U + labels.unit_s)
  overlap_NU = np.maximum(end_NU - start_NU, 0.0)
  covered_N1 = overlap_NU.sum(axis=1, keepdims=True)
  weight_NU = np.divide(
    overlap_NU, covered_N1, out=np.zeros_like(overlap_NU), where=covered_N1 >= 1e-3
  )
  return weight_NU @ share_UC


@given(
  st.integers(0, 10**6),
  st.integers(1, 6),
  st.integers(1, 200),
  st.floats(0.02, 5),
  st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50)), min_size=1, max_size=9),
)
def test_histogram_is_that_of_the_overlaps(seed, num_annotators, num_units, unit_s, spans):
  rng = np.random.default_rng(seed)
  labels = Labels(unit_s, rng.integers(1, 6, (num_annotators, num_units)).astype(np.int8))
  spans = np.array([(start_s, start_s + length_s) for start_s, length_s in spans])
  covered_s = np.minimum(spans[:, 1], num_units * unit_s) - spans[:, 0]
  assume((np.abs(covered_s - 1e-3) > 1e-9).all())  # there rounding decides
  np.testing.assert_allclose(
    segments.level_histogram(labels, spans, 5),
    histogram_of_every_unit(labels, spans, 5),
    atol=1e-6,
  )


def test_histogram_of_labels_for_every_frame_of_a_long_video_needs_little_memory():
  levels_AN = np.ones((20, 100_000), np.int8)
  levels_AN[:10, 50_000:] = 5
  labels = Labels(0.036, levels_AN)
  tracemalloc.start()
  histogram = segments.level_histogram(labels, segments.cut(3600.0, 1.0), 5)
  peak_bytes = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak_bytes < 10e6  # spans times units would be 2.9e9
  np.testing.assert_array_equal(histogram[[0, -1]], [[1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0.5]])


def test_edges_and_segments_are_made_of_each_other():
  span_s_N2 = segments.between((0.5, 2.0, 3.25))
  assert span_s_N2.tolist() == [[0.5, 2.0], [2.0, 3.25]]
  assert segments.edges_of(span_s_N2) == (0.5, 2.0, 3.25)
