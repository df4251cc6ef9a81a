import numpy as np
import pytest

from vsumjax.summary import scores
from vsumjax.types import SegmentScores


@pytest.fixture
def make_summary():
  """Four segments of 2 s and one of 3.5 s, the second and the last two chosen, or as changed."""

  def build(**changes):
    fields = {
      "media": "talk.mp4",
      "title": "A talk",
      "duration_s": 11.5,
      "share": 0.7,
      "scores": SegmentScores(
        np.array([1.5, 4.31, 2.0, 3.0, 4.9], np.float32),
        np.array([0, 1, 2, 0, 1], np.int32),
        np.array([[0, 2], [2, 4], [4, 6], [6, 8], [8, 11.5]], np.float64),
      ),
      "selected_N": np.array([False, True, False, True, True]),
      "said": ("", "good morning", "", "so", "thank you"),
      "heard": ("silence", "loud tone", "silence", "quiet noise", "silence"),
      "model": {"parameters_digest": "9f0c"},
    }
    return scores.Summary(**{**fields, **changes})

  return build
