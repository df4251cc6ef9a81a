"""Files that are cut off: refused as a rule, taken as far as they go where that is allowed."""

import numpy as np
import pytest
from numbered_video import play, write_numbered

from vsumjax.media import audio, cutting, excerpts, video
from vsumjax.types import InputError


def halved(path):
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  return path


@pytest.fixture(scope="module", params=[".mkv", ".flv"])
def cut(request, tmp_path_factory):
  return halved(write_numbered(tmp_path_factory.mktemp("cut") / f"a{request.param}", 200, 25))


def test_probe_says_what_is_there_and_what_is_stated(cut, tmp_path):
  there = video.probe(cut, allow_cut=True)
  assert 2.5 < there.duration_s < 5.5
  assert there.stated_s == pytest.approx(8, abs=0.2)
  strict = video.probe(cut)
  assert (strict.duration_s, strict.stated_s) == (there.stated_s, None)
  whole = write_numbered(tmp_path / "whole.mkv", 100, 25)
  assert video.probe(whole, allow_cut=True) == video.probe(whole)


def test_what_is_there_is_read_where_that_is_allowed(cut):
  duration_s = video.probe(cut, allow_cut=True).duration_s
  times_s = np.arange(0.02, duration_s - 0.1, 0.5)
  span_s_N2 = np.array([[0.0, duration_s]])
  readers = {
    "frames": lambda **how: list(video.iter_frames(cut, [*times_s, duration_s], (8, 8), **how)),
    "late frames": lambda **how: list(video.iter_frames(cut, [duration_s], (8, 8), **how)),
    "sound": lambda **how: list(audio.iter_audio(cut, **how)),
    "phrases": lambda **how: audio.describe_spans(cut, span_s_N2, **how),
  }
  for name, read in readers.items():
    with pytest.raises(InputError, match="is cut off"):
      read()
    assert len(read(allow_cut=True)) > 0, name
  numbers = [
    round(float(frame.mean()) * 219 / 255 / 2) for frame in readers["frames"](allow_cut=True)
  ]
  np.testing.assert_allclose(numbers[:-1], (times_s * 25).astype(int), atol=1)
  stated_s = video.probe(cut).duration_s
  with pytest.raises(InputError, match="is cut off"):
    cutting.cut_video("shots", cut, stated_s, 2.0)
  assert len(cutting.cut_video("shots", cut, duration_s, 2.0, allow_cut=True)) >= 2
  heard_s = sum(map(len, readers["sound"](allow_cut=True))) / audio.SAMPLE_RATE
  assert heard_s == pytest.approx(duration_s, abs=0.3)


def test_a_summary_of_what_is_there(cut, tmp_path):
  excerpts.write_excerpts(cut, np.array([[0.5, 1.5], [2.0, 2.4]]), tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  assert (film.rate, len(film.numbers)) == (25, 35)


def test_a_file_that_states_no_length_is_as_long_as_it_is(tmp_path):
  path = halved(write_numbered(tmp_path / "a.ts", 100, 25))
  assert video.probe(path, allow_cut=True) == video.probe(path)
