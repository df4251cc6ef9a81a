"""Shows a training batch as a person would want to see it.

python launch/inspect.py data --config configs/demo.py:student --out runs/demo/batch
"""

import importlib
import pathlib
import sys

if __name__ == "__main__":
  from vsumjax import cli

  sys.exit(cli.main(["inspect", *sys.argv[1:]]))
else:
  # Python looks for modules in a script's own folder first, so that whoever imports the standard
  # library's `inspect` below a script of this folder finds this file. It shall get the other one.
  path, here = sys.path.copy(), pathlib.Path(__file__).parent.resolve()
  sys.path[:] = [folder for folder in path if pathlib.Path(folder).resolve() != here]
  del sys.modules[__name__]
  importlib.import_module(__name__)
  sys.path[:] = path
