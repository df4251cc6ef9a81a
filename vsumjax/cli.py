"""The `vsumjax` console command. The scripts in launch/ are other doors to the same commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from vsumjax.benchmarks import command_line
from vsumjax.host import stopping
from vsumjax.jobs import evaluation_commands, training_commands
from vsumjax.jobs.training_commands import add_config
from vsumjax.types import InputError

_CONFIG_PREFIX = "--config."


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns the exit status.

  0, 2 for bad input, 130 when interrupted from the keyboard, 143 when ended by SIGTERM.
  """
  argv = sys.argv[1:] if argv is None else argv
  try:
    args = _parse(argv)
  except InputError as error:
    print(f"vsumjax {argv[0]}: {error}", file=sys.stderr)
    return 2
  return report(args.command, lambda: args.run(args), verbose=args.verbose)


def report(command: str, run: Callable[[], None], *, verbose: bool = False) -> int:
  """Runs a job and turns what the user can mend into one line; returns the exit status.

  A full disk or a folder without permission is of that kind; `verbose` shows where it happened.
  """
  _quiet(verbose)
  try:
    run()
  except (InputError, FloatingPointError, OSError) as error:
    if verbose:
      raise
    print(f"vsumjax {command}: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("stopped; the same command resumes from what is finished", file=sys.stderr)
    return 130
  except stopping.Stopped as stopped:
    print(f"vsumjax {command}: {stopped}", file=sys.stderr)
    return stopping.STATUS
  return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog="vsumjax", description="Video summaries with a small VLM.")
  commands = parser.add_subparsers(dest="command", required=True)
  for add in (
    _add_prepare,
    training_commands.add_train,
    training_commands.add_chain,
    training_commands.add_cache_teacher,
    training_commands.add_compile_check,
    evaluation_commands.add_evaluate,
    _add_summarize,
    _add_convert,
    _add_inspect,
    command_line.add_benchmark,
    _add_build_dataset,
  ):
    command = add(commands)
    command.add_argument("--verbose", action="store_true", help="show logs and tracebacks")
  # Commands with a config take overrides, --config.train.seed=3: argparse can't declare them.
  overrides = [arg for arg in argv if arg.startswith(_CONFIG_PREFIX)]
  words = [arg for arg in argv if arg not in overrides]
  if words[:1] == ["evaluate"]:
    words[1:] = evaluation_commands.in_subcommands(words[1:])
  args = parser.parse_args(words)
  args.overrides = {}
  for override in overrides:
    key, equals, value = override.removeprefix(_CONFIG_PREFIX).partition("=")
    if not getattr(args, "config", "") or not equals:
      parser.error(f"{override}: overrides are --config.KEY=VALUE and go with --config")
    args.overrides[key] = value
  return args


def _add_prepare(commands) -> argparse.ArgumentParser:
  parser = commands.add_parser("prepare", help="decode videos into shards for training")
  parser.add_argument("--manifest", required=True, type=Path, help="manifest of the videos")
  parser.add_argument("--out", required=True, help="output folder or URL")
  add_config(parser)
  parser.add_argument("--split", default="", help="default: all splits")
  parser.add_argument("--time-shifts", type=int, default=1, help="shifts per frame (1; odd)")
  parser.add_argument("--jpeg-quality", type=int, default=90, help="JPEG quality (90)")
  parser.add_argument("--no-audio", action="store_true", help="leave out the audio samples")
  parser.add_argument("--videos-per-shard", type=int, default=16, metavar="N", help="(16)")
  parser.add_argument("--max-failed-share", type=float, default=0.05, help="abort above (0.05)")
  parser.add_argument("--stall-s", type=float, default=600, help="timeout per record (600)")
  parser.add_argument("--num-workers", type=int, default=0, help="processes; default: one per core")
  parser.add_argument("--runner", default="", help="Apache Beam runner; default: local processes")
  parser.add_argument("beam_flags", nargs="*", metavar="-- FLAG", help="runner flags, after --")
  parser.set_defaults(run=_prepare)
  return parser


def _prepare(args: argparse.Namespace) -> None:
  if args.beam_flags and not args.runner:
    raise InputError(f"{args.beam_flags[0]}: flags after -- go with --runner")
  from vsumjax.data.prepared.preparation import Settings
  from vsumjax.experiment.config import load_config
  from vsumjax.jobs import prepare
  from vsumjax.tasks.score.task import require_score

  settings = Settings(
    require_score(load_config(args.config, args.overrides).task, "prepare").prompt,
    time_shifts=args.time_shifts,
    jpeg_quality=args.jpeg_quality,
    sound=not args.no_audio,
    split=args.split,
    videos_per_shard=args.videos_per_shard,
  )
  run_tasks = (
    prepare.on_beam(args.runner, args.beam_flags, args.stall_s)
    if args.runner
    else prepare.on_this_machine(args.num_workers, args.stall_s)
  )
  prepare.prepare(
    args.manifest,
    args.out,
    settings,
    run_tasks=run_tasks,
    max_failed_share=args.max_failed_share,
  )


def _add_summarize(commands) -> argparse.ArgumentParser:
  parser = commands.add_parser("summarize", help="summarise a video file")
  parser.add_argument("video", nargs="?", type=Path, help="a video file")
  parser.add_argument("--video", dest="video_flag", type=Path, metavar="FILE", help="the same")
  parser.add_argument("--checkpoint", required=True, type=Path, help="workdir of the student")
  parser.add_argument("--out", required=True, type=Path, help="output folder")
  parser.add_argument("--share", type=float, default=0.15, help="fraction to keep (0.15)")
  parser.add_argument("--title", default="", help="title in the prompt; default: the file's name")
  parser.add_argument(
    "--transcript",
    type=Path,
    help="SRT, WebVTT, Whisper's JSON, ASS, SSA, SBV or TTML; default: the one next to the video, "
    "else its embedded subtitles",
  )
  parser.set_defaults(run=_summarize)
  return parser


def _summarize(args: argparse.Namespace) -> None:
  if bool(args.video) == bool(args.video_flag):
    raise InputError("give one video file, as an argument or by --video")
  from vsumjax.jobs.summarize import summarize

  summarize(
    args.video or args.video_flag,
    args.checkpoint,
    args.out,
    share=args.share,
    title=args.title,
    transcript=args.transcript,
  )


def _add_convert(commands) -> argparse.ArgumentParser:
  parser = commands.add_parser("convert", help="checkpoints: big_vision npz, ours, Hugging Face")
  parser.add_argument(
    "--from", dest="source", required=True, type=Path, metavar="SRC", help="its format is detected"
  )
  parser.add_argument(
    "--to", dest="target", required=True, type=Path, metavar="DST", help="must not exist"
  )
  parser.add_argument(
    "--format", choices=("npz", "hf", "vsumjax"), default="", help="of DST; default: by suffix"
  )
  parser.add_argument("--model", default="", help="family of an npz, e.g. paligemma2_3b_224")
  parser.add_argument("--model-json", type=Path, metavar="FILE", help="its StudentConfig as JSON")
  parser.add_argument("--image-size", type=int, default=0, help="interpolate position embeddings")
  parser.add_argument("--vocab-size", type=int, default=0, help="add rows to the embedding")
  parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="")
  parser.add_argument("--max-shard-bytes", type=int, default=5 * 10**9, metavar="N")
  parser.add_argument("--no-check", action="store_true", help="don't compare logits")
  parser.set_defaults(run=_convert)
  return parser


def _convert(args: argparse.Namespace) -> None:
  from vsumjax.jobs.convert import Changes, convert

  convert(
    args.source,
    args.target,
    kind=args.format,
    model=args.model,
    model_json=args.model_json,
    changes=Changes(args.image_size, args.vocab_size, args.dtype),
    max_shard_bytes=args.max_shard_bytes,
    check_numbers=not args.no_check,
  )


def _add_inspect(commands) -> argparse.ArgumentParser:
  parser = commands.add_parser("inspect", help="show a batch as the model sees it")
  parser.add_argument("what", choices=("data",), help="a training batch")
  add_config(parser)
  parser.add_argument("--out", required=True, type=Path, help="folder for batch.png and batch.json")
  parser.add_argument("--step", type=int, default=0, help="training step of the batch (0)")
  parser.add_argument("--rows", type=int, default=6, help="maximum rows shown (6)")
  parser.set_defaults(run=_inspect)
  return parser


def _inspect(args: argparse.Namespace) -> None:
  from vsumjax.experiment.config import load_config
  from vsumjax.jobs.inspect_data import inspect_data

  inspect_data(load_config(args.config, args.overrides), args.out, step=args.step, rows=args.rows)


def _add_build_dataset(commands) -> argparse.ArgumentParser:
  parser = commands.add_parser("build-dataset", help="TVSum, SumMe, eccv16 files, your own videos")
  parser.add_argument("name", choices=("tvsum", "summe", "eccv16", "folder", "text"))
  parser.add_argument("--manual-dir", type=Path, metavar="DIR", help="folder of the authors' files")
  parser.add_argument("--data-dir", type=Path, metavar="DIR", help="TFDS data directory")
  parser.add_argument("--videos", type=Path, metavar="DIR", help="folder: where the videos are")
  parser.add_argument(
    "--out", type=Path, metavar="PATH", help="folder: manifest to write; text: output folder"
  )
  parser.add_argument("--labels", type=Path, metavar="FILE", help="folder: JSON, see docs")
  parser.add_argument("--benchmark", metavar="FILE", help="text: HDF5 with annotators' levels")
  parser.add_argument("--segments", metavar="KEY", help="text: segments in the HDF5 file")
  parser.add_argument("--captions", type=Path, metavar="FILE", help="text: JSON, see docs")
  parser.add_argument(
    "--shares",
    type=float,
    nargs=3,
    default=(0.8, 0.1, 0.1),
    metavar=("TRAIN", "VALIDATION", "TEST"),
    help="folder: fractions of the splits (0.8 0.1 0.1)",
  )
  parser.set_defaults(run=_build_dataset)
  return parser


def _build_dataset(args: argparse.Namespace) -> None:
  needed = {"folder": ("videos", "out"), "text": ("benchmark", "captions", "out")}
  for flag in needed.get(args.name, ("manual_dir", "data_dir")):
    if getattr(args, flag) is None:
      raise InputError(f"{args.name} needs --{flag.replace('_', '-')}")
  from vsumjax.experiment import annotations
  from vsumjax.jobs import build_dataset, text_corpus

  if args.name == "text":
    videos = annotations.open_benchmark(args.benchmark, segments=args.segments)
    print(f"As a manifest: {text_corpus.make_corpus(videos, args.captions, args.out)}")
  elif args.name == "folder":
    build_dataset.build_folder(args.videos, args.out, shares=args.shares, labels=args.labels)
  else:
    build_dataset.build_dataset(args.name, args.manual_dir, args.data_dir)


def _quiet(verbose: bool) -> None:
  """Keeps the libraries' logs and warnings from the user's screen."""
  if verbose:
    return
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # Grain leaves the last batches of its workers to this process, which removes them and complains.
  os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
  warnings.simplefilter("ignore")
  logging.disable(logging.WARNING)
  logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it raises afterwards
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  sys.unraisablehook = _pass_over_late_reads


_tell_unraisable = sys.unraisablehook


def _pass_over_late_reads(unraisable: sys.UnraisableHookArgs) -> None:
  """Orbax closes its event loop at the first read of a damaged checkpoint that fails; the reads
  that end after that have nobody to tell."""
  if str(unraisable.exc_value) != "Event loop is closed":
    _tell_unraisable(unraisable)


if __name__ == "__main__":
  sys.exit(main())
