"""DEEVISum's student: PaliGemma 2 3B with exits, CE + 0.5 KL to the mentor + 0.5 KL to the teacher.

Options: see common.py.
"""

from ml_collections import ConfigDict

from configs.deevisum import common


def get_config(arg: str = "") -> ConfigDict:
  # Exits after layers 4, 8, 12 are those of the published code.
  config = common.stage("3b", exits=(4, 8, 12, 26), taught_by=("mentor", "teacher"), arg=arg)
  # Paper: prototypes are learned with the model; how much they weigh is not said.
  config.model.exits.prototypes = True
  config.objective.prototype_weight = 0.1
  return config
