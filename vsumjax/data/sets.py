"""The data sets of a run: their videos by split, in a row, and how training mixes them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from vsumjax.data.manifest import load_manifest
from vsumjax.data.order import MixedOrder, Part
from vsumjax.data.videos import Manifest, Video
from vsumjax.data.windows import WindowSource
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class DataSet:
  """One of the sets of videos that are mixed.

  Attributes:
    manifest: path of a manifest, of a folder of prepared shards or of a built TFDS data set.
    weight: its share of the training examples is its weight over the sum of all weights.
  """

  manifest: str
  weight: int = 1

  def __post_init__(self):
    if self.weight < 1:
      raise InputError(f"data.sets: the weight of {self.manifest} must be 1 or more")


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

  def order(self, source: WindowSource, split: str, seed: int) -> MixedOrder:
    """The order of training on `source`, which is made of `videos(split)`: mixed by weight.

    Raises:
      InputError: a set without the split.
    """
    parts, end = [], 0
    for each, manifest in zip(self._sets, self._manifests, strict=True):
      start, end = end, end + len(manifest.of_split(split))
      num_examples = source.examples_of(end - 1).stop - source.examples_of(start).start
      parts.append(Part(num_examples, each.weight))
    return MixedOrder(parts, seed)
