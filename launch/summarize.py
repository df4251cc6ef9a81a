"""Summarises a video file: mp4 with sound, scores.json, storyboard and an HTML page.

python launch/summarize.py --video talk.mp4 --checkpoint runs/demo/student --out summary/talk
"""

import sys

from vsumjax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["summarize", *sys.argv[1:]]))
