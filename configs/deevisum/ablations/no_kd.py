"""Ablation: the student with its exits, by cross entropy alone."""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  config.objective.teachers = ()
  return config
