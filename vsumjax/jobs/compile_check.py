"""Compiles the program of a config for a TPU slice, without a TPU, and predicts how it runs."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from vsumjax import sharding
from vsumjax.data.tokenizer import train_tokenizer
from vsumjax.experiment.config import ExperimentConfig
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.experiment.programs import MAX_NEW_TOKENS, PROGRAMS, Program
from vsumjax.host.files import write_atomically
from vsumjax.tasks.score.task import ScoreConfig, require_score
from vsumjax.tpu import flops, report, topologies
from vsumjax.tpu.links import Links, coords_of
from vsumjax.training import partition
from vsumjax.types import InputError

_GIB = 1 << 30


class DoesNotFit(InputError):
  """A program needs more memory than there is; `sizes` are (needed, there) in bytes, or None."""

  def __init__(self, message: str, sizes: tuple[int, int] | None) -> None:
    super().__init__(message)
    self.sizes = sizes


@dataclasses.dataclass(frozen=True)
class Checked:
  """A report, and the program's text."""

  report: dict[str, Any]
  hlo: str


def compile_check(
  config: ExperimentConfig,
  topology: topologies.Topology,
  program: str = "train",
  *,
  out: Path | None = None,
  hlo: Path | None = None,
) -> dict[str, Any]:
  """Compiles, prints tables and writes `out` (JSON) and `hlo` (text).

  Raises:
    InputError: what the config cannot be built for, rows or a mesh that do not fit the slice, a
      program that needs more memory than there is, naming a setting that works.
  """
  checked = check(config, topology, program)
  report.print_report(checked.report, Console())
  if hlo:
    write_atomically(hlo, checked.hlo)
  if out:
    write_atomically(out, json.dumps(checked.report, indent=1))
  return checked.report


def check(config: ExperimentConfig, topology: topologies.Topology, program: str) -> Checked:
  """Compiles one program; errors as of `compile_check`."""
  if program not in PROGRAMS:
    raise InputError(f"--program: {program!r} is not one of {', '.join(PROGRAMS)}")
  devices = topologies.get_devices(topology)
  with tempfile.TemporaryDirectory() as folder:
    config = _with_tokenizer(config, Path(folder))
    experiment = _build(config, devices, topology)
    built = PROGRAMS[program](experiment)
  started = time.monotonic()
  print(f"compiling {program} for {len(devices)} devices; a minute or two", file=sys.stderr)
  compiled = _compile(built, config, topology)
  links = Links(topology, coords_of(experiment.mesh.devices.flat))
  needed = model_flops(experiment, program)
  found = report.build_report(compiled, built.args, topology, links, needed)
  head = {"program": program, "rows": config.train.batch_size, "mesh": dict(experiment.mesh.shape)}
  found = head | found | {"compile_s": time.monotonic() - started}
  return Checked(found, compiled.as_text())


def _with_tokenizer(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
  """A small tokenizer in place of one that is not there: shapes and FLOPs do not depend on it."""
  task = require_score(config.task, "compile-check")
  if task.objective.trains_text:
    raise InputError(
      "objective: the shapes of texts are those of the caches; set text_weight to 0 to compile"
    )
  if Path(task.tokenizer).exists():
    return config
  print(f"{task.tokenizer}: not there; a small tokenizer stands in", file=sys.stderr)
  path = folder / "tokenizer.model"
  texts = ["what is said, heard and shown in a part of the video", *task.prompt.score_tokens]
  train_tokenizer(texts, path, 600, task.prompt.window)
  return dataclasses.replace(config, task=dataclasses.replace(task, tokenizer=str(path)))


def _build(
  config: ExperimentConfig, devices: list[Any], topology: topologies.Topology
) -> Experiment:
  experiment = build_experiment(config, devices)
  rows, parts = config.train.batch_size, config.train.accumulate
  spread = sharding.batch_sharding(experiment.mesh, experiment.rules)
  count = len(devices) // experiment.mesh.shape["tensor"]
  try:
    spread.shard_shape((rows // parts,))
  except ValueError:
    step = count * parts
    nearest = max(step, round(rows / step) * step)
    raise InputError(
      f"train.batch_size: {rows} rows in {parts} parts do not divide among the {count} places of "
      f"mesh {dict(experiment.mesh.shape)} on {topology.name}; {nearest} do"
    ) from None
  return experiment


def _compile(
  built: Program, config: ExperimentConfig, topology: topologies.Topology
) -> jax.stages.Compiled:
  try:
    return built.compile()
  except jax.errors.JaxRuntimeError as error:
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
      reason = " ".join(text.split())[:300]
      raise InputError(f"{topology.name}: the compiler refuses the program: {reason}") from error
    raise DoesNotFit(_too_large(text, config, topology), report.exhausted(text)) from error


def _too_large(text: str, config: ExperimentConfig, topology: topologies.Topology) -> str:
  """The numbers of an error for want of memory, and what to change."""
  found = report.exhausted(text)
  sizes = "{:.2f} of {:.2f} GiB".format(*(x / _GIB for x in found)) if found else "more than it has"
  task = config.task
  hints = []
  if isinstance(task, ScoreConfig) and not task.model.remat:
    hints.append("model.remat=true")
  if config.train.accumulate < config.train.batch_size:
    hints.append(f"train.accumulate={config.train.accumulate * 2}")
  hints.append(f"fewer rows than train.batch_size={config.train.batch_size}, or a larger slice")
  return f"{topology.name}: does not fit: needs {sizes} of a device; try {', '.join(hints)}"


def model_flops(experiment: Experiment, program: str) -> float:
  """FLOPs that the model needs for one run of a program, on all devices."""
  task = require_score(experiment.config.task, "compile-check")
  params = experiment.abstract_params()
  shapes = {path: leaf.shape for path, leaf in sharding.by_path(params).items()}
  rows, prompt = experiment.config.train.batch_size, task.prompt
  sizes = flops.Sizes(
    rows=rows,
    tokens=prompt.sequence_length,
    images=rows * prompt.window * prompt.frames_per_segment,
    pooled=prompt.tokens_per_frame,
    scores=prompt.window,
  )
  if program == "train":
    trained, _ = partition.split(params, experiment.config.optimizer.freeze)
    paths = frozenset(sharding.by_path(trained))
    return flops.train_flops(task.model, sizes, shapes, paths)
  if program == "generate":
    tokens = sizes.tokens + MAX_NEW_TOKENS - 1
    sizes = dataclasses.replace(sizes, tokens=tokens, texts=MAX_NEW_TOKENS)
  return flops.forward_flops(task.model, sizes, shapes)
