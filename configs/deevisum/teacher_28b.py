"""DEEVISum's teacher: PaliGemma 2 28B, by cross entropy alone. Options: see common.py."""

from ml_collections import ConfigDict

from configs.deevisum import common


def get_config(arg: str = "") -> ConfigDict:
  return common.stage("28b", exits=(46,), taught_by=(), arg=arg)
