"""The command line of `evaluate`. What it needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsumjax.types import InputError

if TYPE_CHECKING:
  from vsumjax.evaluation.benchmark import AnnotatedVideo

_INPUTS = ("frames", "sound", "text")


def add_evaluate(commands) -> argparse.ArgumentParser:
  """The `evaluate` command: what is given says what is measured."""
  parser = commands.add_parser(
    "evaluate", help="measure a model, a file of scores, folds, captions, retrieval or answers"
  )
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--checkpoint", type=Path, metavar="DIR", help="a model, by its workdir")
  what.add_argument("--scores", type=Path, metavar="FILE", help="anybody's scores of a benchmark")
  what.add_argument(
    "--cross-validate", action="store_true", help="train and test the folds of a benchmark"
  )
  what.add_argument("--captions", type=Path, metavar="FILE", help="one caption a video")
  what.add_argument("--similarities", type=Path, metavar="FILE", help="of texts and videos")
  what.add_argument("--answers", type=Path, metavar="FILE", help="one answer a question")
  parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
  _add_of_checkpoint(parser.add_argument_group("with --checkpoint"))
  _add_of_benchmark(parser.add_argument_group("with --scores or --cross-validate"))
  _add_of_training(parser.add_argument_group("with --cross-validate"))
  _add_of_language(parser.add_argument_group("with --captions, --similarities or --answers"))
  parser.set_defaults(run=_evaluate)
  return parser


def _add_of_checkpoint(group) -> None:
  group.add_argument(
    "--manifest",
    default="",
    help="default: the one it was trained on; with --cross-validate: of the videos to train on",
  )
  group.add_argument("--split", default="", help="default: the config's test split")
  group.add_argument(
    "--without",
    action="append",
    default=[],
    choices=_INPUTS,
    help="take an input away, as if the file had none; may be given again",
  )


def _add_of_benchmark(group) -> None:
  group.add_argument("--benchmark", default="", help="tvsum or summe as built, or an HDF5 file")
  group.add_argument(
    "--protocol", default="all", metavar="NAMES", help="between commas; default: all that apply"
  )
  group.add_argument(
    "--segments", metavar="KEY", help="of the HDF5 file (change_points), or kts:KEY"
  )
  group.add_argument("--annotations", type=Path, metavar="FILE", help="for what --benchmark lacks")
  group.add_argument(
    "--data-dir", type=Path, default=Path("data"), help="of built data sets (data)"
  )
  group.add_argument("--splits", type=Path, metavar="FILE", help="published folds")
  group.add_argument("--split-name", default="", metavar="NAME", help="of them, as tvsum/csta")
  group.add_argument("--fold", type=int, metavar="N", help="only its test videos, from 0 on")


def _add_of_training(group) -> None:
  group.add_argument("--config", default="", help="of the trainings; --config.KEY=VALUE goes too")
  group.add_argument("--num-folds", type=int, default=5, metavar="N", help="without --splits (5)")
  group.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(0 1 2)")
  group.add_argument(
    "--validation-share",
    type=float,
    default=0.2,
    metavar="X",
    help="of the training videos, which the selection rule looks at (0.2)",
  )


def _add_of_language(group) -> None:
  group.add_argument(
    "--references", type=Path, metavar="FILE", help="captions or answers that are right"
  )
  group.add_argument("--meteor", type=Path, metavar="DIR", help="METEOR's own files, for all of it")
  group.add_argument(
    "--captions-per-video", type=int, metavar="N", help="if the file of similarities does not say"
  )
  group.add_argument("--wordnet", type=Path, metavar="DIR", help="WordNet's files, for WUPS")
  group.add_argument(
    "--rarity-from", type=Path, metavar="FILE", help="references for CIDEr-D's document frequencies"
  )
  group.add_argument(
    "--answer-form", choices=("plain", "vqa"), default="plain", help="how answers compare (plain)"
  )
  group.add_argument(
    "--wups-form", choices=("items", "words"), default="items", help="convention (items)"
  )


def _evaluate(args: argparse.Namespace) -> None:
  if args.scores:
    _rescore(args)
  elif args.checkpoint:
    _evaluate_checkpoint(args)
  elif args.cross_validate:
    _cross_validate(args)
  else:
    _evaluate_language(args)


def _evaluate_language(args: argparse.Namespace) -> None:
  from vsumjax.jobs import evaluate_language

  if args.similarities:
    evaluate_language.evaluate_retrieval(
      args.similarities,
      args.out,
      captions_per_video=args.captions_per_video,
    )
    return
  if args.references is None:
    raise InputError("--captions and --answers need --references")
  if args.captions:
    evaluate_language.evaluate_captions(
      args.captions,
      args.references,
      args.out,
      meteor_resources=args.meteor,
      rarity_from=args.rarity_from,
    )
  else:
    evaluate_language.evaluate_answers(
      args.answers,
      args.references,
      args.out,
      wordnet=args.wordnet,
      form=args.answer_form,
      wups_form=args.wups_form,
    )


def _evaluate_checkpoint(args: argparse.Namespace) -> None:
  if args.out is None:
    raise InputError("--checkpoint needs --out")
  from vsumjax.jobs.evaluate import evaluate

  evaluate(
    args.checkpoint,
    args.out,
    manifest=args.manifest,
    split=args.split,
    without=frozenset(args.without),
  )


def _cross_validate(args: argparse.Namespace) -> None:
  for flag in ("config", "manifest", "out"):
    if not getattr(args, flag):
      raise InputError(f"--cross-validate needs --{flag}")
  from vsumjax.evaluation.splits import load_splits, true_folds
  from vsumjax.jobs.cross_validate import cross_validate

  videos = _open_benchmark(args)
  split = (
    load_splits(args.splits, args.split_name, videos=videos)
    if args.splits
    else true_folds(videos, args.num_folds)
  )
  cross_validate(
    args.config,
    Path(args.manifest),
    videos,
    split,
    args.out,
    seeds=args.seeds,
    validation_share=args.validation_share,
    overrides=args.overrides,
  )


def _rescore(args: argparse.Namespace) -> None:
  from vsumjax.jobs.rescore import rescore

  known = _open_benchmark(args)
  videos = _of_fold(args, known)
  where = f"fold {args.fold} of {args.split_name or args.splits}" if args.splits else "all videos"
  rescore(
    args.scores,
    videos,
    args.out,
    known=known,
    protocol=args.protocol,
    title=f"{args.scores.name} on {Path(args.benchmark).stem}: {where}, {len(videos)}",
  )


def _open_benchmark(args: argparse.Namespace) -> tuple[AnnotatedVideo, ...]:
  if not args.benchmark:
    raise InputError("--benchmark is needed: tvsum, summe, or an HDF5 file")
  from vsumjax.experiment.annotations import open_benchmark

  return open_benchmark(
    args.benchmark,
    segments=args.segments,
    annotations=args.annotations,
    data_dir=args.data_dir,
  )


def _of_fold(
  args: argparse.Namespace, videos: Sequence[AnnotatedVideo]
) -> Sequence[AnnotatedVideo]:
  """The test videos of the fold that was asked for, in the benchmark's order."""
  if (args.fold is None) != (args.splits is None):
    raise InputError("--fold and --splits go together")
  if args.fold is None:
    return videos
  from vsumjax.evaluation.splits import load_splits

  folds = load_splits(args.splits, args.split_name, videos=videos).folds
  if not 0 <= args.fold < len(folds):
    raise InputError(f"{args.splits}: has folds 0 to {len(folds) - 1}, not {args.fold}")
  return [video for video in videos if video.id in folds[args.fold].test]
