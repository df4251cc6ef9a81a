"""Ablation: multi-stage distillation (MSKD) of a student without early exits."""

from ml_collections import ConfigDict

from configs.deevisum import common


def get_config(arg: str = "") -> ConfigDict:
  return common.stage("3b", exits=(26,), taught_by=("mentor", "teacher"), arg=arg)
