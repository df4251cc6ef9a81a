"""Measures what this library does: model_step (beside other libraries), loader, cache and more.

python launch/benchmark.py model_step --out benchmark.json
python launch/benchmark.py cache
BIG_VISION=../big_vision python launch/benchmark.py model_step --only ours big_vision
python launch/benchmark.py big_vision --source ../big_vision --topology v5e:4x4
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["benchmark", *sys.argv[1:]]))
