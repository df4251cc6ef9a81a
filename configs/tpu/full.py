"""A stage of DEEVISum's chain with all of its parameters trained, in place of adapters on int4."""

from collections.abc import Callable

from ml_collections import ConfigDict


def train_all(
  get_config: Callable[[str], ConfigDict], arg: str, rows: int, vmem: int = 0
) -> ConfigDict:
  """The stage with bfloat16 activations and float32 parameters.

  arg: options of the stage, with `rows` and `vmem` beside them.
  rows: of a batch. vmem: KiB of a TPU's VMEM that the tiles of one operation may take; 0 leaves it
    to the compiler.
  """
  own, pairs = {"rows": rows, "vmem": vmem}, []
  for pair in filter(None, arg.split(",")):
    name, _, value = pair.partition("=")
    if name in own:
      own[name] = int(value)
    else:
      pairs.append(pair)
  config = get_config(",".join(pairs))
  config.train.batch_size = own["rows"]
  config.model.quantize = ""
  config.model.param_dtype = "float32"
  config.model.dtype = "bfloat16"
  config.model.lora = {"rank": 0}
  if own["vmem"]:
    config.compiler_options = (f"xla_tpu_scoped_vmem_limit_kib={own['vmem']}",)
  return config
