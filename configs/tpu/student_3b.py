"""The student at full size, all of it trained: 224 pixels, 256 image and 256 text tokens a row.

Options, as `configs/tpu/student_3b.py:rows=256,root=runs/x`: `rows` of a batch (176, the most that
fit a v5e:4x4), `vmem` (40960; see `full.py`; 0 on v4 and v5p), and those of
`configs/deevisum/common.py`.
"""

from ml_collections import ConfigDict

from configs.deevisum import student_3b
from configs.tpu import full


def get_config(arg: str = "") -> ConfigDict:
  config = full.train_all(student_3b.get_config, arg, rows=176, vmem=40960)
  config.model.remat = False  # matmul results are kept: the fastest where they fit
  return config
