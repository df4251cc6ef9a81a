"""Ablation: a loss of the order of segments beside that of their levels."""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  config.objective.ranking_weight = 1.0
  return config
