"""Every odd file is read correctly or refused in one line that names it, by every reader."""

import dataclasses
import io
import zipfile

import av
import numpy as np
import pytest
from media_files import drawing, write_media, write_picture
from PIL import Image

from vsumjax.media import audio, video
from vsumjax.types import InputError

STEADY = {100 * index: 2 * index + 20 for index in range(100)}
HISS = 0.1 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
FRAME_S = np.arange(40) / 10
NO_MEDIA = r"not a video or sound file, or a broken one"
CUT_OFF = r"is cut off: \d+\.\d s of 10\.\d s are there; fetch the file again"
NO_PICTURE = "has no video stream; give a file with a picture"

READERS = {
  "probe": video.probe,
  "iter_frames": lambda path: list(video.iter_frames(path, np.arange(0, 11, 0.1), (20, 30))),
  "iter_audio": lambda path: list(audio.iter_audio(path)),
  "describe_spans": lambda path: audio.describe_spans(path, np.array([[0.0, 2.0], [2.0, 4.0]])),
}


def whole(path, **how):
  """Ten seconds of picture and sound; the bytes of the file."""
  return write_media(path, STEADY, HISS, rate=10, **how).read_bytes()


def index_first(folder):
  """As `whole`, with the index before the frames, as the web has it."""
  whole(folder / "a.mp4")
  with (
    av.open(str(folder / "a.mp4")) as source,
    av.open(str(folder / "b.mp4"), "w", options={"movflags": "faststart"}) as copy,
  ):
    streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
    for packet in source.demux():
      if packet.dts is not None:
        packet.stream = streams[packet.stream_index]
        copy.mux(packet)
  return (folder / "b.mp4").read_bytes()


def image(form, height=48, width=64):
  file = io.BytesIO()
  Image.fromarray(drawing(3, height, width)).save(file, form)
  return file.getvalue()


def archive():
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("letter.txt", "Dear Sir" * 100)
  return file.getvalue()


# Name: its bytes, of a folder to work in.
REFUSED_BY_ALL = {
  "empty.mp4": (lambda folder: b"", NO_MEDIA),
  "byte.mkv": (lambda folder: b"\x1a", NO_MEDIA),
  "nulls.webm": (lambda folder: bytes(1 << 20), NO_MEDIA),
  "noise.mp4": (lambda folder: np.random.default_rng(0).bytes(1 << 16), NO_MEDIA),
  "letter.mp4": (lambda folder: b"Dear Sir,\n" * 100, NO_MEDIA),
  "letter.txt": (lambda folder: b"Dear Sir,\n" * 100, "is a text"),
  "page.html": (lambda folder: b"<html><body>404 Not Found</body></html>" * 50, NO_MEDIA),
  "archive.mp4": (lambda folder: archive(), NO_MEDIA),
  "playlist.mp4": (lambda folder: b"#EXTM3U\n#EXTINF:10,\na.mp4\n#EXT-X-ENDLIST\n", NO_MEDIA),
  "head.mp4": (lambda folder: whole(folder / "a.mp4")[:1000], NO_MEDIA),
  "head.mkv": (lambda folder: whole(folder / "a.mkv")[:40], NO_MEDIA),
  "half_index.mp4": (lambda folder: whole(folder / "a.mp4")[:-1500], "a part of its index is mis"),
  "half_index_first.mp4": (lambda folder: index_first(folder)[:2000], "a part of its index is mis"),
  "endless_box.mp4": (lambda folder: b"\0\0\0\1moov" + b"\xff" * 100, "a part of its index is mis"),
  "empty_box.mp4": (lambda folder: b"\0\0\0\4free" * 100, NO_MEDIA),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", REFUSED_BY_ALL)
def test_what_is_no_media_is_refused_by_all(name, reader, tmp_path, capfd):
  make, told = REFUSED_BY_ALL[name]
  path = tmp_path / name
  path.write_bytes(make(tmp_path))
  assert_refused(READERS[reader], path, told)
  assert capfd.readouterr() == ("", "")


def assert_refused(read, path, told):
  with pytest.raises(InputError, match=told) as raised:
    read(path)
  assert str(raised.value).startswith(f"{path}: ")
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_by_all(reader, tmp_path):
  (tmp_path / "folder.mp4").mkdir()
  (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
  for name, told in (
    ("missing.mp4", "there is no such file"),
    ("folder.mp4", "cannot read the file: Is a directory"),
    ("loop.mp4", "cannot read the file: Too many levels of symbolic links"),
  ):
    assert_refused(READERS[reader], tmp_path / name, told)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".flv"])
def test_a_file_cut_off_is_refused_where_something_is_missing(suffix, tmp_path, capfd):
  path = tmp_path / f"cut{suffix}"
  if suffix == ".mp4":
    data = index_first(tmp_path)
  elif suffix == ".webm":
    data = write_picture(path, "libvpx", frame_s=np.arange(100) / 10).read_bytes()
  else:
    data = whole(path)
  path.write_bytes(data[: len(data) * 3 // 4])
  assert video.probe(path).duration_s == pytest.approx(10, abs=0.3)
  assert len(list(video.iter_frames(path, [0.5, 2.0], (20, 30)))) == 2
  for from_s in (0.0, 9.0):  # decoded from the start and from the middle
    assert_refused(
      lambda path, from_s=from_s: list(video.iter_frames(path, [from_s, 9.9], (20, 30))),
      path,
      CUT_OFF,
    )
  if suffix != ".webm":
    for reader in ("iter_audio", "describe_spans"):
      assert_refused(READERS[reader], path, CUT_OFF)
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".ts", ".avi"])
def test_a_file_that_states_no_length_ends_where_it_is_cut(suffix, tmp_path):
  path = tmp_path / f"cut{suffix}"
  data = whole(path)
  path.write_bytes(data[: len(data) // 2])
  duration_s = video.probe(path).duration_s
  assert 3 < duration_s < 7
  grey = [frame.mean() for frame in video.iter_frames(path, np.arange(0, duration_s, 0.1), (8, 8))]
  assert grey[0] == pytest.approx(20, abs=1)
  assert np.diff(grey).min() > -0.1 and grey[-1] == pytest.approx(20 + 20 * duration_s, abs=10)


@pytest.mark.parametrize("name", ["sound.m4a", "sound.wav", "sound.mp3", "sound.mp4"])
def test_sound_alone_is_heard_and_not_seen(name, tmp_path):
  path = tmp_path / name
  if name.endswith(("a", "4")):
    write_media(path, None, HISS[:48_000])
  else:
    with av.open(str(path), "w") as container:
      codec, form = ("libmp3lame", "s16p") if name.endswith("mp3") else ("pcm_s16le", "s16")
      stream = container.add_stream(codec, rate=16_000, layout="mono")
      samples = (HISS[None, :48_000] * 2**15).astype(np.int16)
      frame = av.AudioFrame.from_ndarray(samples, form, "mono")
      frame.sample_rate = 16_000
      container.mux(stream.encode(frame))
      container.mux(stream.encode(None))
  for reader in ("probe", "iter_frames"):
    assert_refused(READERS[reader], path, NO_PICTURE)
  assert sum(map(len, audio.iter_audio(path))) == pytest.approx(48_000, abs=2000)
  assert audio.describe_spans(path, np.array([[0.0, 2.0]])) == ("noise",)


def test_subtitles_alone_are_refused(tmp_path):
  path = tmp_path / "talk.mp4"
  path.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 3)
  for reader in ("probe", "iter_frames"):
    assert_refused(READERS[reader], path, NO_PICTURE)


@pytest.mark.parametrize("name", ["talk.txt", "talk.mkv", "talk.jpg", "talk", "t%03d:a b'c.mp4"])
def test_the_name_does_not_matter(name, tmp_path):
  data = whole(tmp_path / "a.mp4")
  path = tmp_path / name
  path.write_bytes(data)
  for read in (video.probe, READERS["describe_spans"]):
    assert read(path) == read(tmp_path / "a.mp4")
  frames, expected = (READERS["iter_frames"](place) for place in (path, tmp_path / "a.mp4"))
  np.testing.assert_array_equal(frames, expected)


@dataclasses.dataclass(frozen=True)
class Odd:
  """A file of drawings: how it is written, and what is read of it."""

  codec: str = "libx264"
  pixel_format: str = "yuv420p"
  how: dict = dataclasses.field(default_factory=dict)
  size: tuple[int, int] = (48, 64)
  quarter_turns: int = 0
  duration_s: float = 4.0
  within: float = 12.0  # mean error of a colour


ODD = {
  "one_frame.mp4": Odd(how={"frame_s": [0.0]}, duration_s=0.1),
  "one_frame.mkv": Odd(how={"frame_s": [0.0]}, duration_s=0.1),
  "one_frame.webm": Odd("libvpx", how={"frame_s": [0.0]}, duration_s=0.1, within=30),
  "one_pixel.mkv": Odd("ffv1", "yuv444p", {"size": (1, 1)}, (1, 1)),
  "one_pixel_420.mkv": Odd("ffv1", "yuv420p", {"size": (1, 1)}, (1, 1)),
  "one_pixel.mp4": Odd("libx264", "yuv444p", {"size": (1, 1)}, (1, 1)),
  "odd_size.mkv": Odd("ffv1", "yuv444p", {"size": (47, 63)}, (47, 63)),
  "odd_size.webm": Odd("libvpx", how={"size": (47, 63)}, size=(47, 63), within=30),
  "flat.mkv": Odd("ffv1", "yuv444p", {"size": (2, 900)}, (2, 900)),
  "ten_bits.mp4": Odd("libx265", "yuv420p10le", {"options": {"x265-params": "log-level=none"}}),
  "ten_bits.mov": Odd("prores_ks", "yuv422p10le"),
  "grey.mkv": Odd("ffv1", "gray", within=60),
  "turned_90.mp4": Odd(how={"rotation": 90}, size=(64, 48), quarter_turns=1),
  "turned_180.mp4": Odd(how={"rotation": 180}, quarter_turns=2),
  "turned_270.mp4": Odd(how={"rotation": 270}, size=(64, 48), quarter_turns=3),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read(name, tmp_path):
  odd = ODD[name]
  stored = odd.how.get("size", (48, 64))
  how = {"frame_s": FRAME_S} | odd.how
  path = write_picture(tmp_path / name, odd.codec, odd.pixel_format, **how)
  info = video.probe(path)
  assert (info.height, info.width) == odd.size
  assert info.duration_s == pytest.approx(odd.duration_s, abs=0.01)
  frames = list(video.iter_frames(path, np.array(how["frame_s"]) + 0.01, odd.size))
  assert len(frames) == len(how["frame_s"])
  for index, frame in enumerate(frames):
    expected = np.rot90(drawing(index, *stored), odd.quarter_turns).astype(int)
    assert np.abs(frame - expected).mean() < odd.within
  assert list(audio.iter_audio(path)) == []


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_still_is_a_video_of_one_frame(form, tmp_path):
  path = tmp_path / "still.mp4"
  path.write_bytes(image(form))
  assert video.probe(path).duration_s == pytest.approx(0.04)
  for frame in video.iter_frames(path, [0.0, 5.0], (48, 64)):
    assert np.abs(frame - drawing(3).astype(int)).mean() < 20


def test_a_stream_that_states_no_duration_is_measured(tmp_path):
  path = tmp_path / "live.webm"
  with av.open(str(path), "w", options={"live": "1"}) as container:
    stream = container.add_stream("libvpx", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for index in range(40):
      frame = av.VideoFrame.from_ndarray(drawing(index), format="rgb24")
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  with av.open(str(path)) as container:
    assert container.duration is None
  assert video.probe(path).duration_s == pytest.approx(4.0, abs=0.01)
  frames = {frame.tobytes() for frame in video.iter_frames(path, FRAME_S + 0.01, (48, 64))}
  assert len(frames) == 40


def test_a_song_with_a_cover_has_no_picture(tmp_path):
  path = tmp_path / "song.mp3"
  with av.open(str(path), "w") as container:
    sound = container.add_stream("libmp3lame", rate=16_000, layout="mono")
    cover = container.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
    cover.disposition = av.stream.Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(drawing(0), format="rgb24")
    for packet in (*cover.encode(frame), *cover.encode(None)):
      container.mux(packet)
    frame = av.AudioFrame.from_ndarray(HISS[None, :48_000], "fltp", "mono")
    frame.sample_rate = 16_000
    container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
  with av.open(str(path)) as container:
    assert len(container.streams.video) == 1
  for reader in ("probe", "iter_frames"):
    assert_refused(READERS[reader], path, NO_PICTURE)
  assert audio.describe_spans(path, np.array([[0.0, 2.0]])) == ("noise",)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".webm"])
def test_bytes_flipped_anywhere_are_read_over_or_refused(suffix, tmp_path, capfd):
  path = tmp_path / f"flipped{suffix}"
  if suffix == ".webm":
    data = write_picture(path, "libvpx", frame_s=FRAME_S).read_bytes()
  else:
    data = whole(path)
  rng = np.random.default_rng(0)
  for _ in range(12):
    flipped = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, len(data), rng.choice([1, 10, 100]))
    flipped[at] = rng.integers(0, 256, len(at))
    path.write_bytes(flipped.tobytes())
    for read in READERS.values():
      try:
        read(path)
      except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
  assert capfd.readouterr() == ("", "")
