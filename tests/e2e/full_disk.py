"""Trains on a disk that is too small, then on a larger one: `full_disk.py CONFIG WORKDIR BYTES`.

To be run where it may mount: `unshare --map-root-user --mount`. What happened goes to stdout as
JSON.
"""

import json
import subprocess
import sys
from pathlib import Path

from launched import ROOT, result


def _launch(config, workdir):
  command = [sys.executable, ROOT / "launch" / "train.py", "--config", config, "--workdir", workdir]
  done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240)
  return {"status": done.returncode, "err": done.stderr, "checkpoints": _steps(workdir)}


def _steps(workdir):
  return sorted(
    int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
  )


if __name__ == "__main__":
  config, workdir, num_bytes = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
  mount = ["mount", "-t", "tmpfs", "tmpfs", str(workdir)]
  subprocess.run([*mount, "-o", f"size={num_bytes}"], check=True)
  full = _launch(config, workdir)
  subprocess.run([*mount, "-o", "remount,size=256M"], check=True)
  enough = _launch(config, workdir)
  print(json.dumps({"full": full, "enough": enough, "result": result(workdir)}))
