"""The command line of `evaluate`. What it needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsumjax.types import InputError

if TYPE_CHECKING:
  from vsumjax.summary.benchmark import AnnotatedVideo

_INPUTS = ("frames", "sound", "text")


def add_evaluate(commands) -> argparse.ArgumentParser:
  """The `evaluate` command: what is given says what is measured."""
  parser = commands.add_parser(
    "evaluate", help="measure a model, a file of scores, folds, captions, retrieval or answers"
  )
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--checkpoint", type=Path, metavar="DIR", help="a model, by its workdir")
  what.add_argument("--scores", type=Path, metavar="FILE", help="anybody's scores of a benchmark")
  parser.add_argument("--out", type=Path, metavar="DIR", help="folder of evaluation.json")
  _add_of_checkpoint(parser.add_argument_group("with --checkpoint"))
  _add_of_benchmark(parser.add_argument_group("with --scores"))
  parser.set_defaults(run=_evaluate)
  return parser


def _add_of_checkpoint(group) -> None:
  group.add_argument("--manifest", default="", help="default: the one it was trained on")
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
  group.add_argument("--segments", metavar="KEY", help="of the HDF5 file (change_points)")
  group.add_argument("--annotations", type=Path, metavar="FILE", help="for what --benchmark lacks")
  group.add_argument(
    "--data-dir", type=Path, default=Path("data"), help="of built data sets (data)"
  )
  group.add_argument("--splits", type=Path, metavar="FILE", help="published folds")
  group.add_argument("--split-name", default="", metavar="NAME", help="of them, as tvsum/csta")
  group.add_argument("--fold", type=int, metavar="N", help="only its test videos, from 0 on")


def _evaluate(args: argparse.Namespace) -> None:
  if args.scores:
    _rescore(args)
  else:
    _evaluate_checkpoint(args)


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
  from vsumjax.jobs.benchmarks import open_benchmark

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
  from vsumjax.summary.splits import load_splits

  folds = load_splits(args.splits, args.split_name, videos=videos).folds
  if not 0 <= args.fold < len(folds):
    raise InputError(f"{args.splits}: has folds 0 to {len(folds) - 1}, not {args.fold}")
  return [video for video in videos if video.id in folds[args.fold].test]
