"""Ablation: the last exit teaches the earlier ones too, beside mentor and teacher."""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  config = student_3b.get_config(arg)
  config.objective.self_distillation = {"weight": 0.5, "temperature": 2.0, "direction": "forward"}
  return config
