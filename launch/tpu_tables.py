"""Compiles every full-size config for TPU slices and writes the table of docs/tpu.md.

python launch/tpu_tables.py
"""

import argparse
import sys
from pathlib import Path

from vsumjax import cli


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--doc", type=Path, default=Path("docs/tpu.md"), help="(docs/tpu.md)")
  args = parser.parse_args()

  def run() -> None:
    import jax

    jax.config.update("jax_platforms", "cpu")  # what compiles runs nowhere
    from vsumjax.studies.tpu_tables import tpu_tables

    tpu_tables(args.doc)

  return cli.report("tpu-tables", run)


if __name__ == "__main__":
  sys.exit(main())
