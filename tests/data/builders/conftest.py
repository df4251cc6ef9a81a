"""The authors' own files, where they are at hand; building into a folder of the test."""

import pathlib

import pytest

from vsumjax.data.builders import stored

SHARED = pathlib.Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session")
def authors_data():
  """The folder of the authors' files and of tvsum.h5 and summe.h5."""
  if not SHARED.is_dir():
    pytest.skip("the annotations of ../shared/data are not here")
  return SHARED


@pytest.fixture
def manual_dir(tmp_path):
  folder = tmp_path / "manual"
  folder.mkdir()
  return folder


@pytest.fixture
def build(tmp_path, manual_dir):
  """`build(Tvsum)` builds from `manual_dir` and returns the folder of the version."""

  def run(builder, config=None):
    path, is_new = stored.build(builder, manual_dir, tmp_path / "data", config=config)
    assert is_new
    return path

  return run


@pytest.fixture
def build_examples(build):
  """`build_examples(Tvsum)` builds and reads back: a list of examples."""

  def run(builder, config=None):
    return [example for _, example in stored.read_examples(build(builder, config))]

  return run
