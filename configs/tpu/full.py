"""A stage of DEEVISum's chain with all of its parameters trained, in place of adapters on int4."""

from collections.abc import Callable

from ml_collections import ConfigDict


def train_all(get_config: Callable[[str], ConfigDict], arg: str, rows: int) -> ConfigDict:
  """The stage with bfloat16 activations and float32 parameters.

  arg: options of the stage, with `rows`, those of a batch, beside them. rows: its default.
  """
  pairs = [pair for pair in arg.split(",") if pair]
  given = [pair.removeprefix("rows=") for pair in pairs if pair.startswith("rows=")]
  config = get_config(",".join(pair for pair in pairs if not pair.startswith("rows=")))
  config.train.batch_size = int(given[-1]) if given else rows
  config.model.quantize = ""
  config.model.param_dtype = "float32"
  config.model.dtype = "bfloat16"
  config.model.lora = {"rank": 0}
  return config
