"""Writes a trained model's score logits to a cache that other stages distil from.

python launch/cache_teacher.py --checkpoint runs/demo/teacher --out runs/demo/teacher_cache
python launch/cache_teacher.py --checkpoint DIR --out DIR --verify
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["cache-teacher", *sys.argv[1:]]))
