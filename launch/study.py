"""Runs the demo's chain for several seeds, with and without distillation (`make study`).

python launch/study.py --root runs/study
"""

import argparse
import sys
from pathlib import Path

from vsumjax import cli

CONFIG = Path(__file__).parent.parent / "configs" / "demo.py"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--root", type=Path, default=Path("runs/study"), help="folder of the results")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  args = parser.parse_args()

  def run() -> None:
    from vsumjax.studies.study import run_study

    run_study(CONFIG, args.root, args.seeds)

  return cli.report("study", run)


if __name__ == "__main__":
  sys.exit(main())
