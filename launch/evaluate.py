"""Scores a trained model on a split, every exit, beside random, prior and human rows.

python launch/evaluate.py --checkpoint runs/demo/student --out runs/demo/evaluation
python launch/evaluate.py --checkpoint runs/demo/student --out DIR --without sound
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
