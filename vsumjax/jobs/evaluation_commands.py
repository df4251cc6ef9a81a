"""The command line of `evaluate`, a subcommand for each thing that is measured.

What a subcommand needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsumjax.jobs.subcommands import Option, Subcommand, add_subcommands, spell_out
from vsumjax.types import InputError

if TYPE_CHECKING:
  from vsumjax.evaluation.benchmark import AnnotatedVideo
  from vsumjax.evaluation.splits import Split

_INPUTS = ("frames", "sound", "text")


def add_evaluate(commands) -> argparse.ArgumentParser:
  """The `evaluate` command."""
  parser = commands.add_parser(
    "evaluate",
    help="evaluate a model, scores, folds, captions, retrieval or answers",
    description="Evaluates a trained model, or results in files.",
  )
  add_subcommands(parser, _SUBCOMMANDS)
  return parser


def in_subcommands(words: Sequence[str]) -> list[str]:
  """The words behind `evaluate`, with the subcommand first where an option stood for it.

      --scores a.json --benchmark b.h5      becomes      scores a.json --benchmark b.h5

  Raises:
    InputError: no such subcommand, or an option that the subcommand does not have.
  """
  return spell_out("evaluate", words, _SUBCOMMANDS)


def _evaluate_model(args: argparse.Namespace) -> None:
  from vsumjax.jobs.evaluate import evaluate

  evaluate(
    args.checkpoint,
    args.out,
    manifest=args.manifest,
    split=args.split,
    without=frozenset(args.without),
  )


def _rescore(args: argparse.Namespace) -> None:
  if args.fold is not None and args.splits is None:
    raise InputError("--fold needs --splits, the file that the fold is in")
  from vsumjax.evaluation.score_sets import find_files
  from vsumjax.jobs.rescore import rescore

  files = find_files(args.scores)
  videos = _open_benchmark(args)
  split = _open_split(args, videos) if args.splits else None
  rescore(
    files,
    videos,
    args.out,
    split=split,
    fold=args.fold,
    protocol=args.protocol,
    title=_title(args, files, videos, split),
  )


def _title(
  args: argparse.Namespace,
  files: Sequence[Path],
  videos: Sequence[AnnotatedVideo],
  split: Split | None,
) -> str:
  from vsumjax.evaluation.score_sets import tested_videos

  number = len({v.id for _, of_set in tested_videos(videos, split, args.fold) for v in of_set})
  where = f"all {number} videos"
  if split is not None:
    folds = f"{len(split.folds)} folds" if args.fold is None else f"fold {args.fold}"
    where = f"{folds} of {args.split_name or args.splits}, {number} videos"
  what = files[0].name if len(files) == 1 else f"{len(files)} files of scores"
  return f"{what} on {Path(args.benchmark).stem}: {where}"


def _cross_validate(args: argparse.Namespace) -> None:
  from vsumjax.evaluation.splits import true_folds
  from vsumjax.jobs.cross_validate import cross_validate

  videos = _open_benchmark(args)
  split = _open_split(args, videos) if args.splits else true_folds(videos, args.num_folds)
  cross_validate(
    args.config,
    args.manifest,
    videos,
    split,
    args.out,
    seeds=args.seeds,
    validation_share=args.validation_share,
    overrides=args.overrides,
  )


def _open_benchmark(args: argparse.Namespace) -> tuple[AnnotatedVideo, ...]:
  from vsumjax.experiment.annotations import open_benchmark

  return open_benchmark(
    args.benchmark,
    segments=args.segments,
    annotations=args.annotations,
    data_dir=args.data_dir,
  )


def _open_split(args: argparse.Namespace, videos: Sequence[AnnotatedVideo]) -> Split:
  """The split of --splits, which has the fold of --fold if one is asked for."""
  from vsumjax.evaluation.score_sets import find_files
  from vsumjax.evaluation.splits import load_split_of_files

  split = load_split_of_files(find_files([args.splits]), args.split_name, videos=videos)
  fold = getattr(args, "fold", None)
  if fold is not None and not 0 <= fold < len(split.folds):
    raise InputError(f"{args.splits}: has folds 0 to {len(split.folds) - 1}, not {fold}")
  return split


def _evaluate_captions(args: argparse.Namespace) -> None:
  from vsumjax.jobs.evaluate_language import evaluate_captions

  evaluate_captions(
    args.captions,
    args.references,
    args.out,
    meteor_resources=args.meteor,
    rarity_from=args.rarity_from,
  )


def _evaluate_retrieval(args: argparse.Namespace) -> None:
  from vsumjax.jobs.evaluate_language import evaluate_retrieval

  evaluate_retrieval(args.similarities, args.out, captions_per_video=args.captions_per_video)


def _evaluate_answers(args: argparse.Namespace) -> None:
  from vsumjax.jobs.evaluate_language import evaluate_answers

  evaluate_answers(
    args.answers,
    args.references,
    args.out,
    wordnet=args.wordnet,
    form=args.answer_form,
    wups_form=args.wups_form,
  )


_OUT = Option("--out", type=Path, metavar="DIR", help="folder for the results")
_NEEDED_OUT = Option(
  "--out", required=True, type=Path, metavar="DIR", help="folder for the results"
)
_BENCHMARK = (
  Option(
    "--benchmark",
    required=True,
    metavar="NAME",
    help="tvsum or summe, as built by build-dataset, or an HDF5 file",
  ),
  Option(
    "--segments",
    metavar="KEY",
    help="segments in the HDF5 file (default: change_points), or kts:KEY to compute them",
  ),
  Option(
    "--annotations",
    type=Path,
    metavar="FILE",
    help="second file with annotations that the HDF5 file lacks",
  ),
  Option(
    "--data-dir",
    type=Path,
    default=Path("data"),
    metavar="DIR",
    help="--data-dir of build-dataset (default: data)",
  ),
  Option("--splits", metavar="FILE", help="published folds; a glob if each has its own file"),
  Option(
    "--split-name",
    default="",
    metavar="NAME",
    help="which split, if the file holds several, e.g. tvsum/csta",
  ),
)

_MODEL = Subcommand(
  "model",
  "a trained model, at every exit, on a split of a manifest",
  given=Option("--checkpoint", type=Path, metavar="DIR", help="workdir of the model"),
  options=(
    _NEEDED_OUT,
    Option("--manifest", default="", metavar="FILE", help="default: the one used for training"),
    Option("--split", default="", metavar="NAME", help="default: the config's test split"),
    Option(
      "--without",
      action="append",
      default=[],
      choices=_INPUTS,
      help="drop a modality, as if the videos had none; may be repeated",
    ),
  ),
  example="model runs/demo/student --out runs/demo/evaluation",
  run=_evaluate_model,
)

_SCORES = Subcommand(
  "scores",
  "anybody's scores of a benchmark, under every published protocol",
  given=Option("--scores", nargs="+", metavar="FILE", help="score files or quoted globs; merged"),
  options=(
    _OUT,
    *_BENCHMARK,
    Option("--fold", type=int, metavar="N", help="only this fold of --splits, zero-based"),
    Option(
      "--protocol",
      default="all",
      metavar="NAMES",
      help="comma-separated (default: all that apply)",
    ),
  ),
  example='scores "preds/*.json" --benchmark tvsum --splits splits.json --out runs/rescored',
  run=_rescore,
)

_FOLDS = Subcommand(
  "folds",
  "train and test a config on the folds of a benchmark",
  old="--cross-validate",
  options=(
    Option("--config", required=True, metavar="FILE", help="config; takes --config.KEY=VALUE"),
    Option("--manifest", required=True, type=Path, metavar="FILE", help="the benchmark's videos"),
    _NEEDED_OUT,
    *_BENCHMARK,
    Option("--num-folds", type=int, default=5, metavar="N", help="without --splits (default: 5)"),
    Option("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(default: 0 1 2)"),
    Option(
      "--validation-share",
      type=float,
      default=0.2,
      metavar="X",
      help="share of the training videos held out for model selection (default: 0.2)",
    ),
  ),
  example="folds --config configs/tvsum_text.py:corpus=runs/text/corpus"
  " --manifest runs/text/corpus/manifest.jsonl --benchmark tvsum.h5 --out runs/text/folds",
  run=_cross_validate,
)

_CAPTIONS = Subcommand(
  "captions",
  "one caption for each video: BLEU, METEOR, ROUGE-L, CIDEr-D",
  given=Option("--captions", type=Path, metavar="FILE", help="the captions"),
  options=(
    Option("--references", required=True, type=Path, metavar="FILE", help="reference captions"),
    _OUT,
    Option("--meteor", type=Path, metavar="DIR", help="METEOR's word lists, for full METEOR"),
    Option(
      "--rarity-from",
      type=Path,
      metavar="FILE",
      help="references for CIDEr-D's document frequencies (default: --references)",
    ),
  ),
  example="captions captions.json --references references.json --out runs/captions",
  run=_evaluate_captions,
)

_RETRIEVAL = Subcommand(
  "retrieval",
  "text-video similarities: recall and ranks, both ways",
  given=Option("--similarities", type=Path, metavar="FILE", help="the matrix, texts × videos"),
  options=(
    _OUT,
    Option(
      "--captions-per-video",
      type=int,
      metavar="N",
      help="if the file does not say which video each text belongs to",
    ),
  ),
  example="retrieval similarities.npy --out runs/retrieval",
  run=_evaluate_retrieval,
)

_ANSWERS = Subcommand(
  "answers",
  "one answer to each question: accuracy and WUPS",
  given=Option("--answers", type=Path, metavar="FILE", help="the answers"),
  options=(
    Option("--references", required=True, type=Path, metavar="FILE", help="correct answers"),
    _OUT,
    Option("--wordnet", type=Path, metavar="DIR", help="WordNet database, for WUPS"),
    Option(
      "--answer-form",
      choices=("plain", "vqa"),
      default="plain",
      help="how answers are compared (default: plain)",
    ),
    Option(
      "--wups-form",
      choices=("items", "words"),
      default="items",
      help="WUPS convention (default: items)",
    ),
  ),
  example="answers answers.json --references questions.json --out runs/answers",
  run=_evaluate_answers,
)

_SUBCOMMANDS = (_MODEL, _SCORES, _FOLDS, _CAPTIONS, _RETRIEVAL, _ANSWERS)
