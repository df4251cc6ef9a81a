import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.evaluation.benchmark import AnnotatedVideo, uniform_segments
from vsumjax.types import InputError


def make_video(**changes):
  """40 frames, every 15th picked, two annotators, segments with a gap."""
  video = AnnotatedVideo(
    id="video_3",
    num_frames=40,
    picks_P=np.array([0, 15, 30]),
    fps=30.0,
    levels_AF=np.ones((2, 40), np.uint8),
    summary_AF=np.zeros((2, 40), bool),
    gtscore_P=np.array([0.1, 0.5, 0.2]),
    segments_K2=np.array([[0, 9], [10, 19], [25, 38]]),
  )
  return dataclasses.replace(video, **changes)


def test_a_video_may_lack_all_that_annotators_said():
  video = AnnotatedVideo(id="a", num_frames=1, picks_P=np.array([0]), fps=0.0)
  assert video.num_picks == 1
  assert make_video().num_picks == 3


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_frames": 0}, "num_frames: must be at least 1, is 0"),
    ({"fps": np.nan}, "fps: must be a number, and 0 where it is not known, is nan"),
    ({"fps": -1.0}, "fps: must be a number"),
    ({"picks_P": np.zeros(0, np.int64)}, r"picks_P: has shape \[0\], expected \[picks\]"),
    ({"picks_P": np.array([1, 15, 30])}, "picks_P: the first must be frame 0, is 1"),
    ({"picks_P": np.array([0, 15, 15])}, "picks_P: must ascend, but 15 is followed by 15"),
    ({"picks_P": np.array([0, 15, 40])}, "picks_P: frame 40 is not of the 40 frames"),
    ({"levels_AF": np.ones((2, 39), np.uint8)}, r"levels_AF: has shape \[2, 39\], expected"),
    ({"levels_AF": np.ones((0, 40), np.uint8)}, r"levels_AF: has shape \[0, 40\], expected"),
    ({"summary_AF": np.ones(40, bool)}, r"summary_AF: .*expected \[annotators, 40\]"),
    ({"gtscore_P": np.ones(4)}, r"gtscore_P: has shape \[4\], expected \[3\]"),
    ({"gtscore_P": np.array([0, np.nan, 1])}, "gtscore_P: entry 1 is nan, must be finite"),
    ({"segments_K2": np.array([0, 39])}, r"segments_K2: has shape \[2\]"),
    ({"segments_K2": np.array([[0, 9], [12, 11]])}, r"segment 1 ends before it starts: \[12, 11\]"),
    ({"segments_K2": np.array([[0, 9], [9, 39]])}, r"segments 0 and 1 overlap or do not ascend"),
    ({"segments_K2": np.array([[20, 39], [0, 19]])}, r"overlap.*: \[20, 39\] and \[0, 19\]"),
    ({"segments_K2": np.array([[0, 40]])}, r"reach over \[0, 40\], but the video has 40 frames"),
    ({"segments_K2": np.array([[-1, 3]])}, r"reach over \[-1, 3\]"),
  ],
)
def test_a_field_that_is_wrong_is_named_with_its_video(changes, message):
  with pytest.raises(InputError, match=f"^video_3: .*{message}"):
    make_video(**changes)


@given(st.integers(1, 200), st.integers(1, 250))
def test_uniform_segments_tile_the_video(num_frames, length):
  segments_K2 = uniform_segments(num_frames, length)
  frames = np.concatenate([np.arange(first, last + 1) for first, last in segments_K2])
  np.testing.assert_array_equal(frames, np.arange(num_frames))
  lengths = np.diff(segments_K2, axis=1) + 1
  assert (lengths[:-1] == length).all()
  assert 1 <= lengths[-1] <= length
  make_video(
    num_frames=num_frames,
    picks_P=np.array([0]),
    levels_AF=None,
    summary_AF=None,
    gtscore_P=None,
    segments_K2=segments_K2,
  )


@pytest.mark.parametrize("sizes", [(0, 1), (10, 0)])
def test_no_frames_and_no_length_make_no_segments(sizes):
  with pytest.raises(InputError, match="both must be at least 1"):
    uniform_segments(*sizes)
