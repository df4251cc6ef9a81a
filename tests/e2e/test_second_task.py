"""The contract holds for a task that the trainer has never heard of (`lines_task`)."""

import json
import os

import pytest
from launched import Training, num_lines, result
from lines_task import LinesConfig, LinesIdentity, Source, V

from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.experiment.config import ChainConfig, StageConfig, build_config
from vsumjax.experiment.workdir import load_student, load_trained
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.chain import run_chain
from vsumjax.jobs.train import train
from vsumjax.jobs.verify_cache import verify_cache
from vsumjax.types import InputError

VALUES = {
  "task": "lines_task:LinesConfig",
  "width": 16,
  "train": {
    "num_steps": 30,
    "batch_size": 8,
    "seed": 0,
    "checkpoint_every": 5,
    "eval_every": 30,
    "log_every": 1,
  },
  "optimizer": {"learning_rate": 0.05, "warmup": 0.1, "weight_decay": 0.0, "clip_norm": 1.0},
}


def _values(*teachers, **changes):
  return VALUES | {"teachers": teachers, "train": VALUES["train"] | changes}


def _logged(workdir, name):
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  return train(build_config(_values()), tmp_path_factory.mktemp("lines") / "teacher")


@pytest.fixture(scope="module")
def cache(teacher):
  return cache_teacher(teacher, teacher.parent / "cache", batch_size=16)


def test_it_trains(teacher):
  losses = _logged(teacher, "validation/loss")
  assert losses[-1] < 0.8 * losses[0]
  trained = load_trained(teacher)
  assert trained.experiment.config.task == LinesConfig(16)
  assert trained.params["table"].shape == (V, 16)


def test_killed_it_ends_as_if_never(write_config, tmp_path, monkeypatch, request):
  helpers = str(request.config.rootpath / "tests" / "helpers")
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")]))
  config = write_config(tmp_path / "lines.py", _values())
  Training(config, tmp_path / "straight").finish()
  killed = Training(config, tmp_path / "killed")
  killed.wait_until(lambda: num_lines(killed.workdir) >= 12)
  killed.kill()
  assert Training(config, tmp_path / "killed").finish() % 5 == 1
  assert result(tmp_path / "killed") == result(tmp_path / "straight")


def test_its_cache_is_whole_and_its_own(teacher, cache, trained, tmp_path):
  checked = verify_cache(teacher, cache, batch_size=16)
  assert checked.num_records == len(Source("train"))
  assert 0 <= checked.largest_difference < 1e-4
  with pytest.raises(InputError, match="holds the answers of another task"):
    CacheReader(cache, {})
  scores = cache_teacher(trained, tmp_path / "scores", batch_size=8)
  with pytest.raises(InputError, match="holds the answers of another task"):
    CacheReader(scores, {}, LinesIdentity)


def test_a_student_learns_from_it_and_online_alike(teacher, cache, tmp_path):
  kl = {}
  for name, folder in (("cached", str(cache)), ("online", "")):
    train(build_config(_values(("t", str(teacher), folder), seed=1)), tmp_path / name)
    kl[name] = _logged(tmp_path / name, "train/kl_t")
  assert kl["cached"][-1] < kl["cached"][0] / 2


def test_a_chain_of_it(write_config, tmp_path):
  stages, teachers = [], []
  for name in ("teacher", "student"):
    workdir = str(tmp_path / name)
    cache = str(tmp_path / "cache") if name == "teacher" else ""
    config = write_config(tmp_path / f"{name}.py", _values(*teachers, num_steps=5))
    stages.append(StageConfig(name, str(config), workdir, cache))
    teachers.append(("t", workdir, cache))
  run_chain(ChainConfig(tuple(stages)))
  assert len(_logged(tmp_path / "student", "train/kl_t")) == 5


def test_what_is_of_another_task_is_refused(teacher, trained, tmp_path):
  with pytest.raises(InputError, match=r"config key objective: unknown; .*task 'lines_task:Lines"):
    build_config(_values() | {"objective": {}})
  with pytest.raises(InputError, match="config key task: 'lines' is not one of score"):
    build_config(_values() | {"task": "lines"})
  with pytest.raises(InputError, match=r"config key task: 'no.such:Task' cannot be imported"):
    build_config(_values() | {"task": "no.such:Task"})
  with pytest.raises(InputError, match="is for the task 'score', and this is 'lines'"):
    load_student(teacher)
  with pytest.raises(InputError, match=r"teachers\.workdir: .* was trained for the task 'score'"):
    train(build_config(_values(("t", str(trained), ""))), tmp_path / "run")
