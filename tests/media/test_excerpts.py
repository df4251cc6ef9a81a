import dataclasses
import pathlib
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from vsumjax.media import excerpts
from vsumjax.types import InputError

CLIPS = pathlib.Path(__file__).parents[2] / "../shared/data/clips"
FRAME_S = 1 / 25


@dataclasses.dataclass
class Media:
  """A test film: grey of changing brightness, one white frame, and a beep from that instant on."""

  duration_s: float = 6.0
  flash_s: float = 3.4
  size: tuple[int, int] = (64, 96)  # height, width
  frame_s: tuple[float, ...] = ()  # times of the frames; 25 a second if empty
  sample_rate: int = 44_100  # 0: no sound
  video_codec: str = "libx264"
  audio_codec: str = "aac"
  layout: str = "mono"
  silent_s: tuple[tuple[float, float], ...] = ()  # times at which the file has no samples at all
  gop: int = 25


def make_media(path, media):
  frame_s = media.frame_s or tuple(np.arange(0, media.duration_s - 1e-9, FRAME_S))
  height, width = media.size
  with av.open(str(path), "w") as output:
    video = output.add_stream(media.video_codec, rate=25)
    video.width, video.height = width, height
    if media.video_codec == "libx264":
      video.options = {"preset": "ultrafast", "crf": "10"}
      video.pix_fmt = "yuv444p"  # odd sizes are possible
      video.codec_context.time_base = Fraction(1, 1000)
    video.codec_context.gop_size = media.gop
    if media.sample_rate:
      audio = output.add_stream(media.audio_codec, rate=media.sample_rate, layout=media.layout)
    is_flash = np.arange(len(frame_s)) == np.searchsorted(frame_s, media.flash_s - 1e-9)
    for time_s, flash in zip(frame_s, is_flash, strict=True):
      grey = 255 if flash else 20 + int(time_s * 100) % 60
      frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), grey, np.uint8), "rgb24")
      frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
      output.mux(video.encode(frame))
    output.mux(video.encode(None))
    if media.sample_rate:
      write_sound(output, audio, media)


def write_sound(output, stream, media):
  rate, channels = media.sample_rate, stream.layout.nb_channels
  time_s = np.arange(round(media.duration_s * rate)) / rate
  is_beep = (time_s >= media.flash_s) & (time_s < media.flash_s + 0.3)
  wave = 0.8 * np.sin(2 * np.pi * 880 * time_s) * is_beep
  samples = np.repeat(wave[None], channels, axis=0)
  is_pcm = media.audio_codec == "pcm_s16le"
  for begin in range(0, len(time_s) - 1023, 1024):
    if any(first <= time_s[begin] < last for first, last in media.silent_s):
      continue
    chunk = samples[:, begin : begin + 1024]
    packed = (32767 * chunk.T.reshape(1, -1)).astype(np.int16)
    planar = np.ascontiguousarray(chunk, np.float32)
    frame = av.AudioFrame.from_ndarray(
      packed if is_pcm else planar, "s16" if is_pcm else "fltp", media.layout
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
    output.mux(stream.encode(frame))
  output.mux(stream.encode(None))


@dataclasses.dataclass
class Film:
  """What a player sees and hears."""

  frame_s: np.ndarray
  brightness: np.ndarray
  size: tuple[int, int]
  video_s: float
  audio_s: float | None
  sound: np.ndarray | None  # f32[channels, n]
  sample_rate: int = 0

  @property
  def flash_s(self):
    return float(self.frame_s[self.brightness > 180][0])

  @property
  def beep_s(self):
    return np.flatnonzero(np.abs(self.sound[0]) > 0.4)[0] / self.sample_rate


def play(path):
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == "h264"
    assert stream.codec_context.pix_fmt == "yuv420p"
    video_s = float(stream.duration * stream.time_base)
    frames = [
      (frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(stream)
    ]
    size = (stream.height, stream.width)
  times, brightness = np.array(frames).T
  assert times[0] == 0
  assert (np.diff(times) > 0).all()
  film = Film(times, brightness, size, video_s, None, None)
  with av.open(str(path)) as container:
    if container.streams.audio:
      stream = container.streams.audio[0]
      assert stream.codec_context.name == "aac"
      assert stream.start_time == 0
      film.sample_rate = stream.sample_rate
      film.audio_s = float(stream.duration * stream.time_base)
      film.sound = np.concatenate(
        [frame.to_ndarray() for frame in container.decode(stream)], axis=1
      )
  return film


def rendered(tmp_path, media, spans, suffix=".mp4"):
  source = tmp_path / f"source{suffix}"
  make_media(source, media)
  excerpts.write_excerpts(source, np.array(spans), tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  total_s = sum(end - start for start, end in spans)
  assert film.video_s == pytest.approx(total_s, abs=1e-3)
  if media.sample_rate:
    assert abs(film.audio_s - total_s) < 1024 / film.sample_rate
  else:
    assert film.audio_s is None
  return film


SPANS = [(0.5, 1.3), (2.0, 4.0), (5.0, 5.73)]
FLASH_S = 0.8 + 1.4  # where 3.4 s of the source comes in the summary


@pytest.mark.parametrize(
  "media",
  [
    Media(),
    Media(layout="stereo", sample_rate=48_000),
    Media(sample_rate=8_000, silent_s=((0.0, 1.1),)),  # starts late
    Media(silent_s=((2.1, 3.1), (3.8, 9.0))),  # stops, comes back and ends early
    Media(size=(65, 97)),
    Media(gop=1000),
    Media(gop=1),
  ],
  ids=["mono", "stereo", "late", "gaps", "odd", "one key frame", "key frames only"],
)
def test_flash_and_beep_stay_together(tmp_path, media):
  film = rendered(tmp_path, media, SPANS)
  assert film.flash_s == pytest.approx(FLASH_S, abs=1e-3)
  assert film.beep_s == pytest.approx(FLASH_S, abs=FRAME_S / 4)
  assert film.size == (64, 96)


@pytest.mark.parametrize(
  ("suffix", "video_codec", "audio_codec"),
  [(".mkv", "libx264", "libopus"), (".ts", "libx264", "aac"), (".avi", "mpeg4", "libmp3lame")],
)
def test_other_containers(tmp_path, suffix, video_codec, audio_codec):
  """Rounded time stamps, another start of time, none at all."""
  media = Media(video_codec=video_codec, audio_codec=audio_codec, sample_rate=48_000)
  film = rendered(tmp_path, media, SPANS, suffix)
  # These writers themselves delay pictures by a frame (AVI) or sound by what its coder adds.
  assert film.flash_s == pytest.approx(FLASH_S, abs=1.01 * FRAME_S)
  assert film.beep_s == pytest.approx(FLASH_S, abs=1.01 * FRAME_S)


def test_sound_at_a_rate_that_aac_lacks_is_resampled(tmp_path):
  media = Media(sample_rate=7_000, audio_codec="pcm_s16le", silent_s=((0.0, 0.9), (2.6, 3.0)))
  film = rendered(tmp_path, media, SPANS, ".mkv")
  assert film.sample_rate == 48_000
  assert film.beep_s == pytest.approx(FLASH_S, abs=FRAME_S / 4)


def test_many_cuts_do_not_drift(tmp_path):
  """Durations that are whole numbers of neither frames nor packets."""
  spans = [(t, t + 0.0713) for t in np.arange(0.1, 5.2, 0.15)]
  spans = [span for span in spans if span[1] < 3.3] + [(3.3, 3.9)]
  film = rendered(tmp_path, Media(), spans)
  expected_s = sum(end - start for start, end in spans[:-1]) + 0.1
  assert film.flash_s == pytest.approx(expected_s, abs=1e-3)
  assert film.beep_s == pytest.approx(expected_s, abs=FRAME_S / 4)


def test_damaged_packets_are_passed_over(tmp_path):
  make_media(tmp_path / "in.mp4", Media())
  content = bytearray((tmp_path / "in.mp4").read_bytes())
  media_data = content.index(b"mdat")
  generator = np.random.default_rng(0)
  for position in generator.integers(media_data + 5000, content.index(b"moov") - 5000, 50):
    content[position] = generator.integers(256)
  (tmp_path / "in.mp4").write_bytes(content)
  with av.open(str(tmp_path / "in.mp4")) as container, pytest.raises(av.InvalidDataError):
    list(container.decode())
  excerpts.write_excerpts(tmp_path / "in.mp4", np.array(SPANS), tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  assert film.video_s == pytest.approx(3.53, abs=1e-3)
  assert abs(film.audio_s - 3.53) < 1024 / film.sample_rate


def test_touching_spans_are_one(tmp_path):
  pieces = rendered(tmp_path, Media(), [(2.0, 2.59), (2.59, 3.0), (3.0, 4.0)])
  whole = rendered(tmp_path, Media(), [(2.0, 4.0)])
  np.testing.assert_array_equal(pieces.frame_s, whole.frame_s)
  np.testing.assert_array_equal(pieces.brightness, whole.brightness)


def test_without_sound(tmp_path):
  assert rendered(tmp_path, Media(sample_rate=0), SPANS).flash_s == pytest.approx(FLASH_S, abs=1e-3)


def test_frames_at_uneven_times_keep_them(tmp_path):
  frame_s = (0.0, 0.9, 1.0, 1.003, 1.5, 3.1, 3.4, 3.441, 3.9, 4.7)
  film = rendered(tmp_path, Media(frame_s=frame_s), [(0.95, 1.6), (2.0, 4.0), (4.8, 6.5)])
  # On screen at the start of the three spans: 0.9, 1.5 and 4.7.
  expected = [0.0, 0.05, 0.053, 0.55, 0.65, 1.75, 2.05, 2.091, 2.55, 2.65]
  np.testing.assert_allclose(film.frame_s, expected, atol=1e-4)
  assert film.flash_s == pytest.approx(2.05, abs=1e-4)
  assert film.beep_s == pytest.approx(2.05, abs=FRAME_S / 4)


def test_a_cut_just_beside_a_frame_shows_no_flash_of_the_next_scene(tmp_path):
  # The white frame is on screen from 3.40 to 3.44 s.
  film = rendered(tmp_path, Media(), [(2.0, 3.404), (3.436, 4.0)])
  assert film.brightness.max() < 120
  assert len(film.frame_s) == 35 + 14


def test_a_turned_video_is_turned_upright(tmp_path):
  source = tmp_path / "turned.mp4"
  image = np.zeros((64, 96, 3), np.uint8)
  image[:, :48] = 255
  with av.open(str(source), "w") as output:
    stream = output.add_stream("libx264", rate=25, options={"crf": "10"})
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    for _ in range(25):
      output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
    output.mux(stream.encode(None))
  # The display matrix of a telephone held upright: turn clockwise by 90 degrees.
  content = bytearray(source.read_bytes())
  matrix = content.index(b"tkhd") + 44
  one = 1 << 16
  content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
  source.write_bytes(content)

  excerpts.write_excerpts(source, np.array([[0.0, 1.0]]), tmp_path / "out.mp4")
  with av.open(str(tmp_path / "out.mp4")) as container:
    frame = next(container.decode(video=0)).to_ndarray(format="gray")
  assert frame.shape == (96, 64)
  assert frame[:40].mean() > 200  # left has become top
  assert frame[56:].mean() < 50


@pytest.mark.parametrize(
  "name", ["big_buck_bunny_30s.webm", "bikes_10s_no_audio.mp4", "nasa_13s.mp4"]
)
def test_real_clips(tmp_path, name):
  if not (CLIPS / name).exists():
    pytest.skip(f"../shared/data/clips/{name} is absent")
  spans = np.array([[0.5, 1.3], [4.0, 5.017], [9.3, 9.9]])
  excerpts.write_excerpts(CLIPS / name, spans, tmp_path / "out.mp4")
  film = play(tmp_path / "out.mp4")
  assert film.video_s == pytest.approx(2.417, abs=1e-3)
  assert np.diff(film.frame_s).max() < 0.1
  assert (film.audio_s is None) == ("no_audio" in name)
  if film.audio_s is not None:
    assert abs(film.audio_s - 2.417) < 1024 / film.sample_rate
    assert np.abs(film.sound).max() > 0.01


def test_progress_runs_to_the_end(tmp_path):
  make_media(tmp_path / "in.mp4", Media(duration_s=2.0))
  calls = []
  excerpts.write_excerpts(
    tmp_path / "in.mp4",
    np.array([[0.0, 1.0]]),
    tmp_path / "o.mp4",
    lambda *args: calls.append(args),
  )
  done, total = np.array(calls).T
  assert (np.diff(done) >= 0).all()
  assert done[-1] == 1.0
  assert set(total) == {1.0}


def bad_files(tmp_path):
  make_media(tmp_path / "good.mp4", Media(duration_s=2.0))
  content = (tmp_path / "good.mp4").read_bytes()
  (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
  (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
  (tmp_path / "empty.mp4").write_bytes(b"")
  (tmp_path / "folder.mp4").mkdir()
  with av.open(str(tmp_path / "sound.mp4"), "w") as output:
    media = Media(duration_s=1.0)
    write_sound(output, output.add_stream("aac", rate=44_100, layout="mono"), media)


@pytest.mark.parametrize(
  "name", ["missing.mp4", "cut.mp4", "text.mp4", "empty.mp4", "folder.mp4", "sound.mp4"]
)
def test_bad_files_are_named_and_leave_nothing_behind(tmp_path, capfd, name):
  bad_files(tmp_path)
  before = sorted(path.name for path in tmp_path.iterdir())
  with pytest.raises(InputError, match=name) as caught:
    excerpts.write_excerpts(tmp_path / name, np.array([[0.0, 1.0]]), tmp_path / "out.mp4")
  assert "\n" not in str(caught.value)
  assert sorted(path.name for path in tmp_path.iterdir()) == before
  assert capfd.readouterr() == ("", "")


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, capfd):
  make_media(tmp_path / "in.mp4", Media(duration_s=2.0))

  def interrupt(done_s, total_s):
    if done_s > 0.5:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    excerpts.write_excerpts(
      tmp_path / "in.mp4", np.array([[0.0, 1.0]]), tmp_path / "out.mp4", interrupt
    )
  assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
  ("spans", "message"),
  [
    (np.zeros((0, 2)), "array"),
    ([[1.0, 1.0]], "end after"),
    ([[1.0, np.nan]], "end after"),
    ([[-1.0, 1.0]], "ascending"),
    ([[2.0, 3.0], [0.0, 1.0]], "ascending"),
    ([[0.0, 2.0], [1.0, 3.0]], "overlap"),
  ],
)
def test_bad_spans(tmp_path, spans, message):
  with pytest.raises(InputError, match=message):
    excerpts.write_excerpts(tmp_path / "in.mp4", spans, tmp_path / "out.mp4")
