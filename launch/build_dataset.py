"""Builds a data set from its authors' files, or a manifest of a folder of videos.

python launch/build_dataset.py tvsum --manual-dir downloads/ydata-tvsum50-v1_1 --data-dir data
python launch/build_dataset.py folder --videos my_videos --out my_videos/manifest.jsonl
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["build-dataset", *sys.argv[1:]]))
