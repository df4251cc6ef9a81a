import json
import pickle

import pytest
from array_record.python import array_record_module

from vsumjax.data.record_files import RecordFile, decode_versioned, require_whole, shard_name
from vsumjax.types import InputError


@pytest.fixture
def path(tmp_path):
  path = tmp_path / shard_name(0, 12)
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:4")
  for number in range(10):
    writer.write(f"record {number}".encode())
  writer.close()
  return path


def test_records_are_read_in_any_order_also_by_a_copy(path):
  opened = RecordFile(path, "make it again")
  for reader in (opened, pickle.loads(pickle.dumps(opened))):
    assert len(reader) == 10
    assert reader.read_bytes(7, 9) == [b"record 7", b"record 8"]
    assert reader.read_bytes(0, 1) == [b"record 0"]
    assert reader.read_bytes(3, 3) == []
  with pytest.raises(IndexError, match="records 9 to 11 of 10"):
    opened.read_bytes(9, 11)


def test_a_copy_of_a_reader_misses_a_file_that_is_gone(path):
  packed = pickle.dumps(RecordFile(path, "make it again"))
  path.unlink()
  with pytest.raises(InputError, match=rf"{path}: the shard is missing; make it again"):
    pickle.loads(packed)


def test_another_number_of_records_is_told(path):
  reader = RecordFile(path, "make it again")
  reader.require_length(10)
  with pytest.raises(InputError, match=rf"{path}: .*holds 10 records, not 11; make it again"):
    reader.require_length(11)


def test_a_file_must_have_its_size(path):
  size = path.stat().st_size
  require_whole(path, size, "copy it again")
  with pytest.raises(InputError, match=rf"{path}: has {size} bytes, was {size + 1}; copy it again"):
    require_whole(path, size + 1, "copy it again")


@pytest.mark.parametrize(
  ("data", "told"),
  [
    (b"{", "not JSON"),
    (b"[]", "not a JSON object; make it again"),
    (b"{}", "schema_version None, this program reads 2; make it again"),
  ],
)
def test_a_version_must_be_known(tmp_path, data, told):
  with pytest.raises(InputError, match=rf"{tmp_path}: {told}"):
    decode_versioned(tmp_path, data, 2, "make it again")


def test_a_known_version_is_taken_off(tmp_path):
  data = json.dumps({"schema_version": 2, "shards": []}).encode()
  assert decode_versioned(tmp_path, data, 2, "make it again") == {"shards": []}
