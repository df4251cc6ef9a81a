import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.predictions import Prediction
from vsumjax.types import InputError

FINITE = st.floats(-1e6, 1e6)


def make_video(num_frames=40, step=15, fps=10.0):
  return AnnotatedVideo(
    id="video_3", num_frames=num_frames, picks_P=np.arange(0, num_frames, step), fps=fps
  )


@given(st.integers(1, 100), st.integers(1, 20), st.data())
def test_a_frame_has_the_score_of_the_last_pick(num_frames, step, data):
  video = make_video(num_frames, step)
  score_P = data.draw(hnp.arrays(np.float64, video.num_picks, elements=FINITE))
  prediction = Prediction.from_picks(video, score_P)
  np.testing.assert_array_equal(prediction.score_P, score_P)
  expected = [
    score_P[max(p for p, at in enumerate(video.picks_P) if at <= frame)]
    for frame in range(num_frames)
  ]
  np.testing.assert_array_equal(prediction.score_F, expected)
  again = Prediction.from_frames(video, prediction.score_F)
  np.testing.assert_array_equal(again.score_P, score_P)


@given(st.integers(1, 100), st.integers(1, 20), st.data())
def test_a_pick_has_the_score_of_its_frame(num_frames, step, data):
  video = make_video(num_frames, step)
  score_F = data.draw(hnp.arrays(np.float64, num_frames, elements=FINITE))
  prediction = Prediction.from_frames(video, score_F)
  np.testing.assert_array_equal(prediction.score_F, score_F)
  np.testing.assert_array_equal(prediction.score_P, score_F[::step])


def test_scores_are_of_64_bits_and_told_apart_by_their_number():
  video = make_video()
  by_pick = Prediction.from_scores(video, np.arange(3, dtype=np.float32))
  by_frame = Prediction.from_scores(video, np.arange(40))
  for prediction in (by_pick, by_frame):
    assert prediction.score_P.dtype == prediction.score_F.dtype == np.float64
  np.testing.assert_array_equal(by_pick.score_F[[14, 15, 39]], [0, 1, 2])
  np.testing.assert_array_equal(by_frame.score_P, [0, 15, 30])


def test_where_every_frame_is_picked_both_readings_are_the_same():
  video = make_video(step=1)
  score_N = np.random.default_rng(0).random(40)
  for read in (Prediction.from_picks, Prediction.from_frames, Prediction.from_scores):
    prediction = read(video, score_N)
    np.testing.assert_array_equal(prediction.score_P, score_N)
    np.testing.assert_array_equal(prediction.score_F, score_N)


def test_a_wrong_number_of_scores_is_told():
  video = make_video(10597)
  with pytest.raises(
    InputError, match=r"^video_3: 100 scores, but it has 707 picks and 10,597 frames$"
  ):
    Prediction.from_scores(video, np.ones(100))
  with pytest.raises(InputError, match=r"^video_3: 100 scores, but it has 707 picks$"):
    Prediction.from_picks(video, np.ones(100))
  with pytest.raises(InputError, match=r"^video_3: 707 scores, but it has 10,597 frames$"):
    Prediction.from_frames(video, np.ones(707))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_told(value):
  score_F = np.ones(40)
  score_F[2] = value
  for read, count in ((Prediction.from_picks, 3), (Prediction.from_frames, 40)):
    with pytest.raises(InputError, match=rf"^video_3: score 2 is {value}, must be a finite"):
      read(make_video(), score_F[:count])
  with pytest.raises(InputError, match=rf"^video_3: score 2 is {value}, must be a finite"):
    Prediction.from_spans(make_video(), np.array([[0, 1], [1, 2], [2, 4]]), score_F[:3])


@given(st.integers(1, 80), st.lists(st.floats(0.5, 5), min_size=1, max_size=10), st.data())
def test_a_frame_has_the_score_of_the_span_that_its_middle_is_in(num_frames, lengths, data):
  edges_s = np.concatenate([[0], np.cumsum(lengths)])
  span_s_N2 = np.stack([edges_s[:-1], edges_s[1:]], axis=1)
  score_N = data.draw(hnp.arrays(np.float64, len(lengths), elements=FINITE))
  video = make_video(num_frames, 7, fps=num_frames / edges_s[-1])
  prediction = Prediction.from_spans(video, span_s_N2, score_N)
  for frame in range(num_frames):
    time_s = (frame + 0.5) / video.fps
    within = (edges_s[:-1] - 2e-3 <= time_s) & (time_s <= edges_s[1:] + 2e-3)
    assert prediction.score_F[frame] in score_N[within]
  np.testing.assert_array_equal(prediction.score_P, prediction.score_F[::7])


def test_the_last_span_lasts_half_a_second_or_its_own_length_longer():
  def scores(num_frames, *span_s):
    score_N = np.arange(len(span_s), dtype=np.float64)
    return Prediction.from_spans(make_video(num_frames), np.array(span_s), score_N).score_F

  np.testing.assert_array_equal(scores(35, [0, 2.8], [2.8, 3]), 28 * [0] + 7 * [1])
  np.testing.assert_array_equal(scores(40, [0, 2], [2, 3]), 20 * [0] + 20 * [1])
  with pytest.raises(InputError, match=r"frame 35, at 3\.55 s, is in none of the 2 spans"):
    scores(36, [0, 2.8], [2.8, 3])
  with pytest.raises(InputError, match=r"frame 40, at 4\.05 s"):
    scores(41, [0, 2], [2, 3])


@pytest.mark.parametrize(
  ("span_s", "message"),
  [
    ([[0, 2], [1.9, 4]], r"span 1 starts at 1\.9 s, before span 0 ends at 2\.0 s"),
    ([[2, 4], [0, 2]], r"span 1 starts at 0\.0 s, before span 0 ends"),
    ([[0, 2], [2.2, 4]], r"frame 20, at 2\.05 s, is in none of the 2 spans, which go from 0\.00"),
    ([[0.1, 2], [2, 4]], r"frame 0, at 0\.05 s, is in none"),
    ([[0, 2], [2, 2]], r"span 1, \[2\.0, 2\.0\], must end after it starts"),
    ([[0, 2], [2, np.nan]], r"span 1, \[2\.0, nan\], must end after it starts"),
    ([[-np.inf, 2], [2, 4]], r"span 0, \[-inf, 2\.0\]"),
    ([[0, 2], [2, 3], [3, 4]], "has 3 spans, but 2 scores"),
    ([0, 2], r"spans have shape \[2\], expected \[spans, 2\]"),
    (np.zeros((0, 2)), r"spans have shape \[0, 2\]"),
  ],
)
def test_spans_that_are_wrong_are_told(span_s, message):
  with pytest.raises(InputError, match=f"^video_3: {message}"):
    Prediction.from_spans(make_video(), np.array(span_s), np.ones(2))


def test_spans_that_are_rounded_apart_meet():
  span_s_N2 = np.array([[0.0004, 1.0499], [1.0504, 2.0004], [1.9999, 4]])
  prediction = Prediction.from_spans(make_video(), span_s_N2, np.arange(3))
  np.testing.assert_array_equal(prediction.score_F[[0, 9, 19, 20]], [0, 0, 1, 2])


def test_spans_need_a_known_rate():
  with pytest.raises(InputError, match=r"^video_3: its frames a second are not known"):
    Prediction.from_spans(make_video(fps=0.0), np.array([[0, 4]]), np.ones(1))
