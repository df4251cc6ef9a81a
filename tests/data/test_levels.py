import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vsumjax.data.levels import level_histogram
from vsumjax.data.videos import Labels
from vsumjax.media import segments
from vsumjax.types import InputError

LABELS = Labels(2.0, np.array([[1, 3, 5], [2, 3, 5]], np.int8))


def test_histogram_of_spans_that_are_units():
  histogram = level_histogram(LABELS, segments.cut(6.0, 2.0), 5)
  assert histogram.dtype == np.float32
  np.testing.assert_allclose(
    histogram, [[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], atol=1e-7
  )


def test_histogram_weighs_units_by_overlap():
  spans = np.array([[1.0, 5.0], [0.5, 2.5], [5.0, 9.0]])
  histogram = level_histogram(LABELS, spans, 5)
  expected = [
    [0.125, 0.125, 0.5, 0, 0.25],
    [0.375, 0.375, 0.25, 0, 0],
    [0, 0, 0, 0, 1],  # the part that is labelled counts
  ]
  np.testing.assert_allclose(histogram, expected, atol=1e-7)


def test_histogram_is_zero_where_nothing_is_labelled():
  spans = np.array([[6.0, 8.0], [6.0 - 1e-9, 8.0], [100.0, 102.0]])
  np.testing.assert_array_equal(level_histogram(LABELS, spans, 5), np.zeros((3, 5)))


def test_level_above_those_of_the_model_is_refused():
  with pytest.raises(InputError, match="level 5, above the 4 levels"):
    level_histogram(LABELS, segments.cut(6.0, 2.0), 4)


@given(
  st.integers(1, 6), st.integers(1, 20), st.floats(0.3, 5), st.floats(0.5, 60), st.floats(0.3, 9)
)
def test_histogram_sums_to_one_or_is_zero(num_annotators, num_units, unit_s, duration_s, segment_s):
  rng = np.random.default_rng(0)
  labels = Labels(unit_s, rng.integers(1, 6, (num_annotators, num_units)).astype(np.int8))
  spans = segments.cut(duration_s, segment_s)
  histogram = level_histogram(labels, spans, 5)
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
    level_histogram(labels, spans, 5),
    histogram_of_every_unit(labels, spans, 5),
    atol=1e-6,
  )


def test_histogram_of_labels_for_every_frame_of_a_long_video_needs_little_memory():
  levels_AN = np.ones((20, 100_000), np.int8)
  levels_AN[:10, 50_000:] = 5
  labels = Labels(0.036, levels_AN)
  tracemalloc.start()
  histogram = level_histogram(labels, segments.cut(3600.0, 1.0), 5)
  peak_bytes = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak_bytes < 10e6  # spans times units would be 2.9e9
  np.testing.assert_array_equal(histogram[[0, -1]], [[1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0.5]])
