"""The real clips, where they are at hand."""

import pathlib

import pytest

CLIPS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "clips"


@pytest.fixture
def clips():
  """The folder of real clips."""
  if not CLIPS.is_dir():
    pytest.skip("the real clips of ../shared/data/clips are not here")
  return CLIPS
