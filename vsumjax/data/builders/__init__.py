"""Builders of data sets: TVSum, SumMe and eccv16 files for TFDS, and one's own folder of videos.

Importing this package registers the first three with TFDS, so that `tfds.data_source("tvsum", ...)`
finds what `launch/build_dataset.py` built. TensorFlow is never imported.
"""

from vsumjax.data.builders.eccv16 import Eccv16
from vsumjax.data.builders.summe import Summe
from vsumjax.data.builders.tvsum import Tvsum

__all__ = ["Eccv16", "Summe", "Tvsum"]
