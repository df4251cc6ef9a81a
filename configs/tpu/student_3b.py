"""The student at full size, all of it trained: 224 pixels, 256 image and 256 text tokens a row.

Options, as `configs/tpu/student_3b.py:rows=256,root=runs/x`: `rows` of a batch (176, the most that fit a v5e:4x4), and those of
`configs/deevisum/common.py`.
"""

from ml_collections import ConfigDict

from configs.deevisum import student_3b
from configs.tpu import full


def get_config(arg: str = "") -> ConfigDict:
  config = full.train_all(student_3b.get_config, arg, rows=176)
  config.model.remat = False  # matmul results are kept: the fastest where they fit
  # Larger tiles of products, of the 128 MiB of VMEM of v5e and v6e.
  config.compiler_options = ("xla_tpu_scoped_vmem_limit_kib=40960",)
  return config
