"""The command line of the benchmarks. What they need is imported when one runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_benchmark(commands) -> argparse.ArgumentParser:
  """The `benchmark` command, with a command of its own for each benchmark."""
  parser = commands.add_parser("benchmark", help="speed beside other libraries, in one run")
  whats = parser.add_subparsers(dest="what", required=True)
  written = argparse.ArgumentParser(add_help=False)
  written.add_argument("--out", type=Path, help="JSON file of all values")
  written.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS)
  shared = argparse.ArgumentParser(add_help=False, parents=[written])
  shared.add_argument("--rounds", type=int, default=5, help="values a median is of (5)")
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
  gpu.add_argument(
    "--big-vision", type=Path, metavar="PATH", help="a checkout; times its step, too"
  )
  gpu.set_defaults(run=_benchmark_gpu)
  cache = whats.add_parser("cache", parents=[shared], help="writing and reading teacher caches")
  cache.add_argument("--root", type=Path, help="folder to write in; default: of this machine's")
  cache.set_defaults(run=_benchmark_cache)
  theirs = whats.add_parser("big_vision", parents=[written], help="train steps on a TPU slice")
  theirs.add_argument("--source", type=Path, help="a checkout of big_vision; needed")
  theirs.add_argument("--topology", default="v5e:4x4", help="slice, as of compile-check (v5e:4x4)")
  theirs.add_argument("--rows", type=int, nargs="+", default=[128, 32], help="of a batch (128 32)")
  theirs.add_argument(
    "--only",
    nargs="+",
    default=[],
    metavar="VARIANT",
    help="of as_published, bfloat16, bfloat16_scores; default: all",
  )
  theirs.set_defaults(run=_benchmark_big_vision)
  return parser


def _benchmark_big_vision(args: argparse.Namespace) -> None:
  from vsumjax.benchmarks.big_vision import benchmark_big_vision
  from vsumjax.tpu import topologies
  from vsumjax.types import InputError

  if args.source is None:
    raise InputError(
      "benchmark big_vision needs --source, the folder of a checkout: "
      "git clone https://github.com/google-research/big_vision"
    )
  topology = topologies.parse(args.topology)
  benchmark_big_vision(args.source, topology, args.rows, only=args.only, out=args.out)


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
  benchmark_gpu(sizes, rounds=args.rounds, out=args.out, source=args.big_vision)


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
