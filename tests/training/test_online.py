"""Teachers run in the step: the same numbers as from their caches, and what is refused."""

import json

import pytest

from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run
from vsumjax.jobs.cache_teacher import cache_teacher
from vsumjax.jobs.train import train
from vsumjax.types import InputError

STEPS = {"train.num_steps": 20, "train.checkpoint_every": 20, "train.eval_every": 20}


@pytest.fixture(scope="module")
def teachers(trained, make_config, tmp_path_factory):
  """{name: (workdir, cache)} of two that differ in their number of layers."""
  root = tmp_path_factory.mktemp("teachers")
  changes = {"model.llm.depth": 2, "model.exits.layers": (2,), "objective.exit_weights": (1.0,)}
  mentor = train(make_config(**{"train.num_steps": 2}, **changes), root / "mentor")
  found = {"mentor": mentor, "teacher": trained}
  return {
    name: (workdir, cache_teacher(workdir, root / f"{name}_cache", batch_size=8))
    for name, workdir in found.items()
  }


def _config(make_config, teachers, cached, **changes):
  entries = tuple(
    {
      "name": name,
      "workdir": str(workdir),
      "cache": str(cache) if name in cached else "",
      "weight": 0.5,
      "temperature": 2.0,
      "direction": direction,
    }
    for (name, (workdir, cache)), direction in zip(teachers.items(), ("forward", "js"), strict=True)
  )
  return make_config(**STEPS, **{"objective.teachers": entries, "train.seed": 3}, **changes)


def _losses(config, workdir):
  train(config, workdir)
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  names = ("train/loss", "train/kl_mentor", "train/kl_teacher")
  return [[line[name] for name in names] for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def cached_losses(make_config, teachers, tmp_path_factory):
  config = _config(make_config, teachers, {"mentor", "teacher"})
  return _losses(config, tmp_path_factory.mktemp("cached"))


# One of each kind asks a teacher in the step, too, and puts its answer among the cached ones.
@pytest.mark.parametrize("cached", [pytest.param((), marks=pytest.mark.long), ("teacher",)])
def test_losses_are_those_of_the_caches_at_every_step(
  cached, make_config, teachers, cached_losses, tmp_path
):
  online = _losses(_config(make_config, teachers, cached), tmp_path)
  assert len(online) == 20
  for here, there in zip(online, cached_losses, strict=True):
    assert here == pytest.approx(there, abs=1e-5)
  first, last = cached_losses[0], cached_losses[-1]
  assert min(first) > 1e-3
  assert abs(first[0] - last[0]) > 1e-2  # it learned: the steps differ


def test_a_teacher_of_another_prompt_is_refused(make_config, teachers):
  config = _config(make_config, teachers, (), **{"prompt.text_tokens": 63})
  with pytest.raises(InputError, match=r"objective.teachers\[0\].workdir: .*prompt"):
    build_run(build_experiment(config))


def test_a_teacher_without_a_finished_training_is_refused(make_config, teachers, tmp_path):
  broken = teachers | {"teacher": (tmp_path / "nothing", "")}
  with pytest.raises(InputError, match=r"objective.teachers\[1\].workdir: .*no such folder"):
    build_run(build_experiment(_config(make_config, broken, ())))
