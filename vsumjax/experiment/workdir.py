"""What a finished training leaves, and a trained model made of it again.

A workdir holds all that using the model needs:

  config.json      the ExperimentConfig
  tokenizer.model  a copy
  checkpoints/     see `training.checkpoints`
  selected/        see `training.selection`; only with train.keep_best or train.ema_decay
  metrics.jsonl    see `training.metrics`
  events/          the same for TensorBoard
  profile/         see `training.profiling`; only if it was asked for
  FINISHED.json    written last: {"step", "params_digest"} of the parameters the run is used with;
                   "folder" where they are not in checkpoints/, "metric" and "value" if they are
                   the best by one
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsumjax import sharding
from vsumjax.data.sets import DataSet
from vsumjax.experiment.config import ExperimentConfig, build_config, flatten, to_dict
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.host.files import replacing, write_atomically
from vsumjax.inference.score import Scorer
from vsumjax.training import checkpoints, selection
from vsumjax.types import InputError

ON_EVERY_DEVICE = sharding.MeshConfig()
_FOLDERS = (checkpoints.FOLDER, selection.FOLDER)


def write_finished(workdir: Path, config: ExperimentConfig, finished: Mapping[str, Any]) -> None:
  """Makes a workdir whose training has ended complete; `finished` goes to FINISHED.json, last."""
  write_atomically(workdir / "config.json", json.dumps(to_dict(config), indent=1))
  with replacing(workdir / "tokenizer.model") as temporary:
    shutil.copyfile(config.tokenizer, temporary)
  write_atomically(workdir / "FINISHED.json", json.dumps(finished))


def load_finished(workdir: Path) -> dict[str, Any]:
  """FINISHED.json of a workdir; InputError if its training has not ended, or if it is broken."""
  path = workdir / "FINISHED.json"
  if not path.exists():
    what = "training has not finished there" if workdir.is_dir() else "no such folder"
    raise InputError(f"{workdir}: {what} (FINISHED.json is missing)")
  finished = _load_json(path)
  is_whole = isinstance(finished, dict) and all(
    isinstance(finished.get(field), kind) for field, kind in (("step", int), ("params_digest", str))
  )
  if not is_whole or finished.get("folder", checkpoints.FOLDER) not in _FOLDERS:
    raise InputError(f"{path}: its content was changed; delete it and give the training command")
  return finished


def _load_json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: cannot be read: {error}; train again in another folder") from error


def _load_config(path: Path) -> ExperimentConfig:
  values = _load_json(path)
  try:
    return build_config(values)
  except InputError as error:
    raise InputError(f"{path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Student:
  """A trained model, ready to score."""

  experiment: Experiment
  params: Any
  params_digest: str

  def scorer(self, batch_size: int) -> Scorer:
    """A scorer of at least `batch_size` windows at once, as many on every device."""
    e = self.experiment
    batch_size += -batch_size % e.mesh.size
    return Scorer(e.model, self.params, e.mesh, e.rules, batch_size)


def load_student(
  workdir: Path,
  manifest: str = "",
  *,
  mesh: sharding.MeshConfig | None = ON_EVERY_DEVICE,
  like: Experiment | None = None,
) -> Student:
  """A trained model from its workdir.

  Args:
    workdir: what `launch/train.py` wrote.
    manifest: another manifest than the one it was trained on.
    mesh: of all devices; None is the one it was trained on. By default each device holds all of
      the parameters.
    like: an experiment whose very mesh and rules are taken instead.

  Raises:
    InputError: unfinished or not a workdir, a checkpoint of another architecture, or a prompt that
      this version of the library lays out differently.
  """
  finished = load_finished(workdir)
  config = _load_config(workdir / "config.json")
  data = config.data
  if manifest:
    data = dataclasses.replace(data, sets=(DataSet(manifest),))
  config = dataclasses.replace(
    config,
    tokenizer=str(workdir / "tokenizer.model"),
    data=data,
    mesh=like.config.mesh if like else mesh or config.mesh,
    rules=like.rules if like else config.rules,
  )
  experiment = build_experiment(config, like.mesh.devices.flatten() if like else None)
  folder = finished.get("folder", checkpoints.FOLDER)
  saver = checkpoints.Checkpoints(workdir, folder=folder, create=False)
  try:
    _check_same_model(workdir, saver.load_meta(finished["step"]), experiment)
    params = saver.restore_params(finished["step"], experiment.abstract_params())
  finally:
    saver.close()
  return Student(experiment, params, finished["params_digest"])


def _check_same_model(workdir: Path, saved: Mapping[str, Any], experiment: Experiment) -> None:
  """Shapes alone do not tell a window of attention or a soft cap from another."""
  flat = flat_config(experiment.config)
  here = {name: value for name, value in flat.items() if name.startswith(("model.", "prompt."))}
  here |= {
    "tokenizer_digest": experiment.tokenizer.digest,
    "prompt_digest": experiment.prompt_digest,
  }
  for name, value in here.items():
    if saved.get(name) != value:
      raise InputError(
        f"{workdir}: {name} is {saved.get(name)} in the checkpoint and {value} here; "
        "use the model with the config, prompt and tokenizer it was trained with"
      )


def flat_config(config: ExperimentConfig) -> dict[str, Any]:
  """The config as it comes back from JSON, by full key."""
  return flatten(json.loads(json.dumps(to_dict(config))))
