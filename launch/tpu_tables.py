"""Compiles every full-size config for TPU slices and writes the table of docs/tpu.md.

python launch/tpu_tables.py
"""

import sys
from pathlib import Path

from vsumjax import cli


def main() -> None:
  import jax

  jax.config.update("jax_platforms", "cpu")  # what compiles runs nowhere
  from vsumjax.studies.tpu_tables import tpu_tables

  tpu_tables(Path("docs/tpu.md"))


if __name__ == "__main__":
  sys.exit(cli.report("tpu-tables", main))
