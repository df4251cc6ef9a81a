"""Measures a model, scores, folds of a benchmark, captions, retrieval or answers.

python launch/evaluate.py model runs/demo/student --out runs/demo/evaluation
python launch/evaluate.py scores FILE --benchmark tvsum --protocol all
python launch/evaluate.py folds --config CONFIG --manifest FILE --benchmark tvsum \
    --out DIR
python launch/evaluate.py captions FILE --references FILE
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
