"""Train and test on the folds of a split, with seeds: what a training is worth on a benchmark.

Nothing about a test video reaches the training that it tests: the videos that the selection rule
(`train.keep_best`) may look at are carved out of the training videos, and the rule stands in the
config before anything is trained.

  OUT/plan.json                 what is done in this folder
  OUT/fold_0/manifest.jsonl     which videos are train, validation and test
  OUT/fold_0/seed_0/            the workdir of a training (see `workdir`), and
    test.json, validation.json  its scores of these videos, as `save_scores_file` writes them
  OUT/scores/seed_0.json        of all test videos, where each is tested by one fold
  OUT/evaluation.json           the report, with `CrossValidation.as_json` as "cross_validation"
  OUT/evaluation.html           the same to look at
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax

from vsumjax.data.manifest import load_manifest, save_manifest
from vsumjax.data.videos import Manifest, Video
from vsumjax.evaluation import context, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.folds import CrossValidation, Trained
from vsumjax.evaluation.folds_report import STUDENT, make_report, print_table
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.score_files import load_scores, save_scores_file
from vsumjax.evaluation.splits import Fold, Split, carve_validation
from vsumjax.evaluation.video_names import VideoNames
from vsumjax.experiment.config import ExperimentConfig, load_config
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run, run_training
from vsumjax.experiment.workdir import load_finished, load_student
from vsumjax.host.files import write_atomically
from vsumjax.host.progress import progress
from vsumjax.jobs.rescore import ALL, choose_protocols, save_report, show_report
from vsumjax.training.loop import TrainConfig
from vsumjax.types import InputError

_PARTS = ("test", "validation")
_BATCH_SIZE = 64
_MIN_COMPILE_S = 0.2


@dataclasses.dataclass(frozen=True)
class _Training:
  """One of a cross-validation. workdir: where it is done."""

  number: int
  fold: Fold
  seed: int
  workdir: Path
  config: ExperimentConfig


def cross_validate(
  config_spec: str,
  manifest: Path,
  videos: Sequence[AnnotatedVideo],
  split: Split,
  out: Path,
  *,
  seeds: Sequence[int] = (0, 1, 2),
  validation_share: float = 0.2,
  protocol: protocols.Protocol = protocols.BY_NAME["tvsum-rank"],
  overrides: Mapping[str, str] | None = None,
) -> CrossValidation:
  """Trains every fold with every seed, scores its test videos, prints and writes the report.

  What is finished is reused, and an interrupted training resumes from its last checkpoint,
  by the same command. What XLA compiles is shared by all trainings.

  Args:
    config_spec: of the trainings, as `load_config` takes it; `data.sets` and `train.seed` are
      replaced.
    manifest: of the videos and their labels. Its splits do not count, and `Video.id` is any of the
      names that the benchmark has for a video.
    videos: of the benchmark.
    split: the folds.
    out: folder of all results.
    seeds: of parameters and order.
    validation_share: of the training videos, carved out of each fold that has no validation part.
    protocol: the convention of the first table; the report has all that apply.
    overrides: of the config, as `load_config` takes them.

  Raises:
    InputError: no seeds or equal ones; a video of the split that the manifest lacks; one that the
      protocol can't measure; a config that can't be trained; an `out` that holds something else.
      Nothing is trained then.
  """
  if not seeds or len(set(seeds)) < len(seeds):
    raise InputError(f"seeds: needs one or more different numbers, is {list(seeds)}")
  split = _with_validation(split, validation_share, videos)
  protocols.check(_of_ids(videos, split.videos), protocol)
  whole = load_manifest(manifest)
  _keep_plan(out, split, whole)
  configs = _write_folds(config_spec, whole, videos, split, out, overrides or {})
  trainings = [
    _Training(number, fold, seed, out / f"fold_{number}" / f"seed_{seed}", _with_seed(config, seed))
    for (number, (fold, config)), seed in itertools.product(
      enumerate(zip(split.folds, configs, strict=True)), seeds
    )
  ]
  with _shared_compilations(out / "compiled"):
    _train_and_score(trainings)
  return _report(trainings, split, videos, protocol, out)


def _report(
  trainings: Sequence[_Training],
  split: Split,
  videos: Sequence[AnnotatedVideo],
  protocol: protocols.Protocol,
  out: Path,
) -> CrossValidation:
  """Measures finished trainings; writes and prints what they reach."""
  tested = [video for video in videos if any(video.id in fold.test for fold in split.folds)]
  if split.is_partition:
    _save_scores_by_seed(trainings, videos, out / "scores")
  chosen, skipped = choose_protocols(ALL, tested)
  with progress("measure random scores, priors and annotators") as update:
    rows = context.context_of_all(tested, chosen, update=update)
  result = CrossValidation(
    split=split,
    selection=_selection(trainings[0].config.train),
    protocol=protocol,
    trained=tuple(_measure(training, videos, protocol) for training in trainings),
    context=rows[chosen.index(protocol)],
  )
  tests = [(each.seed, _predictions(each, videos, "test")) for each in trainings]
  report = dataclasses.replace(
    make_report(result, tested, tests, list(zip(chosen, rows, strict=True))), skipped=skipped
  )
  save_report(report, out)
  print_table(result)
  show_report(report)
  return result


def _of_ids(videos: Sequence[AnnotatedVideo], ids: frozenset[str]) -> list[AnnotatedVideo]:
  return [video for video in videos if video.id in ids]


def _with_validation(split: Split, share: float, videos: Sequence[AnnotatedVideo]) -> Split:
  folds = []
  for fold in split.folds:
    train, validation = carve_validation(fold, share, videos=videos)
    folds.append(Fold(train, fold.test, validation))
  return dataclasses.replace(split, folds=tuple(folds))


def _keep_plan(out: Path, split: Split, manifest: Manifest) -> None:
  """Writes what is done in `out`, or refuses a folder where something else is done."""
  folds = [dataclasses.asdict(fold) for fold in split.folds]
  plan = json.loads(json.dumps({"manifest_digest": manifest.digest, "folds": folds}))
  path = out / "plan.json"
  if path.exists() and json.loads(path.read_text()) != plan:
    raise InputError(
      f"{path}: was made for other folds, validation parts or videos; use another --out"
    )
  write_atomically(path, json.dumps(plan, indent=1))


def _write_folds(
  config_spec: str,
  manifest: Manifest,
  videos: Sequence[AnnotatedVideo],
  split: Split,
  out: Path,
  overrides: Mapping[str, str],
) -> list[ExperimentConfig]:
  """The config of each fold, whose manifest is written, and which can be trained."""
  names = VideoNames(videos)
  by_id = {names.find(video.id).id: video for video in manifest.videos if video.id in names}
  for missing in sorted(split.videos - by_id.keys())[:1]:
    raise InputError(f"{manifest.path}: lacks {missing}, which the split {split.name!r} has")
  configs = []
  for number, fold in enumerate(split.folds):
    path = out / f"fold_{number}" / "manifest.jsonl"
    sets = json.dumps([{"manifest": str(path)}])
    config = load_config(config_spec, {**overrides, "data.sets": sets})
    path.parent.mkdir(parents=True, exist_ok=True)  # paths relative to it are looked for
    save_manifest(path, _videos_of(fold, by_id, config))
    configs.append(config)
  # Whatever is wrong with the config is said before the first training, not after it.
  build_run(build_experiment(configs[0]))
  return configs


def _videos_of(fold: Fold, by_id: Mapping[str, Video], config: ExperimentConfig) -> list[Video]:
  """The videos of a fold, in the splits that the config reads."""
  return [
    dataclasses.replace(by_id[id], split=getattr(config.task.data, f"{part}_split"))
    for part in ("train", "validation", "test")
    for id in getattr(fold, part)
  ]


def _with_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
  return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))


@contextlib.contextmanager
def _shared_compilations(folder: Path) -> Iterator[None]:
  """Within it, a program that XLA has compiled is found again, unless that is so anyway."""
  options = {
    "jax_compilation_cache_dir": str(folder),
    "jax_persistent_cache_min_compile_time_secs": _MIN_COMPILE_S,
  }
  before = {name: getattr(jax.config, name) for name in options}
  if before["jax_compilation_cache_dir"]:
    yield
    return
  try:
    for name, value in options.items():
      jax.config.update(name, value)
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


def _train_and_score(trainings: Sequence[_Training]) -> None:
  """Does what is not done, with one progress over the steps of all trainings."""
  total = sum(each.config.train.num_steps for each in trainings)
  done = 0
  with progress("cross-validate") as update:
    for index, each in enumerate(trainings, start=1):
      where = f"training {index}/{len(trainings)}: fold {each.number}, seed {each.seed}"

      def on_step(step: int, num_steps: int, note: str = "", done=done, where=where) -> None:
        update(done + step, total, f"{where}, {note}")

      run_training(each.config, each.workdir, on_step)
      _score(each)
      done += each.config.train.num_steps
      update(done, total, where)


def _score(training: _Training) -> None:
  """Writes the scores of the test and validation videos by the last exit."""
  paths = {part: training.workdir / f"{part}.json" for part in _PARTS}
  if all(path.exists() for path in paths.values()):
    return
  student = load_student(training.workdir)
  data = student.task.config.data
  for part, path in paths.items():
    source = student.task.source(getattr(data, f"{part}_split"))
    readouts = student.scorer(_BATCH_SIZE).read(source, lambda done, total, note="": None)
    scores = [readout.at_exit(readout.num_exits - 1) for readout in readouts]
    spans = {
      video.id: (each.span_s, each.score) for video, each in zip(source.videos, scores, strict=True)
    }
    save_scores_file(path, "spans", spans)


def _measure(
  training: _Training, videos: Sequence[AnnotatedVideo], protocol: protocols.Protocol
) -> Trained:
  results = {}
  for part in _PARTS:
    predictions = _predictions(training, videos, part)
    of_part = _of_ids(videos, frozenset(predictions))
    results[part] = protocols.evaluate(of_part, predictions, protocol, STUDENT)
  about = load_finished(training.workdir)
  return Trained(training.number, training.seed, **results, about=about)


def _predictions(
  training: _Training, videos: Sequence[AnnotatedVideo], part: str
) -> dict[str, Prediction]:
  """The scores of the test or validation videos, by video."""
  of_part = _of_ids(videos, frozenset(getattr(training.fold, part)))
  return load_scores(training.workdir / f"{part}.json", of_part)


def _selection(config: TrainConfig) -> str:
  """The rule that chooses parameters, in words."""
  averaged = " of their running mean" if config.ema_decay else ""
  if not config.keep_best:
    return f"the parameters{averaged} after the last step, {config.num_steps}"
  return (
    f"the parameters{averaged} with the lowest {config.keep_best} of those of every "
    f"{config.eval_every} steps up to {config.num_steps}"
  )


def _save_scores_by_seed(
  trainings: Sequence[_Training], videos: Sequence[AnnotatedVideo], folder: Path
) -> None:
  """One file a seed, of the videos of all folds, at their picks."""
  for seed in dict.fromkeys(training.seed for training in trainings):
    scores = {}
    for training in trainings:
      if training.seed == seed:
        predictions = _predictions(training, videos, "test")
        scores |= {id: prediction.score_P for id, prediction in predictions.items()}
    save_scores_file(folder / f"seed_{seed}.json", "picks", scores)
