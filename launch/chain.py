"""Trains a whole chain of distillation, stage after stage, skipping what is finished.

python launch/chain.py --config configs/demo.py:root=runs/demo
python launch/chain.py --config configs/deevisum/chain.py:root=runs/deevisum --distributed
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["chain", *sys.argv[1:]]))
