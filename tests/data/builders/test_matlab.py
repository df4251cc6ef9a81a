import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.builders import matlab
from vsumjax.host import hdf5
from vsumjax.types import InputError


@given(st.text())
def test_text_of_bytes_taken_for_units_is_read(text):
  assert matlab.text("t", np.frombuffer(text.encode(), np.uint8).astype(np.uint16)) == text


@given(st.text(st.characters(min_codepoint=256, exclude_categories=["Cs"]), min_size=1))
def test_text_of_units_is_read(text):
  units = np.frombuffer(text.encode("utf-16-le"), "<u2")
  assert matlab.text("t", units[:, None]) == text


def test_units_that_are_no_utf8_are_units():
  assert matlab.text("t", np.array([0x56, 0xF1, 0x61], np.uint16)) == "Vña"


def test_empty_text_is_read():
  assert matlab.text("t", np.zeros((0, 0), np.uint16)) == ""


def test_columns_of_different_lengths_are_told(tmp_path):
  path = tmp_path / "a.mat"
  with h5py.File(path, "w") as file:
    file["x"] = 1
    column = [file["x"].ref]
    with pytest.raises(InputError, match=r"a\.mat: t/title: has 1 cells, others have more"):
      matlab.read_cell(path, file, "t/title", column, 1)
    null = h5py.Reference()
    with pytest.raises(InputError, match=r"a\.mat: t/title: cell 1 cannot be read"):
      matlab.read_cell(path, file, "t/title", [null], 0)


def test_versions_are_told_apart(tmp_path):
  path = tmp_path / "a.mat"
  header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
  with h5py.File(path, "w", userblock_size=512) as file:
    file["x"] = 1
  path.write_bytes(header + path.read_bytes()[128:])
  with pytest.raises(InputError, match=r"a\.mat: is a MATLAB 7\.3 file, expected version 5"):
    matlab.load_matlab5(path, ["x"])
  scipy.io.savemat(path, {"x": 1})
  assert matlab.load_matlab5(path, ["x"])["x"].item() == 1
  with pytest.raises(InputError, match=r"a\.mat: not an HDF5 file"), hdf5.open_file(path):
    pass
