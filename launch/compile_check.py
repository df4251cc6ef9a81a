"""Compiles a config's program for a TPU slice on this machine: memory, predicted time, MFU.

python launch/compile_check.py --config configs/tpu/student_3b.py --topology v5e:4x4
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["compile-check", *sys.argv[1:]]))
