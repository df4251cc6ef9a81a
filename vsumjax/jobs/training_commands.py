"""Command lines of training, chains and caches. What they need is imported when one runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vsumjax.types import InputError

if TYPE_CHECKING:
  from vsumjax.sharding import MeshConfig


def add_config(parser: argparse.ArgumentParser) -> None:
  """The option that `--config.KEY=VALUE` goes with."""
  parser.add_argument("--config", required=True, help="config FILE or FILE:ARG; see configs/")


def add_train(commands) -> argparse.ArgumentParser:
  """The `train` command."""
  parser = commands.add_parser("train", help="train or resume one stage")
  add_config(parser)
  parser.add_argument(
    "--workdir", required=True, type=Path, help="folder for checkpoints and metrics"
  )
  _add_distributed(parser)
  parser.add_argument(
    "--profile", metavar="START:STOP", help="trace steps START to STOP - 1 to the workdir"
  )
  parser.set_defaults(run=_train)
  return parser


def _add_distributed(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--distributed", action="store_true", help="call jax.distributed (pods)")


def _distribute(args: argparse.Namespace) -> None:
  if args.distributed:
    import jax

    # SIGTERM is ours; see `stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize()


def _train(args: argparse.Namespace) -> None:
  _distribute(args)
  from vsumjax.experiment.config import load_config
  from vsumjax.jobs.train import train
  from vsumjax.training.profiling import parse_window

  profile = parse_window(args.profile) if args.profile is not None else range(0)
  train(load_config(args.config, args.overrides), args.workdir, profile=profile)


def add_chain(commands) -> argparse.ArgumentParser:
  """The `chain` command."""
  parser = commands.add_parser("chain", help="train and cache all stages, or resume")
  parser.add_argument("--config", required=True, help="config FILE[:ARG] with get_chain")
  _add_distributed(parser)
  parser.set_defaults(run=_chain)
  return parser


def _chain(args: argparse.Namespace) -> None:
  _distribute(args)
  from vsumjax.experiment.config import load_chain
  from vsumjax.jobs.chain import run_chain

  run_chain(load_chain(args.config), args.overrides)


def add_cache_teacher(commands) -> argparse.ArgumentParser:
  """The `cache-teacher` command."""
  parser = commands.add_parser("cache-teacher", help="cache a trained model's logits")
  parser.add_argument("--checkpoint", required=True, type=Path, help="workdir of the teacher")
  parser.add_argument("--out", required=True, type=Path, help="cache folder")
  parser.add_argument("--split", default="", help="default: the teacher's training split")
  parser.add_argument(
    "--manifest", nargs="+", default=(), metavar="M", help="default: the teacher's data sets"
  )
  parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="on all devices (64)")
  parser.add_argument(
    "--shard-size", type=int, default=0, metavar="N", help="examples per file (1,024 to 8,192)"
  )
  parser.add_argument(
    "--mesh", metavar="D,F,T", help="devices along data, fsdp, tensor; default: as trained"
  )
  parser.add_argument("--verify", action="store_true", help="check a finished cache, write nothing")
  text = parser.add_argument_group("texts in addition to scores")
  text.add_argument("--text", metavar="KIND", help="topk or sampled: what to store per token")
  text.add_argument("--entries", type=int, metavar="J", help="per token (topk 128, sampled 12)")
  text.add_argument("--temperature", type=float, metavar="T", help="softmax temperature (1.0)")
  text.add_argument("--max-new-tokens", type=int, metavar="Y", help="maximum length (64)")
  text.add_argument("--texts-of", type=Path, metavar="CACHE", help="reuse the texts of this cache")
  _add_distributed(parser)
  parser.set_defaults(run=_cache_teacher)
  return parser


def _cache_teacher(args: argparse.Namespace) -> None:
  _distribute(args)
  for flag, least in (("batch_size", 1), ("shard_size", 0)):
    if getattr(args, flag) < least:
      raise InputError(f"--{flag.replace('_', '-')}: must be {least} or more")
  mesh = _parse_mesh(args.mesh) if args.mesh is not None else None
  of_both = {"split": args.split, "manifests": args.manifest, "batch_size": args.batch_size}
  if args.verify:
    for flag in ("shard_size", "text", "entries", "temperature", "max_new_tokens", "texts_of"):
      if getattr(args, flag):
        raise InputError(f"--{flag.replace('_', '-')}: is for writing, and --verify writes nothing")
    from vsumjax.jobs.verify_cache import verify_cache

    verify_cache(args.checkpoint, args.out, mesh=mesh, **of_both)
    return
  from vsumjax.jobs.cache_teacher import cache_teacher
  from vsumjax.jobs.cached_text import text_config

  cache_teacher(
    args.checkpoint,
    args.out,
    **of_both,
    shard_size=args.shard_size,
    mesh=mesh,
    text=text_config(
      args.text,
      entries=args.entries,
      temperature=args.temperature,
      max_new_tokens=args.max_new_tokens,
      texts_of=args.texts_of,
    ),
  )


def _parse_mesh(text: str) -> MeshConfig:
  """ "1,-1,1" -> MeshConfig(1, -1, 1)."""
  from vsumjax.sharding import MeshConfig

  try:
    data, fsdp, tensor = map(int, text.split(","))
  except ValueError:
    raise InputError(f"--mesh: {text!r} is not three numbers, as 1,-1,1") from None
  return MeshConfig(data, fsdp, tensor)


def add_compile_check(commands) -> argparse.ArgumentParser:
  """The `compile-check` command."""
  parser = commands.add_parser(
    "compile-check", help="memory and predicted time on a TPU slice, without a TPU"
  )
  add_config(parser)
  parser.add_argument("--topology", required=True, help="of a slice, e.g. v5e:4x4, v5p:2x2x4")
  parser.add_argument("--slices", type=int, default=1, help="number of slices (1)")
  parser.add_argument("--program", default="train", help="train, score, cache or generate (train)")
  parser.add_argument(
    "--advise", action="store_true", help="search mesh, remat, rows, microbatches and options"
  )
  parser.add_argument("--out", type=Path, help="JSON file for all results")
  parser.add_argument("--hlo", type=Path, help="text file for the compiled program")
  parser.set_defaults(run=_compile_check)
  return parser


def _compile_check(args: argparse.Namespace) -> None:
  import jax

  from vsumjax.tpu import topologies

  # What compiles runs nowhere; a TPU that is there stays free.
  jax.config.update("jax_platforms", "cpu")
  topology = topologies.parse(args.topology, args.slices)
  from vsumjax.experiment.config import load_config
  from vsumjax.jobs.advise import advise
  from vsumjax.jobs.compile_check import compile_check

  config = load_config(args.config, args.overrides)
  if args.advise:
    if args.program != "train" or args.hlo:
      raise InputError("--advise: it is for the train step, and takes neither --program nor --hlo")
    advise(config, topology, out=args.out)
    return
  compile_check(config, topology, args.program, out=args.out, hlo=args.hlo)
