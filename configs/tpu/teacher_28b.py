"""The teacher at full size, all of it trained. Options as of `student_3b.py`; 64 rows, `vmem` 0."""

from ml_collections import ConfigDict

from configs.deevisum import teacher_28b
from configs.tpu import full


def get_config(arg: str = "") -> ConfigDict:
  config = full.train_all(teacher_28b.get_config, arg, rows=64)
  config.model.remat = True
  return config
