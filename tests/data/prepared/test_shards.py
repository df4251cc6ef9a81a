import dataclasses
import json
import tracemalloc

import fsspec
import numpy as np
import pytest
import three_videos
from media_files import write_media

from vsumjax.data import reading
from vsumjax.data.prepared import preparation, records, shards
from vsumjax.data.prepared.preparation import Done, Settings, Skipped, Task
from vsumjax.data.prepared.records import ShardReader
from vsumjax.data.videos import Video
from vsumjax.media import audio, sound_codec
from vsumjax.types import InputError

SETTINGS = Settings(three_videos.CONFIG, time_shifts=3)


def make_task(out, videos, settings=SETTINGS):
  videos = tuple(dataclasses.replace(item, labels=None) for item in videos)
  return Task(0, 1, videos, settings, str(out), "digest")


def psnr(a, b):
  return 10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9))


def sound_of(path, span_s):
  samples = np.concatenate([*audio.iter_audio(path), np.zeros(2 * audio.SAMPLE_RATE)])
  start, stop = np.round(np.array(span_s) * audio.SAMPLE_RATE).astype(int)
  return np.clip(samples[start:stop], -1, 1)


def test_records_hold_what_training_would_decode(videos, tmp_path):
  outcome = shards.run_task(make_task(tmp_path, videos), {})
  shard, sound = (ShardReader(tmp_path / entry.file) for entry in outcome.files)
  assert [entry.first for entry in outcome.videos] == [0, 5, 8]
  assert len(shard) == len(sound) == sum(three_videos.DURATIONS_S)
  for item, entry in zip(videos, outcome.videos, strict=True):
    spans = reading.spans_of(reading.with_length(item, three_videos.CONFIG), three_videos.CONFIG)
    texts = reading.read_texts(item, spans, three_videos.CONFIG)
    frames = list(reading.iter_frames(item, spans, three_videos.CONFIG, 3))
    assert entry.edges_s == (*spans[:, 0], spans[-1, 1]) and entry.duration_s == spans[-1, 1]
    found = shard.read(entry.first, entry.first + entry.num_segments)
    assert [record.text for record in found] == list(texts)
    assert [record.segment for record in found] == list(range(len(spans)))
    assert {record.video_id for record in found} == {item.id}
    assert [record.span_s for record in found] == [tuple(span) for span in spans]
    for record, expected in zip(found, frames, strict=True):
      decoded = np.stack([records.decode_jpeg(frame) for frame in record.frames])
      assert decoded.shape == expected.shape == (6, 16, 16, 3)
      assert psnr(decoded, expected) > 40  # plain grey loses next to nothing
    heard = sound.read_bytes(entry.first, entry.first + entry.num_segments)
    for data, span_s in zip(heard, spans, strict=True):
      samples = sound_codec.decode_sound(data)
      if item is videos[1]:
        assert data == b""
      else:
        assert np.allclose(samples, sound_of(item.media, span_s), atol=1 / 32767)
        assert np.abs(samples).max() > 0.5


def test_moving_colours_are_kept(corpus, tmp_path):
  """The bound the documentation states, at 48 pixels."""
  config = dataclasses.replace(three_videos.CONFIG, image_size=48)
  item = Video("v", corpus / "media" / "test_000.mp4", "", "test")
  outcome = shards.run_task(make_task(tmp_path, [item], Settings(config)), {})
  found = ShardReader(tmp_path / outcome.files[0].file).read(0, outcome.videos[0].num_segments)
  spans = reading.spans_of(reading.with_length(item, config), config)
  for record, expected in zip(found, reading.iter_frames(item, spans, config), strict=True):
    assert psnr(np.stack([records.decode_jpeg(f) for f in record.frames]), expected) > 32


def test_the_outcome_is_beside_the_shard_and_the_digests_are_of_the_files(videos, tmp_path):
  outcome = shards.run_task(make_task(tmp_path, videos[:1]), {})
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {
    "shard-00000-of-00001.arrayrecord",
    "sound-00000-of-00001.arrayrecord",
    "shard-00000-of-00001.json",
  }
  assert json.loads((tmp_path / "shard-00000-of-00001.json").read_text())["inputs_digest"] == (
    "digest"
  )
  for entry in outcome.files:
    assert (tmp_path / entry.file).stat().st_size == entry.num_bytes
  again = shards.run_task(make_task(tmp_path / "again", videos[:1]), {})
  assert again == outcome


def test_sound_can_be_left_out(videos, tmp_path):
  settings = dataclasses.replace(SETTINGS, sound=False)
  outcome = shards.run_task(make_task(tmp_path, videos, settings), {})
  assert [entry.file for entry in outcome.files] == ["shard-00000-of-00001.arrayrecord"]
  assert not list(tmp_path.glob("sound*"))


def broken(folder, videos):
  """(kind, part of the reason, video) of every fault a corpus is known to have."""
  good = videos[0]
  whole = good.media.read_bytes()
  (folder / "empty.mp4").write_bytes(b"")
  (folder / "text.mp4").write_text("not a video\n" * 100)
  (folder / "bad.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nfine\n\n2\nnonsense\n")
  # Faststart is off: without its end the file has no index.
  (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
  write_media(folder / "silent_film.wav", samples=np.zeros(16_000, np.float32))
  # In Matroska the index is not needed: the cut shows when its end is decoded.
  write_media(folder / "whole.mkv", {n * 100: 9 * n % 200 for n in range(100)}, rate=10)
  part = (folder / "whole.mkv").read_bytes()
  (folder / "cut.mkv").write_bytes(part[: len(part) // 2])
  at = {"transcript": folder / "bad.srt"}
  return [
    ("media missing", "there is no such file", {"media": folder / "gone.mp4"}),
    ("media unusable", "not a video or sound file", {"media": folder / "empty.mp4"}),
    ("media unusable", "not a video or sound file", {"media": folder / "text.mp4"}),
    ("media unusable", "not a video or sound file", {"media": folder / "cut.mp4"}),
    ("media unusable", "is cut off", {"media": folder / "cut.mkv", "transcript": None}),
    ("media unusable", "no video stream", {"media": folder / "silent_film.wav"}),
    ("transcript missing", "there is no such file", {"transcript": folder / "gone.srt"}),
    ("transcript unusable", "bad.srt:6: expected times", at),
    ("other", "has no media", {"media": None, "duration_s": 3.0}),
  ]


def test_broken_videos_are_left_out_with_their_reasons(videos, tmp_path):
  faults = broken(tmp_path, videos)
  bad = [
    dataclasses.replace(videos[0], id=f"bad{n}", **changes)
    for n, (_, _, changes) in enumerate(faults)
  ]
  outcome = shards.run_task(make_task(tmp_path / "out", [videos[1], *bad, videos[2]]), {})
  assert [entry.id for entry in outcome.done] == ["v1", "v2"]
  assert outcome.videos[-1].first == 3
  for entry, (kind, reason, _) in zip(outcome.skipped, faults, strict=True):
    assert (entry.kind, reason in entry.reason) == (kind, True), entry
    assert "\n" not in entry.reason
  alone = shards.run_task(make_task(tmp_path / "alone", videos[1:]), {})
  assert outcome.files == alone.files  # to the byte, as if the bad ones had not been there


def test_a_shard_of_broken_videos_is_empty(tmp_path):
  item = Video("v", tmp_path / "gone.mp4", "", "train")
  outcome = shards.run_task(make_task(tmp_path, [item]), {})
  assert len(ShardReader(tmp_path / outcome.files[0].file)) == 0
  assert outcome.done == ()


def test_what_nobody_expected_of_one_video_stops_no_other(videos, tmp_path, monkeypatch):
  read_texts = reading.read_texts

  def fail_on_first(item, *arguments):
    if item.id == "v0":
      raise ZeroDivisionError("of a\nlibrary")
    return read_texts(item, *arguments)

  monkeypatch.setattr(reading, "read_texts", fail_on_first)
  outcome = shards.run_task(make_task(tmp_path, videos), {})
  assert [entry.kind for entry in outcome.skipped] == ["unexpected error"]
  assert "0.mp4: ZeroDivisionError('of a\\nlibrary')" in outcome.skipped[0].reason
  assert [entry.id for entry in outcome.done] == ["v1", "v2"]


def test_a_full_disk_is_not_the_fault_of_a_video(videos, tmp_path, monkeypatch):
  def fail(spool, record):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(shards._Spool, "append", fail)
  with pytest.raises(OSError, match="No space left"):
    shards.run_task(make_task(tmp_path, videos), {})
  assert list(tmp_path.iterdir()) == []


def test_blocked_videos_are_not_touched(videos, tmp_path):
  reason = Skipped("v0", "process ended", "0.mp4: its process ended")
  steps = []
  outcome = shards.run_task(make_task(tmp_path, videos), {0: reason}, steps.append)
  assert outcome.videos[0] == reason and len(outcome.done) == 2
  # Once when a video begins, once for every record of frames and of sound, and after the last.
  assert steps == [1] * (1 + 2 * 3) + [2] * (1 + 2 * 4) + [3]


def test_files_in_a_bucket_give_the_same_shard(videos, tmp_path):
  bucket = fsspec.filesystem("memory")
  item = videos[0]
  urls = {}
  for name in ("media", "transcript"):
    path = getattr(item, name)
    bucket.put_file(str(path), f"/bucket/{path.name}")
    urls[name] = f"memory://bucket/{path.name}"
  bucket.pipe_file("/bucket/bad.srt", b"1\nnonsense\n")
  remote = dataclasses.replace(item, **urls)
  bad = dataclasses.replace(remote, id="bad", transcript="memory://bucket/bad.srt")
  gone = dataclasses.replace(remote, id="gone", media="memory://bucket/gone.mp4")
  outcome = shards.run_task(make_task("memory://bucket/out", [bad, remote, gone]), {})
  assert outcome.files == shards.run_task(make_task(tmp_path, [item]), {}).files
  shard = outcome.files[0].file
  assert bucket.cat_file(f"/bucket/out/{shard}") == (tmp_path / shard).read_bytes()
  reasons = [entry.reason for entry in outcome.skipped]
  assert reasons[0].startswith("memory://bucket/bad.srt:2: expected times")
  assert reasons[1] == "memory://bucket/gone.mp4: there is no such file"
  assert preparation.Folder("memory://bucket/out").sizes()[shard] == outcome.files[0].num_bytes


@pytest.mark.parametrize("chunk", [1, 700, 16_000, 100_000])
def test_sound_is_cut_where_the_spans_are(chunk):
  samples = np.arange(50_000, dtype=np.float32)
  spans = np.array([[0.5, 1.0], [1.0, 1.7], [1.7, 3.0], [3.0, 4.0], [4.0, 5.0]])
  chunks = iter(np.split(samples, range(chunk, len(samples), chunk)) if chunk > 1 else [samples])
  cut = list(shards._sound_of_spans(chunks, spans))
  padded = np.pad(samples, (0, 80_000))
  for (start_s, end_s), piece in zip(spans, cut, strict=True):
    assert np.array_equal(piece, padded[round(start_s * 16_000) : round(end_s * 16_000)])


def test_memory_does_not_grow_with_length(tmp_path, monkeypatch):
  monkeypatch.setattr(shards, "_SPOOL_BYTES", 1 << 18)
  config = dataclasses.replace(three_videos.CONFIG, segment_s=10.0)
  peaks, sizes = [], []
  for seconds in (20, 150):
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, seconds * 16_000).astype(np.float32)
    path = write_media(tmp_path / f"{seconds}.mkv", {n * 1000: 90 for n in range(seconds)}, noise)
    task = make_task(tmp_path / str(seconds), [Video("v", path, "", "train")], Settings(config))
    tracemalloc.start()
    outcome = shards.run_task(task, {})
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert isinstance(outcome.videos[0], Done)
    sizes.append(sum(entry.num_bytes for entry in outcome.files))
  assert sizes[1] - sizes[0] > 3e6
  assert peaks[1] - peaks[0] < 1e6


def test_settings_that_make_no_sense_are_refused():
  for changes in ({"time_shifts": 2}, {"jpeg_quality": 0}, {"videos_per_shard": 0}):
    [field] = changes
    with pytest.raises(InputError, match=field):
      Settings(three_videos.CONFIG, **changes)
