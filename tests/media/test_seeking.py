"""Frames read from the middle of a file are those of decoding it from the start, bit by bit."""

import functools

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import packet_times, write_picture

from vsumjax.media import demux, video

FRAME_S = np.arange(150) / 10
TV_S = np.arange(300) / 25
X264_OPEN = {"bf": "3", "x264-params": "keyint=20:open-gop=1"}
X265_OPEN = {"x265-params": "keyint=20:open-gop=1:log-level=none"}
REFRESH = {"x264-params": "keyint=20:intra-refresh=1"}
VPX = {"auto-alt-ref": "1", "lag-in-frames": "10"}

# File name: how it is written.
SEEKABLE = {
  "h264.mp4": {"frame_s": FRAME_S, "options": X264_OPEN},
  "h264.mkv": {"frame_s": FRAME_S, "options": X264_OPEN},
  "h264.ts": {"frame_s": FRAME_S, "options": X264_OPEN},
  "refresh.mp4": {"frame_s": FRAME_S, "options": REFRESH},
  "refresh.ts": {"frame_s": FRAME_S, "options": REFRESH},
  "h265.mp4": {"frame_s": FRAME_S, "codec": "libx265", "options": X265_OPEN},
  "vp8.webm": {"frame_s": FRAME_S, "codec": "libvpx", "gop": 20, "options": VPX},
  "vp9.webm": {"frame_s": FRAME_S, "codec": "libvpx-vp9", "gop": 20, "options": VPX},
  "mpeg4.avi": {"frame_s": FRAME_S, "codec": "mpeg4"},
  "mpeg4.mp4": {"frame_s": FRAME_S, "codec": "mpeg4", "b_frames": 2},
  "h264.flv": {"frame_s": FRAME_S},
  "interlaced.ts": {
    "frame_s": TV_S,
    "rate": 25,
    "codec": "mpeg2video",
    "b_frames": 2,
    "interlaced": True,
  },
  "interlaced.mp4": {
    "frame_s": FRAME_S,
    "interlaced": True,
    "options": {"x264-params": "keyint=20:interlaced=1"},
  },
  "ten_bits.mov": {"frame_s": FRAME_S, "codec": "prores_ks", "pixel_format": "yuv422p10le"},
  "late.mkv": {"frame_s": FRAME_S + 50},
  "late.mp4": {"frame_s": FRAME_S + 50},
  "late.ts": {"frame_s": FRAME_S + 50},
  "uneven.mkv": {
    "frame_s": np.cumsum(np.tile([0.04, 0.5, 0.1, 1.3, 0.04, 0.04], 8)),
    "rate": 1000,
  },
  "all_key.mkv": {"frame_s": FRAME_S, "codec": "ffv1"},
}
# Their key frames cannot be trusted, so that they are decoded from the start.
UNSEEKABLE = {
  "raw.h264": {"frame_s": FRAME_S},
  "program.mpg": {"frame_s": TV_S, "rate": 25, "codec": "mpeg2video", "b_frames": 2},
  "still.gif": {"frame_s": FRAME_S, "codec": "gif", "pixel_format": "rgb8"},
}
FILES = SEEKABLE | UNSEEKABLE


@pytest.fixture(scope="module")
def read_all(tmp_path_factory):
  """`read_all(name)`: path, start of each frame, the frames, read from the start."""
  folder = tmp_path_factory.mktemp("seeking")

  @functools.cache
  def read(name):
    how = dict(FILES[name])
    codec = how.pop("codec", "libx264")
    path = write_picture(folder / name, codec, how.pop("pixel_format", "yuv420p"), **how)
    start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(path)])
    frames = np.stack(list(video.iter_frames(path, start_s + 1e-3, (48, 64))))
    assert len({frame.tobytes() for frame in frames}) > 0.9 * len(frames)
    return path, start_s, frames

  return read


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=8)
@given(data=st.data())
def test_frames_from_the_middle_are_those_from_the_start(read_all, name, data):
  path, start_s, frames = read_all(name)
  times_s = sorted(data.draw(st.lists(st.floats(0, start_s[-1] + 1), min_size=1, max_size=3)))
  shown = np.maximum(np.searchsorted(start_s, times_s, side="right") - 1, 0)
  for frame, index in zip(video.iter_frames(path, times_s, (48, 64)), shown, strict=True):
    np.testing.assert_array_equal(frame, frames[index])


@pytest.mark.parametrize("name", FILES)
def test_only_what_is_near_is_decoded(read_all, name, monkeypatch):
  path, start_s, frames = read_all(name)
  decoded, decode_packets = [], demux.decode_packets

  def counted(packets):
    for frame in decode_packets(packets):
      decoded.append(frame)
      yield frame

  monkeypatch.setattr(demux, "decode_packets", counted)
  (frame,) = video.iter_frames(path, [start_s[-2] + 1e-3], (48, 64))
  np.testing.assert_array_equal(frame, frames[-2])
  if name in SEEKABLE:
    assert len(decoded) < 0.6 * len(frames)
  else:
    assert len(decoded) == len(frames)


@pytest.mark.parametrize("name", SEEKABLE)
def test_times_of_frames_are_those_of_their_packets(read_all, name):
  path, start_s, _ = read_all(name)
  truth_s = packet_times(path)
  assert len(start_s) == len(truth_s) == len(FILES[name]["frame_s"])
  half_s = 0.5 * np.diff(truth_s).min()
  np.testing.assert_allclose(start_s, truth_s, rtol=0, atol=half_s)
  asked_s = FILES[name]["frame_s"]
  np.testing.assert_allclose(start_s - start_s[0], asked_s - asked_s[0], rtol=0, atol=half_s)


@pytest.mark.parametrize("name", FILES)
def test_times_after_the_end_show_the_last_frame(read_all, name):
  path, start_s, frames = read_all(name)
  for time_s in (start_s[-1] + 0.8, start_s[-1] + 1.5, start_s[-1] + 500.0):
    (frame,) = video.iter_frames(path, [time_s], (48, 64))
    np.testing.assert_array_equal(frame, frames[-1])


def test_a_first_frame_that_comes_too_late_sends_back_to_the_start(read_all, monkeypatch):
  path, start_s, frames = read_all("h264.mp4")
  seeks = []

  def late(path, container, time_s, allow_cut):
    seeks.append(time_s)
    return iter([(time_s + 50.0, None)])

  monkeypatch.setattr(video, "_frames_from_keyframe", late)
  (frame,) = video.iter_frames(path, [start_s[100] + 1e-3], (48, 64))
  np.testing.assert_array_equal(frame, frames[100])
  assert seeks == [start_s[100] + 1e-3 - lead_s for lead_s in (1.0, 3.0, 10.0)]


def test_interlaced_frames_are_shown_without_combs(tmp_path):
  """A bar that moves on between the two fields of a frame leaves a comb in it."""

  def moving_bar(index, height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    for field in (0, 1):
      left = 8 + 2 * (2 * index + field)
      pixels[field::2, left : left + 16] = 255
    return pixels

  path = write_picture(
    tmp_path / "bar.ts",
    "mpeg2video",
    frame_s=np.arange(10) / 25,
    rate=25,
    interlaced=True,
    draw=moving_bar,
    options={"qscale": "1", "global_quality": "118"},
    size=(64, 96),
  )
  with av.open(str(path)) as container:
    stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
  shown = list(video.iter_frames(path, np.arange(10) / 25 + 0.01, (64, 96)))
  for comb, frame in zip(stored[1:-1], shown[1:-1], strict=True):
    assert _combs(comb) > 8
    assert _combs(frame) < 2


def _combs(frame):
  """Mean difference of lines from the lines two away less that from the next ones."""
  grey = frame.astype(float).mean(axis=2)
  next_line, second_line = np.abs(np.diff(grey, axis=0)), np.abs(grey[2:] - grey[:-2])
  return next_line.mean() - second_line.mean()
