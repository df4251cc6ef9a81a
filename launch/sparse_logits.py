"""Compares students taught by full distributions and by a few cached entries a token.

python launch/sparse_logits.py --out runs/sparse_logits
"""

import argparse
import sys
from pathlib import Path

from vsumjax import cli


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--out", type=Path, default=Path("runs/sparse_logits"), help="folder of the results"
  )
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  args = parser.parse_args()

  def run() -> None:
    from vsumjax.studies.sparse_logits import Settings, run_study

    run_study(args.out, Settings(), args.seeds)

  return cli.report("sparse_logits", run)


if __name__ == "__main__":
  sys.exit(main())
