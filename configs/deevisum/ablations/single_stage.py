"""Ablation: distillation in one stage, from the teacher to the student with no mentor between."""

from ml_collections import ConfigDict

from configs import chains
from configs.deevisum import common, student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  config.objective.teachers = chains.teachers(common.parse(arg)["root"], ["teacher"])
  return config
