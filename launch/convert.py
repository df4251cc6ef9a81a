"""Converts a checkpoint: big_vision npz, ours, Hugging Face, in every direction.

python launch/convert.py --from paligemma2-3b-pt-224 --to weights/paligemma2_3b
python launch/convert.py --from runs/demo/student --to export/student --format hf
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["convert", *sys.argv[1:]]))
