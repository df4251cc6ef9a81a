"""The whole chain, 28B -> 10B -> 3B: for launch/chain.py. Options: see common.py."""

from ml_collections import ConfigDict

from configs import chains
from configs.deevisum import common

CONFIGS = {"teacher": "teacher_28b", "mentor": "mentor_10b", "student": "student_3b"}


def get_chain(arg: str = "") -> ConfigDict:
  files = {name: f"configs/deevisum/{config}.py:{arg}" for name, config in CONFIGS.items()}
  return chains.chain(common.parse(arg)["root"], files)
