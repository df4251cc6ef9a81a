"""Files whose clock jumps are read as if it ran through, picture and sound by the same rule."""

from types import SimpleNamespace

import numpy as np
import pytest
from numbered_video import play, write_numbered

from vsumjax.media import audio, clock, demux, excerpts, video

RATE = 25
BACK = ({}, {})
AHEAD = ({}, {"offset_s": 3600})
TWICE = ({}, {"offset_s": 700}, {})
WRAPPED = ({"offset_s": 95_441}, {})  # 33 bits are full at 95443.7 s
LATE_SOUND = ({"delay_s": 0.023}, {"delay_s": 0.023})


def joined(folder, parts, suffix=".ts", **how):
  """A film of parts of 4 s, each written by itself, one's bytes after the other's."""
  data = b""
  for number, part in enumerate(parts):
    path = folder / f"part{suffix}"
    data += write_numbered(path, 100, RATE, first=100 * number, **how, **part).read_bytes()
  path = folder / f"joined{suffix}"
  path.write_bytes(data)
  return path


def numbers_at(path, times_s):
  frames = video.iter_frames(path, times_s, (8, 8))
  return [round(float(frame.mean()) * 219 / 255 / 2) for frame in frames]


@pytest.mark.parametrize("parts", [BACK, AHEAD, TWICE, WRAPPED, LATE_SOUND])
def test_every_frame_is_at_its_time(tmp_path, parts):
  path = joined(tmp_path, parts)
  num_frames = 100 * len(parts)
  assert video.probe(path).duration_s == pytest.approx(num_frames / RATE, abs=0.15)
  start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
  np.testing.assert_allclose(np.diff(start_s), 1 / RATE, atol=1e-4)
  assert len(start_s) == num_frames
  middle_s = start_s + 0.5 / RATE
  numbers = np.arange(num_frames) % 100
  np.testing.assert_allclose(numbers_at(path, middle_s), numbers, atol=1)
  for index in (30, 97, 103, 190):  # each sought by itself
    assert numbers_at(path, [middle_s[index]]) == pytest.approx([numbers[index]], abs=1)


@pytest.mark.parametrize("parts", [BACK, AHEAD])
def test_sound_is_where_it_belongs(tmp_path, parts):
  sound = np.concatenate(list(audio.iter_audio(joined(tmp_path, parts))))
  assert len(sound) / audio.SAMPLE_RATE == pytest.approx(8, abs=0.2)
  middles = ((np.arange(8) + 0.2) * audio.SAMPLE_RATE).astype(int)
  loud = [np.abs(sound[begin : begin + 8000]).max() > 0.2 for begin in middles]
  assert loud == [False, True] * 4


@pytest.mark.parametrize("parts", [BACK, AHEAD, LATE_SOUND])
def test_a_summary_has_the_frames_of_its_spans_with_their_sound(tmp_path, parts):
  path = joined(tmp_path, parts)
  spans = [(1.0, 2.0), (3.0, 5.0), (7.0, 7.6)]
  excerpts.write_excerpts(path, np.array(spans), tmp_path / "o.mp4")
  film = play(tmp_path / "o.mp4")
  start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
  expected = [n for a, b in spans for n in np.flatnonzero((start_s >= a) & (start_s < b))]
  assert (film.rate, len(film.step)) == (RATE, 1)
  np.testing.assert_allclose(film.numbers, np.array(expected) % 100, atol=1)
  wrong = [n for n in range(90) if film.is_loud(n) != bool(expected[n] // RATE % 2)]
  assert len(wrong) <= 6  # at the edges of the seconds


def test_a_change_of_size_and_a_clock_that_goes_back_by_two_frames(tmp_path):
  """Two recordings joined that were meant to follow one another: times overlap by what is held."""
  wide = {"size": (72, 128), "offset_s": 4, "first": 100}
  first = write_numbered(tmp_path / "a.ts", 100, RATE).read_bytes()
  path = tmp_path / "both.ts"
  path.write_bytes(first + write_numbered(tmp_path / "b.ts", 100, RATE, **wide).read_bytes())
  start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
  np.testing.assert_allclose(np.diff(start_s), 1 / RATE, atol=1e-4)
  np.testing.assert_allclose(numbers_at(path, start_s + 0.02), np.arange(200) % 100, atol=1)
  excerpts.write_excerpts(path, np.array([[2.0, 3.0], [3.6, 5.2]]), tmp_path / "o.mp4")
  film = play(tmp_path / "o.mp4")
  assert (film.size, film.rate) == ((48, 64), RATE)
  held = (start_s >= 2.0) & (start_s < 3.0) | (start_s >= 3.6) & (start_s < 5.2)
  np.testing.assert_allclose(film.numbers, np.flatnonzero(held) % 100, atol=1)


def test_a_program_stream_is_carried_on(tmp_path):
  path = joined(tmp_path, BACK, ".mpg", codec="mpeg2video", sound=False)
  start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
  assert len(start_s) >= 198  # a decoder may drop what precedes a key frame
  assert np.diff(start_s).min() > 0
  assert np.diff(start_s).max() < 0.13
  assert video.probe(path).duration_s == pytest.approx(8, abs=0.2)


def test_an_ordinary_stream_is_opened_as_it_is(tmp_path):
  for suffix in (".ts", ".mkv"):
    with demux.open_media(write_numbered(tmp_path / f"a{suffix}", 50, RATE)) as container:
      assert not isinstance(container, clock.CarriedOn)


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
  path = joined(tmp_path, BACK)
  assert video.probe(path).duration_s == pytest.approx(8, abs=0.2)
  write_numbered(path, 50, RATE)
  assert video.probe(path).duration_s == pytest.approx(2, abs=0.2)


def carried_on(*runs, picture=True):
  """Times, in seconds, of what `clock` makes of packets at these times, 10 bytes apart."""
  kind = "video" if picture else "audio"
  stream = SimpleNamespace(index=0, type=kind)

  def packets():
    for number, time_s in enumerate(time_s for run in runs for time_s in run):
      ticks = round(time_s * clock.TICKS_PER_S)
      yield SimpleNamespace(
        stream_index=0, pts=ticks, dts=ticks, duration=3600, pos=10 * number, is_keyframe=True
      )

  found = clock.read_clock(SimpleNamespace(demux=lambda *streams: packets()), [stream])
  moved = packets() if found is None else found.carried_on(packets())
  return np.array([packet.pts for packet in moved]) / clock.TICKS_PER_S


def steady(start_s, num=50):
  return start_s + np.arange(num) / 25


@pytest.mark.parametrize("picture", [True, False])
@pytest.mark.parametrize("second_s", [0.0, 1.9, 12.1, 95_000.0])
def test_what_jumps_follows_what_was_before(second_s, picture):
  runs = (steady(0.0), steady(second_s))
  np.testing.assert_allclose(carried_on(*runs, picture=picture), np.arange(100) / 25, atol=1e-4)


@pytest.mark.parametrize("overlap_s", [0.04, 0.03, 0.08])
def test_recordings_that_overlap_by_a_frame_follow_one_another(overlap_s):
  runs = (steady(0.0), steady(2.0 - overlap_s))
  np.testing.assert_allclose(carried_on(*runs), np.arange(100) / 25, atol=1e-4)


@pytest.mark.parametrize("second_s", [2.0, 2.5, 6.0, 11.9])
def test_a_pause_stays(second_s):
  runs = (steady(0.0), steady(second_s))
  np.testing.assert_allclose(carried_on(*runs), np.concatenate(runs), atol=1e-4)


def test_a_slide_show_keeps_its_times():
  slides = np.arange(10) * 20.0
  np.testing.assert_allclose(carried_on(slides), slides, atol=1e-4)


@pytest.mark.parametrize("odd_s", [700.0, 8.0, -3.0, -900.0])
def test_one_damaged_time_moves_no_other(odd_s):
  times_s = steady(1000.0, 100)
  damaged = times_s.copy()
  damaged[40] += odd_s
  moved = carried_on(damaged)
  np.testing.assert_allclose(np.delete(moved, 40), np.delete(times_s, 40), atol=1e-4)
