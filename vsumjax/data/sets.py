"""The data sets of a run: their videos by split, in a row, and how training mixes them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

from vsumjax.data.augment import AugmentConfig
from vsumjax.data.manifest import load_manifest
from vsumjax.data.reading import INPUTS
from vsumjax.data.videos import Manifest, Video
from vsumjax.types import InputError

_MOST_WEIGHT = 10_000  # rows of the block in which proportions are exact

LABELLED_TARGETS = ("histogram", "hard")
GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class DataSet:
  """One of the sets of videos that are mixed.

  Attributes:
    manifest: path of a manifest, of a folder of prepared shards or of a built TFDS data set.
    weight: its share of the training examples is its weight over the sum of all weights. A set of
      weight 0 is not trained on, but cached for those that are taught.
  """

  manifest: str
  weight: int = 1

  def __post_init__(self):
    if self.weight < 0:
      raise InputError(f"data.sets: the weight of {self.manifest} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which videos, and how they are fed.

  Attributes:
    sets: the data sets; evaluation and caching read one after the other, training mixes them.
    train_split, validation_split, test_split: names of their splits.
    targets: `histogram` (share of annotators at each level) or `hard` (their rounded mean).
    without: inputs the model is not given: `frames`, `sound`, `text`.
    augment: random changes of the frames in training.
    num_workers: processes that make batches, 0 for none beside this one.
    num_threads: threads that make batches, in each of them.
    cache_bytes: decoded frames and texts of a split that are kept on this machine's disk, at most.
  """

  sets: tuple[DataSet, ...]
  train_split: str = "train"
  validation_split: str = "validation"
  test_split: str = "test"
  targets: str = "histogram"
  without: tuple[str, ...] = ()
  augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
  num_workers: int = 0
  num_threads: int = 4
  cache_bytes: int = GIB

  def __post_init__(self):
    if not self.sets:
      raise InputError("data.sets: names no data set")
    if self.targets not in LABELLED_TARGETS:
      raise InputError(
        f"data.targets: must be one of {', '.join(LABELLED_TARGETS)}, is {self.targets!r}"
      )
    for field in ("num_workers", "num_threads", "cache_bytes"):
      if getattr(self, field) < 0:
        raise InputError(f"data.{field}: must be 0 or more, is {getattr(self, field)}")
    weights = [each.weight for each in self.sets]
    if not any(weights):
      raise InputError("data.sets: all weights are 0, so there is nothing to train on")
    if sum(weights) // math.gcd(*weights) > _MOST_WEIGHT:
      raise InputError(f"data.sets: the weights {weights} need a sum of at most {_MOST_WEIGHT}")
    for name in self.without:
      if name not in INPUTS:
        raise InputError(f"data.without: must be of {', '.join(INPUTS)}, holds {name!r}")


class DataSets:
  """Several data sets as one.

  Attributes:
    digest: blake2b-16 hex over all manifests; that of the only one where there is only one.
  """

  def __init__(self, sets: Sequence[DataSet]):
    """Reads the manifests; InputError for a bad one."""
    self._sets = tuple(sets)
    self._manifests: tuple[Manifest, ...] = tuple(load_manifest(each.manifest) for each in sets)
    digests = [manifest.digest for manifest in self._manifests]
    self.digest = digests[0]
    if len(digests) > 1:
      self.digest = hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()

  @property
  def splits(self) -> frozenset[str]:
    """The splits that any of the sets has."""
    return frozenset(split for manifest in self._manifests for split in manifest.splits)

  def videos(self, split: str) -> tuple[Video, ...]:
    """The videos of a split, set after set. InputError if no set has it."""
    having = [manifest for manifest in self._manifests if split in manifest.splits]
    return tuple(v for manifest in having or self._manifests for v in manifest.of_split(split))

  def mixed(self, split: str) -> tuple[tuple[int, int], ...]:
    """(number of videos, weight) of each set, in their order, as training mixes them.

    Raises:
      InputError: a set without the split.
    """
    return tuple(
      (len(manifest.of_split(split)), each.weight)
      for each, manifest in zip(self._sets, self._manifests, strict=True)
    )
