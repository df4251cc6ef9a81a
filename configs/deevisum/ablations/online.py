"""Ablation: teacher and mentor run in every step, as in the published code, instead of caches."""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  for teacher in config.objective.teachers:
    teacher["cache"] = ""
  return config
