"""Trains one stage, or resumes it.

python launch/train.py --config configs/demo.py:teacher --workdir runs/demo/teacher
python launch/train.py --config configs/demo.py:teacher --workdir DIR --config.train.seed=3
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["train", *sys.argv[1:]]))
