"""A constant frame rate stays one in a summary, whatever the container made of its times."""

from fractions import Fraction

import numpy as np
import pytest
from media_files import write_picture
from numbered_video import play, write_numbered

from vsumjax.media import demux, excerpts, video
from vsumjax.media.rates import constant_rate

NTSC = [Fraction(rate, 1001) for rate in (24_000, 30_000, 60_000, 120_000)]


@pytest.mark.parametrize("rate", [10, 24, 25, 30, 50, 59, 60, 120, 240, *NTSC])
@pytest.mark.parametrize("cut", [np.round, np.floor])
def test_rates_are_told_from_milliseconds(rate, cut):
  times_s = cut(1000 * np.arange(round(3 * rate)) / float(rate) + 17.3) / 1000
  runs = [times_s[: len(times_s) // 2], times_s[len(times_s) // 2 :] + 100]
  for stated in ([Fraction(rate)], [Fraction(round(1000 * rate), 1000)]):
    assert constant_rate(runs, stated, 0.001) == rate
  if rate not in NTSC:  # of 2 seconds, 30 and 29.97 can't be told apart
    assert round(constant_rate(runs, [], 0.001)) == rate


@pytest.mark.parametrize(
  "times_s",
  [
    [0.0, 0.9, 1.0, 1.003, 1.5, 3.1],
    np.cumsum(np.tile([0.04, 0.06, 0.03], 20)),
    np.cumsum(np.random.default_rng(0).uniform(0.03, 0.05, 100)).round(3),
    np.arange(60) / 5,  # too slow for a cut to be moved
    [0.0],
    [],
  ],
)
def test_rates_that_vary_are_not_called_constant(times_s):
  assert constant_rate([np.array(times_s)], [Fraction(25), Fraction(30)], 0.001) is None


def test_frames_that_are_missing_do_not_change_the_rate():
  times_s = np.delete(np.arange(100) / 25, [7, 30, 31, 66])
  assert constant_rate([times_s], [Fraction(24)], 0.001) == 25
  assert constant_rate([times_s[::2]], [Fraction(25)], 0.001) != 25  # half of them is not some


def excerpt(folder, path, spans, rate):
  """The summary as played, and the numbers of the frames that start in the spans."""
  early_s = min(0.01, 0.5 / rate)  # than a span, by what is no picture but a flash
  starts_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
  excerpts.write_excerpts(path, np.array(spans), folder / "out.mp4")
  within = [(starts_s >= first - early_s) & (starts_s < end - early_s) for first, end in spans]
  return play(folder / "out.mp4"), np.concatenate([np.flatnonzero(each) for each in within])


@pytest.mark.parametrize(
  ("suffix", "rate", "num_frames"),
  [
    (".mkv", 25, 50),
    (".mkv", NTSC[0], 48),
    (".mkv", NTSC[1], 60),
    (".mkv", 50, 100),
    (".flv", 30, 60),
    (".flv", NTSC[2], 120),
    (".mp4", 240, 480),
    (".mkv", 240, 480),
  ],
)
def test_a_summary_has_the_rate_of_its_source(tmp_path, suffix, rate, num_frames):
  path = write_numbered(tmp_path / f"in{suffix}", round(4 * rate), rate)
  film, due = excerpt(tmp_path, path, [(0.5, 1.5), (2.0, 3.0)], rate)
  assert film.rate == rate
  assert film.step == {1 / Fraction(rate)}
  assert len(film.numbers) == num_frames
  assert abs(len(due) - num_frames) <= 1
  shown = [n for n, before in zip(film.numbers, [None, *film.numbers], strict=False) if n != before]
  np.testing.assert_allclose(shown[: len(due)], due[: len(shown)] % 100, atol=0)
  seconds = due[np.minimum(np.arange(num_frames), len(due) - 1)] // rate
  wrong = [n for n in range(num_frames) if film.is_loud(n) != bool(seconds[n] % 2)]
  assert len(wrong) <= 0.1 * num_frames  # where a second begins, and at cuts


@pytest.mark.parametrize("offset_s", [5000, 95_441])
def test_a_picture_that_starts_after_the_sound_is_cut_at_its_frames(tmp_path, offset_s):
  """The origin lies between frames; the second file's clock, of 33 bits, is full on its way."""
  path = write_numbered(tmp_path / "in.ts", 180, 30, offset_s=offset_s, delay_s=0.002)
  with demux.open_media(path) as container:
    late_s = container.streams.video[0].start_time / 90_000 - demux.origin_s(container)
  assert late_s == pytest.approx(0.023, abs=0.001)
  film, due = excerpt(tmp_path, path, [(0.0, 2.0), (3.0, 4.0), (5.0, 5.9)], 30)
  assert (film.rate, len(film.numbers), len(film.step)) == (30, 117, 1)
  np.testing.assert_array_equal(film.numbers, due % 100)
  wrong = [n for n, number in enumerate(due) if film.is_loud(n) != bool(number // 30 % 2)]
  assert len(wrong) <= 10


def test_frames_that_are_missing_are_filled_with_the_ones_before(tmp_path):
  path = write_numbered(tmp_path / "in.mkv", 100, 25, skip=(30, 31, 60), sound=False)
  excerpts.write_excerpts(path, np.array([[1.0, 3.0]]), tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  assert (film.rate, film.step) == (25, {Fraction(1, 25)})
  assert film.numbers == [29 if n in (30, 31) else 59 if n == 60 else n for n in range(25, 75)]


def test_a_summary_of_the_whole_ends_with_the_picture(tmp_path):
  """Sound goes on for a part of a packet; no part of a frame is added for that."""
  path = write_numbered(tmp_path / "in.mkv", 50, 25)
  duration_s = video.probe(path).duration_s
  assert duration_s > 2.001
  excerpts.write_excerpts(path, np.array([[0.0, duration_s]]), tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  assert (film.rate, film.numbers) == (25, list(range(50)))


def test_a_rate_that_varies_varies_in_the_summary(tmp_path):
  steps_s = np.tile([0.02, 0.05, 0.033, 0.09], 20)
  path = write_picture(tmp_path / "in.mkv", frame_s=np.cumsum(steps_s), rate=1000)
  excerpts.write_excerpts(path, np.array([[1.0, 3.0]]), tmp_path / "out.mp4")
  assert {round(1000 * float(step)) for step in play(tmp_path / "out.mp4").step} >= {20, 50, 33, 90}
