"""The student at full size, all of it trained: 224 pixels, 256 image and 256 text tokens a row.

What `docs/tpu.md` reports, and a start for runs on a pod. Options, as
`configs/tpu/student_3b.py:rows=256,root=runs/x`: `rows` of a batch and those of
`configs/deevisum/common.py`.
"""

from ml_collections import ConfigDict

from configs.deevisum import student_3b


def get_config(arg: str = "") -> ConfigDict:
  pairs = [pair for pair in arg.split(",") if pair]
  rows = [pair.removeprefix("rows=") for pair in pairs if pair.startswith("rows=")]
  config = student_3b.get_config(",".join(p for p in pairs if not p.startswith("rows=")))
  config.train.batch_size = int(rows[-1]) if rows else 128
  config.model.quantize = ""
  config.model.param_dtype = "float32"
  config.model.dtype = "bfloat16"
  config.model.remat = False
  config.model.lora = {"rank": 0}
  return config
