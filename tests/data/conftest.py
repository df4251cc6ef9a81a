"""Three short videos and a source of their windows."""

import pytest
import three_videos

from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.data.windows import WindowSource


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
  """The folder that `three_videos.write_videos` filled."""
  folder = tmp_path_factory.mktemp("three_videos")
  three_videos.write_videos(folder)
  return folder


@pytest.fixture(scope="session")
def tokenizer(folder):
  return load_tokenizer(folder / "t.model")


@pytest.fixture(scope="session")
def videos(folder):
  return three_videos.labelled_videos(folder)


@pytest.fixture(scope="session")
def source(videos, tokenizer):
  return WindowSource(videos, three_videos.CONFIG, tokenizer, targets="histogram")
