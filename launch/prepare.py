r"""Turns videos into shards of coded frames, sound and text, so that training decodes no video.

python launch/prepare.py --manifest videos.jsonl --out prepared --config configs/demo.py:student
python launch/prepare.py --manifest videos.jsonl --out gs://bucket/prepared \
  --config configs/demo.py:student --runner DataflowRunner -- --project=P --region=R
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["prepare", *sys.argv[1:]]))
