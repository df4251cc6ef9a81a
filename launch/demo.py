"""Distils a student on a corpus made on the spot and summarises a video with it (`make demo`).

python launch/demo.py --root runs/demo
"""

import argparse
import sys
from pathlib import Path

from vsumjax import cli

CONFIG = Path(__file__).parent.parent / "configs" / "demo.py"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--root", type=Path, default=Path("runs/demo"), help="folder of the results")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()

  def run() -> None:
    from vsumjax.jobs.demo import run_demo

    run_demo(CONFIG, args.root, args.seed)

  return cli.report("demo", run)


if __name__ == "__main__":
  sys.exit(main())
