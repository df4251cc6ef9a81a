"""Times a forward pass and a train step beside transformers and big_vision, on the CPU.

python launch/benchmark.py model_step --out benchmark.json
BIG_VISION=../big_vision python launch/benchmark.py model_step --only ours big_vision
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["benchmark", *sys.argv[1:]]))
