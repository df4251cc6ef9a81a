import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from vsumjax.summary import storyboard
from vsumjax.types import SegmentScores


def plain_frames(num_frames, height=90, width=160):
  """Each of its own colour."""
  return [
    np.full((height, width, 3), (20 * index + 10, 255 - 20 * index, 128), np.uint8)
    for index in range(num_frames)
  ]


def find_colour(image, colour):
  """Bounding box (left, top, right, bottom) of the pixels of about one colour."""
  is_near = np.abs(image.astype(int) - colour).max(axis=2) < 6
  rows, columns = np.nonzero(is_near)
  return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
  ("num_frames", "num_columns"), [(1, 1), (4, 4), (5, 5), (6, 3), (7, 4), (11, 4)]
)
def test_pictures_lie_in_rows_in_order(tmp_path, num_frames, num_columns):
  frames = plain_frames(num_frames)
  captions = [(f"0:{n:02}", "4.31") for n in range(num_frames)]
  storyboard.save_storyboard(tmp_path / "s.png", frames, captions, "A title")
  image = np.array(Image.open(tmp_path / "s.png"))
  boxes = [find_colour(image, frame[0, 0]) for frame in frames]
  assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(320, 180)}
  assert [(box[1], box[0]) for box in boxes] == sorted((box[1], box[0]) for box in boxes)
  assert len({box[0] for box in boxes}) == num_columns
  for left, top, right, bottom in boxes:
    assert 0 < left < right < image.shape[1]
    assert 0 < top < bottom < image.shape[0] - 38
    caption = image[bottom + 4 : bottom + 34, left:right]
    assert caption[:, :160].max() > 140  # the time
    assert caption[:, 160:, 0].max() > 240  # the score


def test_pictures_keep_their_shape(tmp_path):
  upright, wide = plain_frames(1, 160, 90)[0], plain_frames(2, 50, 200)[1]
  storyboard.save_storyboard(tmp_path / "s.png", [upright, wide], [("", "")] * 2, "")
  image = np.array(Image.open(tmp_path / "s.png"))
  left, top, right, bottom = find_colour(image, upright[0, 0])
  assert (right - left) / (bottom - top) == pytest.approx(90 / 160, abs=0.01)
  left, top, right, bottom = find_colour(image, wide[0, 0])
  assert (right - left) / (bottom - top) == pytest.approx(200 / 50, abs=0.06)


def test_a_long_title_is_shortened_to_the_sheet(tmp_path):
  title = "a title\nof a great many words " * 20
  storyboard.save_storyboard(tmp_path / "s.png", plain_frames(2), [("", "")] * 2, title)
  image = np.array(Image.open(tmp_path / "s.png"))
  title_strip = image[:80]
  assert title_strip[:, 40:-40].max() > 200
  assert title_strip[:, -40:].max() < 40


def test_captions_are_those_of_the_chosen(tmp_path, make_summary):
  assert storyboard.captions_of(make_summary()) == (
    ("0:02 – 0:04", "4.31"),
    ("0:06 – 0:08", "3.00"),
    ("0:08 – 0:11.5", "4.90"),
  )
  with pytest.raises(ValueError):
    storyboard.save_storyboard(tmp_path / "s.png", plain_frames(2), [("", "")], "")
  assert [path.name for path in tmp_path.iterdir()] == []


def test_timeline_shades_the_chosen_spans(tmp_path, make_summary):
  storyboard.save_timeline(tmp_path / "t.png", make_summary())
  image = np.array(Image.open(tmp_path / "t.png").convert("RGB")).astype(int)
  left, _, right, bottom = find_colour(image, (253, 231, 194))
  is_shaded = np.abs(image[bottom - 20, left:right] - (253, 231, 194)).max(axis=1) < 6
  # Shaded from 2 to 4 and from 6 to the end at 11.5.
  assert is_shaded.mean() == pytest.approx(7.5 / 9.5, abs=0.02)


def test_timeline_as_svg(tmp_path, make_summary):
  storyboard.save_timeline(tmp_path / "t.svg", make_summary())
  assert ET.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")
  assert [path.name for path in tmp_path.iterdir()] == ["t.svg"]


@pytest.mark.parametrize(
  ("values", "expected"), [([2.2, 3.7], (2, 4)), ([3.0, 3.0], (3, 4)), ([1.0, 5.0], (1, 5))]
)
def test_score_range(values, expected):
  assert storyboard.score_range(np.array(values, np.float32)) == expected


def test_equal_scores_can_be_drawn(tmp_path, make_summary):
  scores = SegmentScores(np.ones(5, np.float32), np.zeros(5), make_summary().scores.span_s)
  storyboard.save_timeline(tmp_path / "t.png", make_summary(scores=scores))
