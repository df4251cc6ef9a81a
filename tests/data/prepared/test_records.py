import concurrent.futures
import dataclasses
import json
import pickle

import hypothesis
import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
import three_videos

from vsumjax.data.prepared import records
from vsumjax.data.prepared.records import PreparedInfo, SegmentRecord, ShardFile, ShardReader
from vsumjax.data.prompt import SegmentText
from vsumjax.media import audio, sound_codec, video
from vsumjax.types import InputError

TEXTS = st.builds(
  SegmentText, **{field.name: st.text() for field in dataclasses.fields(SegmentText)}
)
RECORDS = st.builds(
  SegmentRecord,
  video_id=st.text(),
  segment=st.integers(0, 2**40),
  span_s=st.tuples(*[st.floats(0, 1e6)] * 2),
  frames=st.lists(st.binary(max_size=50), max_size=4).map(tuple),
  text=TEXTS,
)


def text(said):
  return SegmentText(**{field.name: said for field in dataclasses.fields(SegmentText)})


def segment_record(segment):
  frame = bytes([segment]) * (100 + segment)
  return SegmentRecord("v", segment, (segment, segment + 1.0), (frame, b""), text(f"word{segment}"))


def write_shard(path, num_records):
  with records.writing(path) as writer:
    for segment in range(num_records):
      writer.write(records.encode(segment_record(segment)))
  return path


@pytest.fixture
def shard(tmp_path):
  return write_shard(tmp_path / "shard.arrayrecord", 50)


@hypothesis.given(RECORDS)
def test_a_record_is_read_as_it_was_written(record):
  data = records.encode(record)
  assert records.decode(data) == record
  assert records.encode(records.decode(data)) == data


def test_a_record_of_another_version_is_refused():
  fields = msgpack.unpackb(records.encode(segment_record(1)))
  with pytest.raises(InputError, match=r"version 9, this program reads 1; prepare"):
    records.decode(msgpack.packb(fields | {"version": 9}))
  with pytest.raises(InputError, match=r"the texts smelt, this program reads said, heard"):
    records.decode(msgpack.packb(fields | {"text": {"smelt": "smoke"}}))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x05", b"text", b"\x93\x01\x02"])
def test_bytes_that_are_no_record_are_refused(data):
  with pytest.raises(InputError):
    records.decode(data)


def psnr(a, b):
  return 10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2))


def test_a_jpeg_is_close_to_its_frame_and_the_same_each_time():
  rng = np.random.default_rng(0)
  ramp = np.linspace(0, 255, 40)[:, None, None] * np.array([1.0, 0.5, 0.2])
  frame = (ramp + rng.uniform(0, 8, (40, 30, 3))).clip(0, 255).astype(np.uint8)
  coded = records.encode_jpeg(frame, 90)
  assert coded == records.encode_jpeg(frame, 90)
  assert len(records.encode_jpeg(frame, 50)) < len(coded)
  decoded = records.decode_jpeg(coded)
  assert decoded.shape == (40, 30, 3) and decoded.dtype == np.uint8
  assert psnr(frame, decoded) > 38


def test_colours_keep_their_edges():
  """Red beside blue in single columns: halved chroma would mix them."""
  frame = np.zeros((32, 32, 3), np.uint8)
  frame[:, ::2, 0] = frame[:, 1::2, 2] = 200
  assert psnr(frame, records.decode_jpeg(records.encode_jpeg(frame, 95))) > 30


@pytest.mark.parametrize(("size", "least_db"), [(224, 36), (48, 32)])
def test_frames_of_real_video_lose_little(clips, size, least_db):
  for name in ("big_buck_bunny_30s.webm", "nasa_13s.mp4", "bikes_10s_no_audio.mp4"):
    for frame in video.iter_frames(clips / name, [0.5, 4.5, 9.0], (size, size)):
      decoded = records.decode_jpeg(records.encode_jpeg(frame, 90))
      assert psnr(frame, decoded) > least_db


@hypothesis.given(st.integers(0, 9000), st.integers(0, 2**32))
def test_sound_is_exact_to_16_bits(num_samples, seed):
  samples = np.random.default_rng(seed).uniform(-1, 1, num_samples).astype(np.float32)
  coded = sound_codec.encode_sound(samples)
  decoded = sound_codec.decode_sound(coded)
  assert decoded.dtype == np.float32 and decoded.shape == samples.shape
  assert np.allclose(decoded, samples, rtol=0, atol=0.51 / 32767)
  assert coded == sound_codec.encode_sound(samples)


def test_silence_takes_no_room_and_no_sound_none():
  second = np.zeros(audio.SAMPLE_RATE, np.float32)
  assert len(sound_codec.encode_sound(second)) < 250
  assert sound_codec.encode_sound(second[:0]) == b""


def test_loud_sound_is_clipped():
  decoded = sound_codec.decode_sound(sound_codec.encode_sound(np.array([2.0, -3.0], np.float32)))
  assert decoded.tolist() == [1.0, -1.0]


def test_any_run_of_records_can_be_read(shard):
  reader = ShardReader(shard)
  assert len(reader) == 50
  for first, stop in ((0, 50), (7, 11), (49, 50), (3, 3), (50, 50)):
    assert reader.read(first, stop) == [segment_record(n) for n in range(first, stop)]
  for first, stop in ((-1, 2), (48, 51), (5, 4)):
    with pytest.raises(IndexError, match=str(shard)):
      reader.read(first, stop)


def test_the_same_records_give_the_same_file(shard, tmp_path):
  assert shard.read_bytes() == write_shard(tmp_path / "again.arrayrecord", 50).read_bytes()


def test_a_reader_can_be_pickled_and_shared_by_threads(shard):
  reader = pickle.loads(pickle.dumps(ShardReader(shard)))
  firsts = np.random.default_rng(0).integers(0, 46, 400).tolist()
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda first: reader.read(first, first + 4), firsts))
  for first, window in zip(firsts, found, strict=True):
    assert window == [segment_record(n) for n in range(first, first + 4)]


def test_a_shard_without_records_can_be_read(tmp_path):
  reader = ShardReader(write_shard(tmp_path / "empty.arrayrecord", 0))
  assert len(reader) == 0 and reader.read(0, 0) == []


def test_a_missing_shard_is_named(tmp_path):
  with pytest.raises(InputError, match=r"none\.arrayrecord: the shard is missing"):
    ShardReader(tmp_path / "none.arrayrecord")


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_cut_shard_is_named(shard, keep):
  shard.write_bytes(shard.read_bytes()[:keep])
  with pytest.raises(InputError, match=rf"{shard}: the shard is broken"):
    ShardReader(shard)


def test_a_changed_record_is_named(shard):
  content = bytearray(shard.read_bytes())
  content[content.index(b"word7")] ^= 1
  shard.write_bytes(content)
  reader = ShardReader(shard)
  assert reader.read(0, 7)
  with pytest.raises(InputError, match=rf"{shard}: the shard is broken"):
    reader.read(7, 8)


def test_a_record_of_another_version_is_named_with_its_file(tmp_path):
  path = tmp_path / "old.arrayrecord"
  with records.writing(path) as writer:
    writer.write(msgpack.packb({"version": 0}))
  with pytest.raises(InputError, match=rf"{path}: a record of version 0"):
    ShardReader(path).read(0, 1)


@pytest.fixture
def prepared(shard):
  """A finished folder with one shard."""
  info = PreparedInfo(
    folder=shard.parent,
    prompt=records.content_of(three_videos.CONFIG),
    time_shifts=3,
    jpeg_quality=90,
    manifest_digest="d",
    num_videos=1,
    num_segments=50,
    num_frames=300,
    num_skipped=0,
    num_bytes=shard.stat().st_size,
    shards=(ShardFile(shard.name, shard.stat().st_size, 50, "x"),),
    sounds=(),
  )
  (shard.parent / records.PREPARED_FILE).write_bytes(records.encode_prepared(info))
  return info


def test_what_is_said_of_a_folder_is_read_as_written(prepared):
  assert records.load_prepared(prepared.folder) == prepared
  assert records.load_prepared(str(prepared.folder)) == prepared


def test_a_prepared_folder_serves_its_config_and_one_frame_of_its_neighbours(prepared):
  prepared.require(three_videos.CONFIG, 3)
  prepared.require(three_videos.CONFIG, 1)
  others = {"window": 4, "tokens_per_frame": 4, "text_tokens": 30, "title_tokens": 2}
  prepared.require(dataclasses.replace(three_videos.CONFIG, **others), 3)


@pytest.mark.parametrize(
  "changes", [{"segment_s": 2.0}, {"frames_per_segment": 4}, {"image_size": 32}]
)
def test_another_config_is_refused_by_field(prepared, changes):
  [(field, value)] = changes.items()
  found = getattr(three_videos.CONFIG, field)
  config = dataclasses.replace(three_videos.CONFIG, **changes)
  with pytest.raises(InputError, match=rf"prompt\.{field} is {found} in .* and {value} here"):
    prepared.require(config, 1)


def test_other_neighbours_are_refused(prepared):
  with pytest.raises(InputError, match=r"time_shifts is 3 in .* and 5 here"):
    prepared.require(three_videos.CONFIG, 5)


def test_a_folder_made_for_a_field_that_is_gone_is_refused(prepared):
  older = dataclasses.replace(prepared, prompt={**prepared.prompt, "crop": 2})
  with pytest.raises(InputError, match=r"prompt\.crop is 2 in .* and None here"):
    older.require(three_videos.CONFIG, 1)


def test_an_unfinished_folder_is_refused(prepared):
  (prepared.folder / records.PREPARED_FILE).unlink()
  with pytest.raises(InputError, match=r"PREPARED\.json is missing"):
    records.load_prepared(prepared.folder)


def test_a_folder_that_was_copied_in_part_is_refused(prepared, shard):
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(InputError, match=rf"{shard}: has \d+ bytes, was \d+"):
    records.load_prepared(prepared.folder)
  shard.unlink()
  with pytest.raises(InputError, match=rf"{shard}: the shard is missing"):
    records.load_prepared(prepared.folder)


def test_a_folder_of_another_schema_is_refused(prepared):
  path = prepared.folder / records.PREPARED_FILE
  path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 9}))
  with pytest.raises(InputError, match=rf"{path}: schema_version 9, this program reads 1"):
    records.load_prepared(prepared.folder)
  path.write_text("{")
  with pytest.raises(InputError, match=rf"{path}: not JSON"):
    records.load_prepared(prepared.folder)
