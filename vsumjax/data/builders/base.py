"""What the TFDS builders share: where they look, what every example says, how they are described.

Every example of every builder has these features; a builder adds its own.

  video_id    the authors' name of the video
  title       as the authors give it, "" where they don't
  media       path of the video in the builder's manual_dir, "" where the user has no video
  num_frames  frames that are annotated
  fps         frames a second; frame n is on screen from n / fps on
  length_s    seconds, as the authors state it
"""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vsumjax.media.names import is_video_name
from vsumjax.types import InputError

SPLIT = "train"
MANUAL_DIR = "manual_dir"  # the key of the builders' metadata that `media` is relative to


@dataclasses.dataclass(frozen=True)
class Card:
  """What a data set is, as its page in docs/datasets.md says at more length."""

  description: str
  citation: str
  homepage: str
  license: str


class _LocalInfo(tfds.core.DatasetInfo):
  """Of a data set that no bucket of TFDS knows."""

  def initialize_from_bucket(self) -> None:
    """Does nothing; TFDS would make a temporary folder and leave it."""


class AnnotationBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC, skip_registration=True):
  """A builder from the files that a user put in `manual_dir`.

  There is one split, `train`, which TFDS calls the only split of a data set; the folds of an
  evaluation are the protocol's matter. Examples stay in the order of the authors, so that example n
  is `video_{n + 1}` of the published splits.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012  (as TFDS declares it)
  CARD: Card

  @property
  @abc.abstractmethod
  def own_features(self) -> dict[str, Any]:
    """The features that not every builder has."""

  @abc.abstractmethod
  def examples(self, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The examples that the authors' files in `folder` make, without `media`.

    Raises:
      InputError: naming the file, and the key in it.
    """

  def media_names(self, example: Mapping[str, Any]) -> tuple[str, ...]:
    """What the video's file may be called, without suffix."""
    return (example["video_id"],)

  def _info(self) -> tfds.core.DatasetInfo:
    common = {
      "video_id": tfds.features.Text(),
      "title": tfds.features.Text(),
      "media": tfds.features.Text(),
      "num_frames": np.int32,
      "fps": exact_array(np.float64),
      "length_s": exact_array(np.float64),
    }
    return _LocalInfo(
      builder=self,
      description=self.CARD.description,
      citation=self.CARD.citation,
      homepage=self.CARD.homepage,
      license=self.CARD.license,
      features=tfds.features.FeaturesDict(common | self.own_features),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    try:
      folder = pathlib.Path(dl_manager.manual_dir)
    except AssertionError as error:  # not there, or empty
      lines = " ".join(str(error).split())
      raise InputError(f"{self.name}: {lines}") from None
    self.info.metadata[MANUAL_DIR] = str(folder.resolve())
    return {SPLIT: self._generate_examples(folder)}

  def _generate_examples(self, folder: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    videos = index_videos(folder)
    for index, example in enumerate(self.examples(folder)):
      found = (videos[name] for name in self.media_names(example) if name in videos)
      yield index, example | {"media": next(found, "")}


def exact_array(dtype: type, *shape: int | None) -> tfds.features.Tensor:
  """A compressed array; None is a length that differs from video to video.

  Without an encoding of its own, TFDS keeps a float64 as a float32.
  """
  return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.ZLIB)


def index_videos(folder: pathlib.Path) -> dict[str, str]:
  """The video files in a folder and below: {name without suffix: path in the folder}."""
  found = (file for file in folder.rglob("*") if is_video_name(file.name) and file.is_file())
  return {
    file.stem: file.relative_to(folder).as_posix()
    for file in sorted(found, reverse=True)  # of two that are named alike, the first stays
  }


def find_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The file of that name in a folder or below it, as an unpacked archive may have it."""
  return next((file for file in sorted(folder.rglob(name)) if file.is_file()), None)
