"""What a finished training leaves, and a trained model made of it again.

A workdir holds all that using the model needs:

  config.json      the ExperimentConfig
  tokenizer.model  a copy; of whatever else the task needs (`TaskConfig.FILES`), too
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
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsumjax import sharding
from vsumjax.contract import TaskConfig
from vsumjax.data.sets import DataSet
from vsumjax.experiment.config import ExperimentConfig, build_config, flatten, to_dict
from vsumjax.experiment.experiment import Experiment, build_experiment
from vsumjax.host.files import replacing, write_atomically
from vsumjax.inference.score import Scorer
from vsumjax.tasks.score.task import ScoreConfig, ScoreTask, require_score
from vsumjax.training import checkpoints, selection
from vsumjax.types import InputError

ON_EVERY_DEVICE = sharding.MeshConfig()
_FOLDERS = (checkpoints.FOLDER, selection.FOLDER)


def write_finished(workdir: Path, config: ExperimentConfig, finished: Mapping[str, Any]) -> None:
  """Makes a workdir whose training has ended complete; `finished` goes to FINISHED.json, last."""
  write_atomically(workdir / "config.json", json.dumps(to_dict(config), indent=1))
  for name, key in config.task.FILES.items():
    with replacing(workdir / name) as temporary:
      shutil.copyfile(getattr(config.task, key), temporary)
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
class Trained:
  """A trained model of any task."""

  experiment: Experiment
  params: Any
  params_digest: str

  def batch_size(self, rows: int) -> int:
    """At least `rows`, as many on every device."""
    return rows + -rows % self.experiment.mesh.size


@dataclasses.dataclass(frozen=True)
class Student(Trained):
  """A trained model of the task `score`."""

  @property
  def task(self) -> ScoreTask:
    return self.experiment.task

  def scorer(self, batch_size: int) -> Scorer:
    """A scorer of at least `batch_size` windows at once, as many on every device."""
    e = self.experiment
    return Scorer(self.task.model, self.params, e.mesh, e.rules, self.batch_size(batch_size))


def load_student(
  workdir: Path, manifest: str = "", *, mesh: sharding.MeshConfig | None = ON_EVERY_DEVICE
) -> Student:
  """A trained model of scores from its workdir; arguments and errors as of `load_trained`.

  Args:
    manifest: another manifest than the one it was trained on.
  """

  def on_manifest(config: ScoreConfig) -> ScoreConfig:
    return dataclasses.replace(
      config, data=dataclasses.replace(config.data, sets=(DataSet(manifest),))
    )

  change = on_manifest if manifest else None
  return as_student(load_trained(workdir, mesh=mesh, change=change))


def as_student(trained: Trained) -> Student:
  """The same, with what only models of scores can do.

  Raises:
    InputError: it was trained for another task.
  """
  require_score(trained.experiment.config.task, "what is asked of this model")
  return Student(trained.experiment, trained.params, trained.params_digest)


def load_trained(
  workdir: Path,
  *,
  mesh: sharding.MeshConfig | None = ON_EVERY_DEVICE,
  like: Experiment | None = None,
  change: Callable[[Any], TaskConfig] | None = None,
) -> Trained:
  """A trained model from its workdir.

  Args:
    workdir: what `launch/train.py` wrote.
    mesh: of all devices; None is the one it was trained on. By default each device holds all of
      the parameters.
    like: an experiment whose very mesh and rules are taken instead.
    change: of the task's config, before anything is built.

  Raises:
    InputError: unfinished or not a workdir, a checkpoint of another architecture, or a prompt that
      this version of the library lays out differently.
  """
  finished = load_finished(workdir)
  config = _load_config(workdir / "config.json")
  task = change(config.task) if change else config.task
  files = {key: str(workdir / name) for name, key in config.task.FILES.items()}
  config = dataclasses.replace(
    config,
    task=dataclasses.replace(task, **files),
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
  return Trained(experiment, params, finished["params_digest"])


def _check_same_model(workdir: Path, saved: Mapping[str, Any], experiment: Experiment) -> None:
  """Shapes alone do not tell a window of attention or a soft cap from another."""
  flat = flat_config(experiment.config)
  task = experiment.config.task
  keys = tuple(f"{key}." for key in task.MODEL_KEYS)
  here = {
    name: value
    for name, value in flat.items()
    if name.startswith(keys) and not re.fullmatch(task.FREE_KEYS, name)
  }
  for name, value in (here | experiment.task.digests()).items():
    if saved.get(name) != value:
      raise InputError(
        f"{workdir}: {name} is {saved.get(name)} in the checkpoint and {value} here; "
        "use the model with the config, prompt and tokenizer it was trained with"
      )


def flat_config(config: ExperimentConfig) -> dict[str, Any]:
  """The config as it comes back from JSON, by full key."""
  return flatten(json.loads(json.dumps(to_dict(config))))
