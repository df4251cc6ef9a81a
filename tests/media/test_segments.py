import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.media import segments
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
  with pytest.raises(InputError, match=r"edges_s: extends to [\d.]+ s, but the video ends at 10 s"):
    segments.from_edges(edges_s, 10.0)


def test_frame_times_are_middles_of_equal_parts():
  times = segments.frame_times(np.array([[0.0, 2.0], [2.0, 5.0]]), 2)
  np.testing.assert_allclose(times, [[0.5, 1.5], [2.75, 4.25]])
  np.testing.assert_allclose(segments.frame_times(np.array([[1.0, 4.0]]), 1), [[2.5]])


def test_edges_and_segments_are_made_of_each_other():
  span_s_N2 = segments.between((0.5, 2.0, 3.25))
  assert span_s_N2.tolist() == [[0.5, 2.0], [2.0, 3.25]]
  assert segments.edges_of(span_s_N2) == (0.5, 2.0, 3.25)


@pytest.mark.parametrize(
  ("time_s", "text"),
  [
    (0, "0:00"),
    (7, "0:07"),
    (59.96, "1:00"),
    (750.5, "12:30.5"),
    (2 / 3, "0:00.7"),
    (3723, "1:02:03"),
    (36_000.0, "10:00:00"),
  ],
)
def test_clock(time_s, text):
  assert segments.clock(time_s) == text
