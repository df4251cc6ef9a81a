import av
import fsspec
import numpy as np
import pytest
from media_files import write_media, write_picture

from vsumjax.media import audio, video
from vsumjax.types import InputError

# Ten seconds at 10 frames a second that grow brighter: frame n is grey 2 n + 20.
STEADY = {100 * index: 2 * index + 20 for index in range(100)}


def greys(path, times_s, size=(24, 32)):
  return [int(frame.mean().round()) for frame in video.iter_frames(path, times_s, size)]


def test_probe_says_what_the_file_holds(tmp_path):
  silence = np.zeros(160_000, np.float32)
  path = write_media(tmp_path / "both.mp4", STEADY, silence)
  info = video.probe(path)
  assert info.duration_s == pytest.approx(10, abs=0.1)
  assert (info.width, info.height, info.has_audio) == (64, 48, True)
  assert info.fps == pytest.approx(10, abs=0.2)
  assert not video.probe(write_media(tmp_path / "mute.mp4", STEADY)).has_audio


def test_frames_are_those_on_screen_at_the_times(tmp_path):
  path = write_media(tmp_path / "steady.mp4", STEADY)
  times_s = [-1.0, 0.0, 0.05, 0.1, 0.15, 3.3, 3.35, 9.95, 50.0]
  expected = [20, 20, 20, 22, 22, 86, 86, 218, 218]
  assert greys(path, times_s) == pytest.approx(expected, abs=1)


def test_times_do_not_depend_on_which_others_are_asked_for(tmp_path):
  path = write_media(tmp_path / "steady.mp4", STEADY)
  times_s = np.arange(0, 10, 0.37)
  assert greys(path, times_s) == [greys(path, [time_s])[0] for time_s in times_s]


def test_frames_of_variable_rate_are_placed_by_their_times(tmp_path):
  path = write_media(tmp_path / "vfr.mp4", {0: 40, 100: 80, 2000: 120, 2500: 160})
  assert greys(path, [0.05, 0.15, 1.9, 2.1, 2.6]) == pytest.approx([40, 80, 80, 120, 160], abs=1)


def test_frames_timed_in_decoding_order_are_shown_in_display_order(tmp_path):
  # AVI has no display times; with frames predicted from later ones its times jump to and fro.
  path = write_media(tmp_path / "old.avi", {100 * n: 4 * n + 20 for n in range(50)}, rate=10)
  with av.open(str(path)) as container:
    times_s = [frame.time for frame in container.decode(video=0)]
  assert times_s != sorted(times_s)
  shown = greys(path, np.arange(0, 5, 0.1))
  assert shown == sorted(shown)
  late = np.arange(20, 220, 4) - shown
  assert 0 <= late[5:].min() <= late.max() <= 4 * 4 + 1  # at most four frames


def test_frames_without_times_follow_one_another_and_have_no_duration(tmp_path):
  path = write_media(tmp_path / "raw.h264", STEADY, rate=10)
  # Such a stream is played at 25 frames a second.
  assert greys(path, [0.02, 1.02, 2.02]) == pytest.approx([20, 70, 120], abs=1)
  with pytest.raises(InputError, match=r"raw\.h264: its frames have no times"):
    video.probe(path)


def test_frames_have_the_size_and_the_colours_asked_for(tmp_path):
  path = write_media(tmp_path / "steady.mp4", STEADY)
  (frame,) = video.iter_frames(path, [1.0], (30, 20))
  assert frame.shape == (30, 20, 3)
  assert frame.dtype == np.uint8


def test_container_that_does_not_start_at_zero_is_shifted(tmp_path):
  path = write_media(tmp_path / "late.ts", {5000 + start: grey for start, grey in STEADY.items()})
  assert greys(path, [0.05, 3.35]) == pytest.approx([20, 86], abs=1)


def test_rotated_picture_is_given_as_displayed(tmp_path):
  # A picture with a white left half, stored with a matrix that turns it clockwise by a quarter.
  path = tmp_path / "turned.mp4"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255
    for _ in range(5):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(stream.encode(None))
  data = bytearray(path.read_bytes())
  matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
  turn = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
  data[matrix : matrix + 36] = np.array(turn, ">i4").tobytes()
  path.write_bytes(data)
  info = video.probe(path)
  assert (info.width, info.height) == (48, 64)
  (frame,) = video.iter_frames(path, [0.0], (64, 48))
  assert frame.shape == (64, 48, 3)
  assert frame[:28].mean() > 250  # what was on the left is at the top
  assert frame[36:].mean() < 5


def test_video_at_a_url_is_read_as_a_file_is(tmp_path):
  path = write_media(tmp_path / "steady.mp4", STEADY, np.zeros(160_000, np.float32))
  fsspec.filesystem("memory").pipe("/bucket/steady.mp4", path.read_bytes())
  url = "memory://bucket/steady.mp4"
  assert video.probe(url) == video.probe(path)
  times_s = [0.5, 4.0, 9.5]
  np.testing.assert_array_equal(
    list(video.iter_frames(url, times_s, (24, 32))),
    list(video.iter_frames(path, times_s, (24, 32))),
  )
  assert greys(url, times_s[2:]) == greys(path, times_s[2:])
  spans = np.array([[0.0, 5.0]])
  assert audio.describe_spans(url, spans) == audio.describe_spans(path, spans) == ("silence",)
  with pytest.raises(InputError, match=r"memory://bucket/none\.mp4: there is no such file"):
    video.probe("memory://bucket/none.mp4")


def test_descending_times_are_refused(tmp_path):
  path = write_media(tmp_path / "steady.mp4", STEADY)
  with pytest.raises(ValueError, match="ascending"):
    list(video.iter_frames(path, [1.0, 0.5], (8, 8)))


def test_no_times_give_no_frames(tmp_path):
  assert greys(tmp_path / "not-even-there.mp4", []) == []


def test_only_frames_asked_for_are_scaled_and_each_once(tmp_path, monkeypatch):
  path = write_media(tmp_path / "steady.mp4", STEADY)
  scaled, to_rgb = [], video._to_rgb
  monkeypatch.setattr(video, "_to_rgb", lambda *args: scaled.append(args[1].time) or to_rgb(*args))
  frames = video.iter_frames(path, [1.0, 1.05, 7.0, 30.0, 40.0], (8, 8))
  next(frames)
  assert scaled == pytest.approx([1.0])  # nothing is decoded ahead of what was asked for
  assert len(list(frames)) == 4
  assert scaled == pytest.approx([1.0, 7.0, 9.9])


def write_broken(kind, folder):
  path = folder / f"{kind}.mp4"
  if kind == "text":
    path.write_text("This is a letter, not a video.\n" * 100)
  elif kind == "empty":
    path.write_bytes(b"")
  elif kind == "folder":
    path.mkdir()
  elif kind == "sound only":
    write_media(path, samples=np.zeros(16_000, np.float32))
  elif kind == "head":
    path.write_bytes(write_media(folder / "whole.mp4", STEADY).read_bytes()[:1000])
  return path


@pytest.mark.parametrize("kind", ["text", "empty", "folder", "sound only", "head", "missing"])
def test_broken_file_is_named_in_one_line(kind, tmp_path, capfd):
  path = write_broken(kind, tmp_path)
  for read in (video.probe, lambda path: list(video.iter_frames(path, [0.0], (8, 8)))):
    with pytest.raises(InputError) as raised:
      read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
  assert capfd.readouterr() == ("", "")


def test_file_cut_off_is_refused_where_frames_are_missing(tmp_path, capfd):
  data = write_media(tmp_path / "whole.mkv", STEADY).read_bytes()
  path = tmp_path / "cut.mkv"
  path.write_bytes(data[: len(data) // 2])
  assert len(greys(path, [0.5])) == 1  # before the cut
  with pytest.raises(InputError, match=r"cut\.mkv: is cut off: \d\.\d s of 9\.9 s"):
    greys(path, [0.5, 9.5])
  assert capfd.readouterr() == ("", "")


def test_picture_that_ends_before_the_sound_holds_its_last_frame(tmp_path):
  sound = np.zeros(20 * 16_000, np.float32)
  path = write_media(tmp_path / "long_sound.mp4", STEADY, sound)
  assert video.probe(path).duration_s == pytest.approx(20, abs=0.1)
  assert greys(path, [9.95, 19.5]) == pytest.approx([218, 218], abs=1)


def test_damaged_packets_are_passed_over_without_noise(tmp_path, capfd):
  data = bytearray(write_media(tmp_path / "whole.mkv", STEADY).read_bytes())
  rng = np.random.default_rng(0)
  third = len(data) // 3
  data[third : third + 200] = rng.bytes(200)
  path = tmp_path / "damaged.mkv"
  path.write_bytes(data)
  assert len(greys(path, np.arange(0, 10, 0.5))) == 20
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.ts"])
def test_damaged_frames_are_the_same_each_time(tmp_path, name):
  path = write_picture(tmp_path / name, frame_s=np.arange(100) / 10, size=(240, 320), gop=25)
  data = np.frombuffer(path.read_bytes(), np.uint8).copy()
  rng = np.random.default_rng(0)
  damaged = rng.integers(len(data) // 10, len(data) * 9 // 10, 40)
  data[damaged] = rng.integers(0, 256, len(damaged))
  path.write_bytes(data.tobytes())
  times_s = np.arange(0, 9.9, 0.1)
  first, *others = (
    b"".join(frame.tobytes() for frame in video.iter_frames(path, times_s, (48, 64)))
    for _ in range(4)
  )
  assert all(other == first for other in others)


def test_a_frame_is_deinterlaced_with_frames_of_its_size_alone(tmp_path):
  """A broadcast may change its size at any frame."""
  wide, narrow = (
    write_picture(
      tmp_path / f"{width}.mkv",
      "mpeg2video",
      frame_s=np.arange(3) / 25,
      rate=25,
      interlaced=True,
      size=(48, width),
    )
    for width in (64, 32)
  )
  (_, first), (_, shown), (_, last) = video.iter_timed_frames(wide)
  other = next(video.iter_timed_frames(narrow))[1]
  alone = video._deinterlaced(None, shown, None).to_ndarray()
  np.testing.assert_array_equal(video._deinterlaced(other, shown, other).to_ndarray(), alone)
  assert not np.array_equal(video._deinterlaced(first, shown, last).to_ndarray(), alone)


@pytest.mark.parametrize(
  ("name", "duration_s", "width", "height", "fps", "has_audio"),
  [
    ("big_buck_bunny_30s.webm", 30.0, 1280, 720, 24, True),
    ("nasa_13s.mp4", 13.06, 320, 180, 25, True),
    ("bikes_10s_no_audio.mp4", 10.0, 640, 272, 25, False),
  ],
)
def test_real_clips(clips, name, duration_s, width, height, fps, has_audio):
  info = video.probe(clips / name)
  assert info.duration_s == pytest.approx(duration_s, abs=0.05)
  assert (info.width, info.height, info.fps, info.has_audio) == (width, height, fps, has_audio)
  frames = list(video.iter_frames(clips / name, [0.5, 3.0, info.duration_s - 0.5], (36, 64)))
  assert [frame.shape for frame in frames] == [(36, 64, 3)] * 3
  assert np.ptp(frames[1]) > 50  # a picture, not a blank
  assert np.ptp(np.stack(frames), axis=0).mean() > 3  # that moves
