"""Ablation: KL(student ‖ teacher), the paper's formula; its code has KL(teacher ‖ student)."""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  for teacher in config.objective.teachers:
    teacher["direction"] = "reverse"
  return config
