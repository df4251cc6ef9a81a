import base64

import numpy as np
import pytest
from html_page import Page

from vsumjax.summary import page
from vsumjax.types import SegmentScores


@pytest.fixture
def files(tmp_path):
  (tmp_path / "summary 1.mp4").write_bytes(b"film")
  (tmp_path / "storyboard.png").write_bytes(b"board")
  return tmp_path / "summary 1.mp4", tmp_path / "storyboard.png"


@pytest.fixture
def saved_page(tmp_path, files, make_summary):
  def save(**changes):
    page.save_page(tmp_path / "out" / "page.html", make_summary(**changes), *files)
    return Page((tmp_path / "out" / "page.html").read_text())

  return save


def test_the_page_holds_its_media_and_refers_to_nothing_else(tmp_path, saved_page):
  content = saved_page()
  video, image = content.find("video")[0][0]["src"], content.find("img")[0][0]["src"]
  assert base64.b64decode(video.removeprefix("data:video/mp4;base64,")) == b"film"
  assert base64.b64decode(image.removeprefix("data:image/png;base64,")) == b"board"
  assert content.find("link") == content.find("a") == []
  assert all("src" not in attributes for attributes, _ in content.find("script"))
  assert "http" not in (tmp_path / "out" / "page.html").read_text()
  assert [path.name for path in (tmp_path / "out").iterdir()] == ["page.html"]


def test_numbers(saved_page):
  content = saved_page()
  numbers = [text for _, text in content.find("dd")]
  assert numbers == ["0:11.5", "0:07.5", "65.2 % of 70 % asked", "3 of 5"]


def test_every_segment_has_a_row_and_a_bar_and_the_chosen_ones_a_time(saved_page, make_summary):
  content = saved_page()
  rows, bars = content.find("tr", "row"), content.find("g", "seg")
  assert [text for _, text in rows][1] == "0:02 – 0:04 4.31 1 good morning loud tone"
  assert [attributes.get("data-at") for attributes, _ in rows] == [
    None,
    "0.000",
    None,
    "2.000",
    "4.000",
  ]
  for elements in (rows, bars):
    is_pick = ["pick" in attributes["class"].split() for attributes, _ in elements]
    assert is_pick == [False, True, False, True, True]
  hits = content.find("rect", "hit")
  assert [float(attributes["x"]) for attributes, _ in hits] == pytest.approx(
    [1000 * start_s / 11.5 for start_s in (0, 2, 4, 6, 8)], abs=0.01
  )
  heights = [float(attributes["height"]) for attributes, _ in content.find("rect", "bar")]
  assert heights == pytest.approx(160 * (make_summary().scores.score - 1) / 4, abs=0.01)


def test_text_is_text(saved_page):
  nasty = "<script>alert('\"&')</script>"
  content = saved_page(
    title=nasty,
    media=nasty,
    said=(nasty,) * 5,
    heard=(nasty,) * 5,
    model={nasty: nasty},
  )
  assert len(content.find("script")) == 1
  assert content.find("h1")[0][1] == nasty
  assert content.find("title")[0][1].startswith(nasty)
  assert content.find("tr", "row")[0][1].count(nasty) == 2
  assert content.find("p", "sounds")[0][1] == f"Heard: {nasty} 0:00 – 0:11.5"
  assert content.find("footer")[0][1].count(nasty) == 2


def test_a_video_without_a_title_is_called_by_its_file(saved_page):
  assert saved_page(title="").find("h1")[0][1] == "talk.mp4"


def test_a_large_summary_is_linked_and_the_page_says_so(saved_page, monkeypatch):
  monkeypatch.setattr(page, "MAX_EMBEDDED_BYTES", 3)
  content = saved_page()
  assert content.find("video")[0][0]["src"] == "../summary%201.mp4"
  assert content.find("a")[0] == ({"href": "../summary%201.mp4"}, "summary 1.mp4")
  assert any("too large" in text for _, text in content.find("p"))


def test_one_segment_and_equal_scores(saved_page):
  content = saved_page(
    scores=SegmentScores(np.ones(1, np.float32), np.zeros(1, np.int32), np.array([[0.0, 2.0]])),
    selected_N=np.array([True]),
    said=("",),
    heard=("",),
    duration_s=2.0,
  )
  assert [text for _, text in content.find("dd")][2:] == ["100.0 % of 70 % asked", "1 of 1"]


def test_nothing_is_left_behind_if_a_file_is_missing(tmp_path, files, make_summary):
  with pytest.raises(FileNotFoundError):
    page.save_page(tmp_path / "page.html", make_summary(), files[0], tmp_path / "no.png")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["storyboard.png", "summary 1.mp4"]
