"""What data and summary share of reading media files."""

from types import SimpleNamespace

import av
import fsspec
import fsspec.implementations.memory
import numpy as np
import pytest

from vsumjax.media import demux
from vsumjax.types import InputError


def _write(path, cover=False, start_s=0.0):
  """One second of picture at 10 frames a second, and sound."""
  with av.open(str(path), "w") as output:
    streams = []
    if cover:
      streams.append(output.add_stream("mjpeg", rate=1))
      streams[0].width = streams[0].height = 32
      streams[0].pix_fmt = "yuvj420p"
      streams[0].disposition = av.stream.Disposition.attached_pic
    picture = output.add_stream("libx264", rate=10)
    picture.width = picture.height = 64
    picture.pix_fmt = "yuv420p"
    sound = output.add_stream("aac", rate=16_000, layout="mono")
    if cover:
      frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
      for packet in (*streams[0].encode(frame), *streams[0].encode(None)):
        output.mux(packet)
    for n in range(10):
      frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * n, np.uint8), format="rgb24")
      frame.pts = n + round(10 * start_s)
      output.mux(picture.encode(frame))
    output.mux(picture.encode(None))
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts = 16_000, round(16_000 * start_s)
    output.mux(sound.encode(frame))
    output.mux(sound.encode(None))
  return path


def test_a_cover_is_no_video(tmp_path):
  path = _write(tmp_path / "song.mp4", cover=True)
  with demux.open_media(path) as container:
    streams = sorted(container.streams.video, key=lambda stream: stream.width)
    assert [stream.width for stream in streams] == [32, 64]
    for order in (streams, streams[::-1]):
      some_file = SimpleNamespace(streams=SimpleNamespace(video=order))
      assert demux.first_stream(path, some_file, "video").width == 64
    assert demux.first_stream(path, container, "audio").type == "audio"


def test_a_stream_without_a_decoder_is_named():
  stream = SimpleNamespace(disposition=av.stream.Disposition(0), codec_context=None)
  container = SimpleNamespace(streams=SimpleNamespace(video=[stream]))
  with pytest.raises(InputError, match=r"odd\.mp4: its video is in a format that cannot be dec"):
    demux.first_stream("odd.mp4", container, "video")


def test_a_file_without_a_kind_has_no_stream_of_it(tmp_path):
  path = tmp_path / "sound.wav"
  with av.open(str(path), "w") as output:
    stream = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
    frame.sample_rate = 16_000
    output.mux(stream.encode(frame))
  with demux.open_media(path) as container:
    assert demux.first_stream(path, container, "video") is None
    assert len(list(demux.decode(container, container.streams.audio[0]))) > 0


def test_time_zero_is_where_the_container_starts(tmp_path):
  for start_s in (0.0, 5.0):
    path = _write(tmp_path / f"{start_s}.ts", start_s=start_s)
    with demux.open_media(path) as container:
      stream = demux.first_stream(path, container, "video")
      first = next(demux.decode(container, stream))
      assert first.time - demux.origin_s(container) == pytest.approx(0, abs=0.1)
      assert demux.origin_s(container) == pytest.approx(start_s, abs=0.2)


@pytest.mark.parametrize("error", [av.InvalidDataError, av.error.PermissionError])
def test_a_damaged_packet_is_passed_over_whatever_the_decoder_calls_it(error):
  """Damage in AAC comes as invalid data or as a missing permission."""

  def bad():
    raise error(1, "damaged")

  packets = [SimpleNamespace(decode=f) for f in (lambda: [1, 2], bad, lambda: [3])]
  container = SimpleNamespace(demux=lambda stream: iter(packets))
  assert list(demux.decode(container, None)) == [1, 2, 3]


@pytest.mark.parametrize(
  ("error", "message"),
  [
    (FileNotFoundError(2, "No such file"), "a.mp4: there is no such file"),
    (av.InvalidDataError(1094995529, "Invalid data"), "a.mp4: not a video or sound file, or"),
    (PermissionError(13, "Permission denied"), "a.mp4: cannot read the file: Permission denied"),
  ],
)
def test_errors_of_reading_name_the_file_in_one_line(error, message):
  with pytest.raises(InputError) as raised, demux.reading("a.mp4"):
    raise error
  assert str(raised.value).startswith(message)
  assert "\n" not in str(raised.value)


def test_errors_of_the_program_stay_what_they_are():
  with pytest.raises(ZeroDivisionError), demux.reading("a.mp4"):
    raise ZeroDivisionError


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
  _write(tmp_path / "a.mp4").rename(tmp_path / "12:30 talk.mp4")
  monkeypatch.chdir(tmp_path)
  with demux.open_media("12:30 talk.mp4") as container:
    assert container.duration > 0


@pytest.fixture
def stored(tmp_path):
  """The URL of a file in a store that is no disk, and the file."""
  path = _write(tmp_path / "a.mp4")
  store = fsspec.filesystem("memory")
  store.pipe("/bucket/a.mp4", path.read_bytes())
  yield "memory://bucket/a.mp4", path
  store.rm("/bucket", recursive=True)


def test_media_at_a_url_is_read_as_a_file_is(stored):
  url, path = stored
  assert demux.size_bytes(url) == demux.size_bytes(path) == path.stat().st_size
  assert demux.read_bytes(url) == demux.read_bytes(path) == path.read_bytes()
  decoded = []
  for place in (url, path, str(path)):
    with demux.open_media(place) as container:
      stream = demux.first_stream(place, container, "video")
      container.seek(0, stream=stream)
      decoded.append([frame.to_ndarray() for frame in demux.decode(container, stream)])
  np.testing.assert_array_equal(decoded[0], decoded[1])
  np.testing.assert_array_equal(decoded[0], decoded[2])


def test_what_was_opened_at_a_url_is_closed(tmp_path, monkeypatch):
  url = f"file://{_write(tmp_path / 'a.mp4')}"
  opened, open_url = [], fsspec.core.OpenFile.open
  monkeypatch.setattr(
    fsspec.core.OpenFile, "open", lambda self: opened.append(open_url(self)) or opened[-1]
  )
  with demux.open_media(url) as container:
    assert container.duration > 0
    assert not opened[0].closed
  assert opened[0].closed
  demux.size_bytes(url), demux.read_bytes(url)
  assert [file.closed for file in opened] == [True] * 3


@pytest.mark.parametrize(
  ("url", "told"),
  [
    ("memory://bucket/none.mp4", "there is no such file"),
    ("nowhere://bucket/a.mp4", "Protocol not known: nowhere"),
  ],
)
def test_a_url_that_cannot_be_opened_is_named(url, told):
  for read in (demux.size_bytes, demux.read_bytes, lambda url: demux.open_media(url).__enter__()):
    with pytest.raises(InputError) as raised:
      read(url)
    assert str(raised.value).startswith(f"{url}: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_url_whose_package_is_missing_is_named():
  fsspec.register_implementation(
    "attic", "none_such.AtticFileSystem", clobber=True, errtxt="Please install none_such"
  )
  with pytest.raises(
    InputError, match=r"attic://b/a\.mp4: a package is missing .*install none_such"
  ):
    demux.size_bytes("attic://b/a.mp4")


def test_other_errors_of_a_store_are_told_in_one_line(monkeypatch):
  def refuse(*args, **kwargs):
    raise RuntimeError("no right\nto read")

  monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "_open", refuse)
  with pytest.raises(InputError, match=r"memory://bucket/a\.mp4: cannot open it: no right to re"):
    demux.read_bytes("memory://bucket/a.mp4")


def test_a_missing_file_has_no_size(tmp_path):
  for read in (demux.size_bytes, demux.read_bytes):
    with pytest.raises(InputError, match=r"none\.mp4: there is no such file"):
      read(tmp_path / "none.mp4")
