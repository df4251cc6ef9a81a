"""The whole path on a corpus made on the spot: corpus, tokenizer, chain, evaluation, summary."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import rich.console
import rich.rule

from vsumjax.config import load_config
from vsumjax.data import audio, fake, prompt, tokenizer, transcript
from vsumjax.data.manifest import Manifest, load_manifest
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.evaluate import Evaluation, evaluate
from vsumjax.jobs.summarize import summarize
from vsumjax.jobs.train import train
from vsumjax.progress import progress

_VOCAB_SIZE, _NUM_MARKERS = 1024, 16


@dataclasses.dataclass(frozen=True)
class Chain:
  """Where the stages of one chain lie and which config they take.

  config_file: with `get_config("stage,key=value,...")`, as configs/demo.py.
  root: folder of the chain, with a workdir and a cache for each stage.
  corpus: folder with corpus/ and tokenizer.model; see `make_corpus`.
  """

  config_file: Path
  root: Path
  corpus: Path
  seed: int = 0

  def config(self, stage: str, **options: str) -> str:
    """What `--config` takes for a stage."""
    pairs = {"root": self.root, "corpus": self.corpus, "seed": self.seed} | options
    return f"{self.config_file}:{stage}," + ",".join(f"{k}={v}" for k, v in pairs.items())

  def train(self, stage: str, workdir: str = "", **options: str) -> Path:
    return train(load_config(self.config(stage, **options)), self.root / (workdir or stage))

  def cache(self, stage: str) -> Path:
    return cache_teacher(self.root / stage, self.root / f"{stage}_cache")


def make_corpus(root: Path, config: fake.FakeConfig) -> Manifest:
  """Videos, transcripts and labels in root/corpus, and a tokenizer of their words in root."""
  with progress("make videos") as update:
    manifest = load_manifest(fake.make_corpus(root / "corpus", config, update))
  path = root / "tokenizer.model"
  if not path.exists():
    tokenizer.train_tokenizer(_texts(manifest), path, _VOCAB_SIZE, _NUM_MARKERS)
  return manifest


def _texts(manifest: Manifest) -> Iterable[str]:
  """Every text a prompt of the training split is made of."""
  yield prompt.TEMPLATE
  yield from audio.PHRASES
  for video in manifest.of_split("train"):
    yield video.title
    if video.transcript is not None:
      yield from (cue.text for cue in transcript.load_transcript(video.transcript))


def run_demo(config_file: Path, root: Path, seed: int) -> Evaluation:
  """Runs every stage that is not finished; prints the scores and where the results lie."""
  chain = Chain(config_file, root, root, seed)
  started = time.monotonic()
  stages: dict[str, Callable[[], object]] = {
    "a corpus of videos with sound, words and 20 annotators": lambda: make_corpus(
      root, fake.FakeConfig()
    ),
    "teacher: cross entropy": lambda: chain.train("teacher"),
    "cache of the teacher's logits": lambda: chain.cache("teacher"),
    "mentor: cross entropy + KL to the teacher": lambda: chain.train("mentor"),
    "cache of the mentor's logits": lambda: chain.cache("mentor"),
    "student: cross entropy + KL to both, at every exit": lambda: chain.train("student"),
  }
  for number, (what, run) in enumerate(stages.items(), start=1):
    _heading(f"{number}/8 {what}", started)
    run()
  _heading("7/8 held-out videos", started)
  result = evaluate(root / "student", root / "evaluation")
  _heading("8/8 a summary of a held-out video", started)
  video = load_manifest(root / "corpus" / "manifest.jsonl").of_split("test")[0]
  summarize(
    video.media, root / "student", root / "summary", title=video.title, transcript=video.transcript
  )
  _heading("done", started)
  print(
    f"scores:   {root / 'evaluation' / 'evaluation.json'}\n"
    f"summary:  {root / 'summary' / 'index.html'}\n"
    f"student:  {root / 'student'}\n"
    f"try:      .venv/bin/vsumjax summarize YOUR_VIDEO.mp4 --checkpoint {root / 'student'} "
    "--out YOUR_FOLDER"
  )
  return result


def _heading(text: str, started: float) -> None:
  console = rich.console.Console(file=sys.stderr)
  console.print(rich.rule.Rule(f"{text} ({time.monotonic() - started:.0f} s)", align="left"))
