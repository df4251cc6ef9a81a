"""Writes and seals a small cache, or is killed before its N-th file operation there.

`killed_writer.py FOLDER N`; with N = 0 it ends by itself and prints how many operations there were.
"""

import os
import signal
import sys

from test_teacher_cache import make_cache

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove")

if __name__ == "__main__":
  folder, last = sys.argv[1], int(sys.argv[2])
  count = 0

  def watch(event, args):
    global count
    if event in OPERATIONS and any(str(arg).startswith(folder) for arg in args):
      count += 1
      if count == last:
        os.kill(os.getpid(), signal.SIGKILL)

  sys.addaudithook(watch)
  make_cache(folder)
  print(count)
