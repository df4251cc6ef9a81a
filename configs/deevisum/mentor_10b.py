"""DEEVISum's mentor: PaliGemma 2 10B, CE + 0.5 KL to the teacher. Options: see common.py."""

from ml_collections import ConfigDict

from configs.deevisum import common


def get_config(arg: str = "") -> ConfigDict:
  return common.stage("10b", exits=(42,), taught_by=("teacher",), arg=arg)
