"""The command line of the benchmarks. What they need is imported when one runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_benchmark(commands) -> argparse.ArgumentParser:
  """The `benchmark` command, with a command of its own for each benchmark."""
  parser = commands.add_parser("benchmark", help="speed beside other libraries, in one run")
  whats = parser.add_subparsers(dest="what", required=True)
  shared = argparse.ArgumentParser(add_help=False)
  shared.add_argument("--rounds", type=int, default=5, help="values a median is of (5)")
  shared.add_argument("--out", type=Path, help="JSON file of all values")
  shared.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS)
  step = whats.add_parser("model_step", parents=[shared], help="forward pass and train step")
  step.add_argument("--batch", type=int, default=8, help="rows of the batch (8)")
  step.add_argument(
    "--only",
    nargs="+",
    default=[],
    metavar="ROW",
    help="of ours, transformers, big_vision, big_vision_no_remat; default: all",
  )
  step.set_defaults(run=_benchmark_model_step)
  distill = whats.add_parser("distill_step", parents=[shared], help="a step with teachers")
  distill.add_argument("--config", default="configs/demo.py", help="with stages (configs/demo.py)")
  distill.add_argument("--steps", type=int, default=20, help="a value is the mean of (20)")
  distill.set_defaults(run=_benchmark_distill_step)
  loader = whats.add_parser("loader", parents=[shared], help="reading videos and prepared shards")
  loader.add_argument("--root", type=Path, default=Path("runs/loader"), help="(runs/loader)")
  loader.add_argument("--manifest", type=Path, help="of your videos; default: videos are made")
  loader.add_argument("--tokenizer", type=Path, help="SentencePiece model, with --manifest")
  loader.add_argument("--num-workers", type=int, default=2, help="processes (2)")
  loader.set_defaults(run=_benchmark_loader)
  gpu = whats.add_parser("gpu", parents=[shared], help="the 3B student on one GPU")
  gpu.add_argument("--rows", type=int, default=16, help="of a batch (16)")
  gpu.add_argument("--keep-matmuls", action="store_true", help="model.remat false: more memory")
  gpu.set_defaults(run=_benchmark_gpu)
  cache = whats.add_parser("cache", parents=[shared], help="writing and reading teacher caches")
  cache.add_argument("--root", type=Path, help="folder to write in; default: of this machine's")
  cache.set_defaults(run=_benchmark_cache)
  return parser


def _benchmark_distill_step(args: argparse.Namespace) -> None:
  from vsumjax.benchmarks.distill_step import benchmark_distill_step

  benchmark_distill_step(args.config, rounds=args.rounds, steps=args.steps, out=args.out)


def _benchmark_gpu(args: argparse.Namespace) -> None:
  import jax

  from vsumjax.benchmarks.gpu import benchmark_gpu, full_size
  from vsumjax.types import InputError

  if jax.default_backend() != "gpu":
    raise InputError(f"benchmark gpu: JAX finds {jax.default_backend()} here and no GPU")
  sizes = full_size(args.rows, remat=not args.keep_matmuls)
  benchmark_gpu(sizes, rounds=args.rounds, out=args.out)


def _benchmark_loader(args: argparse.Namespace) -> None:
  from vsumjax.benchmarks.loader import benchmark_loader

  benchmark_loader(
    args.root,
    manifest=args.manifest,
    tokenizer=args.tokenizer,
    num_workers=args.num_workers,
    rounds=args.rounds,
    out=args.out,
  )


def _benchmark_cache(args: argparse.Namespace) -> None:
  from vsumjax.benchmarks.cache import benchmark_cache

  benchmark_cache(args.root, rounds=args.rounds, out=args.out)


def _benchmark_model_step(args: argparse.Namespace) -> None:
  from vsumjax.benchmarks import model_step, peers

  task = model_step.Task(batch=args.batch)
  rows = args.only or list(model_step.ROWS)
  peers.benchmark_model_step(task, rows, rounds=args.rounds, out=args.out)
