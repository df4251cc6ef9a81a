import h5py
import numpy as np
import pytest

from vsumjax.host import hdf5
from vsumjax.types import InputError


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "a.h5"
  with h5py.File(path, "w") as file:
    file["group/x"] = [1, 2]
    file["name"] = "Žižkov"
    file["bytes"] = np.bytes_(b"\xff\xfe")
  return path


def test_arrays_are_read_whole_and_named(path):
  with hdf5.open_file(path) as file:
    np.testing.assert_array_equal(hdf5.read(path, file["group"], "x"), [1, 2])
    with pytest.raises(InputError, match=r"a\.h5: group/y: there is no such key"):
      hdf5.read(path, file["group"], "y")
    with pytest.raises(InputError, match=r"a\.h5: group: is a group, expected an array"):
      hdf5.read(path, file, "group")


def test_texts_are_read_and_what_is_none_is_told(path):
  with hdf5.open_file(path) as file:
    assert hdf5.read_text(path, file, "name") == "Žižkov"
    for key in ("group/x", "bytes"):
      with pytest.raises(InputError, match=rf"a\.h5: {key}: must be one text"):
        hdf5.read_text(path, file, key)
    with pytest.raises(InputError, match=r"a\.h5: title: there is no such key"):
      hdf5.read_text(path, file, "title")


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_what_is_no_whole_file_is_told(path, share):
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with (
    pytest.raises(InputError, match=r"a\.h5: not an HDF5 file, or a cut one"),
    hdf5.open_file(path),
  ):
    pass


def test_damage_that_only_reading_finds_is_told(path):
  with (
    pytest.raises(
      InputError, match=r"a\.h5: damaged \(.*object 'y' doesn't exist.*\); get or write"
    ),
    hdf5.open_file(path) as file,
  ):
    file["group"]["y"]


def test_a_name_that_is_no_text_is_told(path):
  with h5py.File(path, "w") as file:
    file.create_group("group").create_dataset(b"\xff", data=1)
  with (
    pytest.raises(InputError, match=r"a\.h5: group/b'\\xff': the name is not UTF-8"),
    hdf5.open_file(path) as file,
  ):
    hdf5.names(path, file["group"])


def test_numbers_sort_as_numbers():
  assert sorted(["video_10", "video_2", "a", "video_1"], key=hdf5.number_last) == [
    "a",
    "video_1",
    "video_2",
    "video_10",
  ]
