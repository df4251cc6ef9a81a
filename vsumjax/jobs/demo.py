"""The whole path on a corpus made on the spot: corpus, tokenizer, chain, evaluation, summary."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from vsumjax.data import prompt, tokenizer
from vsumjax.data.made import corpora
from vsumjax.data.manifest import load_manifest
from vsumjax.data.videos import Manifest
from vsumjax.experiment.config import load_chain
from vsumjax.host.progress import progress
from vsumjax.jobs.chain import heading, run_chain
from vsumjax.jobs.evaluate import Evaluation, evaluate
from vsumjax.jobs.summarize import summarize
from vsumjax.media import audio, subtitles

_VOCAB_SIZE, _NUM_MARKERS = 1024, 16


def chain_spec(config_file: Path, root: Path, corpus: Path, seed: int) -> str:
  """What `load_chain` takes for a chain in `root` on the corpus that `make_corpus` left."""
  return f"{config_file}:root={root},corpus={corpus},seed={seed}"


def make_corpus(root: Path, config: corpora.CorpusConfig) -> Manifest:
  """Videos, transcripts and labels in root/corpus, and a tokenizer of their words in root."""
  with progress("make videos") as update:
    manifest = load_manifest(corpora.make_corpus(root / "corpus", config, update))
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
      yield from (cue.text for cue in subtitles.load_transcript(video.transcript))


def run_demo(config_file: Path, root: Path, seed: int) -> Evaluation:
  """Runs every stage that is not finished; prints the scores and where the results lie."""
  started = time.monotonic()
  heading("1/4 a corpus of videos with sound, words and 20 annotators", started)
  make_corpus(root, corpora.CorpusConfig())
  heading("2/4 a chain of distillation: teacher, mentor, student", started)
  run_chain(load_chain(chain_spec(config_file, root, root, seed)))
  heading("3/4 held-out videos", started)
  result = evaluate(root / "student", root / "evaluation")
  heading("4/4 a summary of a held-out video", started)
  video = load_manifest(root / "corpus" / "manifest.jsonl").of_split("test")[0]
  summarize(
    video.media, root / "student", root / "summary", title=video.title, transcript=video.transcript
  )
  heading("done", started)
  print(
    f"scores:   {root / 'evaluation' / 'evaluation.json'}\n"
    f"summary:  {root / 'summary' / 'index.html'}\n"
    f"student:  {root / 'student'}\n"
    f"try:      .venv/bin/vsumjax summarize YOUR_VIDEO.mp4 --checkpoint {root / 'student'} "
    "--out YOUR_FOLDER"
  )
  return result
