"""Every command of README.md is run, in its order, on a small corpus and small models."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jax
import pytest
from evaluation_files import write_evaluation_files

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [
  line
  for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
  for line in block.splitlines()
  if line.strip()
] + re.findall(r"\| `(\.venv/bin/[^`]+)` \|", README)
# The demo's own config with fewer layers and steps.
SMALL = (
  "config.train.update(num_steps=2, batch_size=4, checkpoint_every=2, eval_every=2, log_every=1)",
  "config.model.llm.update(depth=1, vocab_size=1024)",
  "config.model.exits.layers = (1,)",
  "config.objective.exit_weights = (1.0,)",
)
# Instead of 5 folds, 3 seeds and hundreds of steps.
FEW_TRAININGS = [
  "--num-folds",
  "2",
  "--seeds",
  "0",
  "--config.train.num_steps=6",
  "--config.train.eval_every=3",
]


@pytest.fixture(scope="module")
def folder(corpus, write_small_demo, tmp_path_factory):
  """A working folder as the README's commands expect it, before the first of them."""
  folder = tmp_path_factory.mktemp("readme")
  (folder / "configs").mkdir()
  write_small_demo(folder / "configs" / "demo.py", *SMALL)
  shutil.copy(ROOT / "configs" / "tvsum_text.py", folder / "configs")
  write_evaluation_files(folder)
  demo = folder / "runs" / "demo"
  shutil.copytree(corpus, demo / "corpus")
  shutil.copy(corpus / "tokenizer.model", demo / "tokenizer.model")
  shutil.copy(corpus / "media" / "test_000.mp4", folder / "talk.mp4")
  (folder / "my_videos").mkdir()
  shutil.copy(corpus / "media" / "test_001.mp4", folder / "my_videos" / "talk_2.mp4")
  return folder


def _is_last(command):
  """What needs the student comes after the chain that makes it, wherever the README tells of it."""
  return "runs/demo/student" in command and "train.py" not in command


def test_the_commands_run(folder, run_cli, monkeypatch):
  assert len(COMMANDS) >= 20
  one = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda: one)
  monkeypatch.chdir(folder)
  for command in sorted(COMMANDS, key=_is_last):
    program, *arguments = shlex.split(command, comments=True)
    if program == "make":
      dry = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True)
      assert dry.returncode == 0, dry.stderr
      continue
    if program == ".venv/bin/python":
      script, *arguments = arguments
      assert (ROOT / script).is_file()
      arguments = [Path(script).stem.replace("_", "-"), *arguments]
    else:
      assert program == ".venv/bin/vsumjax"
    if arguments[:2] == ["evaluate", "folds"]:
      arguments += FEW_TRAININGS
    status, _, err = run_cli(*arguments)
    assert status == 0, f"{command}: {err}"
  for result in ("summary.mp4", "index.html", "storyboard.png", "timeline.png", "scores.json"):
    assert (folder / "summary" / "talk" / result).stat().st_size > 0
  for result in ("demo/without_sound", "rescored", "text/folds"):
    assert (folder / "runs" / result / "evaluation.json").is_file()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(path):
  assert (ROOT / path).exists()
