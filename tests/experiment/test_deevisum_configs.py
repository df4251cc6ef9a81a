"""The configs of the paper's chain: the published sizes, and what each ablation changes."""

import re
from pathlib import Path

import jax
import pytest

from vsumjax.experiment.config import flatten, load_chain, load_config, to_dict
from vsumjax.experiment.experiment import build_experiment
from vsumjax.models.student import num_params
from vsumjax.types import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
STAGES = {"teacher": "teacher_28b", "mentor": "mentor_10b", "student": "student_3b"}
CHANGED = {  # by each ablation: keys of the student's config
  "no_kd": r"objective\.teachers.*",
  "single_stage": r"objective\.teachers.*",
  "mskd_last_exit": r"objective\.(exit_weights|prototype_weight)|model\.exits\..*",
  "mskd_exits": "nothing",
  "kl_reverse": r"objective\.teachers\[\d\]\.direction",
  "kl_js": r"objective\.teachers\[\d\]\.direction",
  "online": r"objective\.teachers\[\d\]\.cache",
  "ranking": r"objective\.ranking_weight",
  "self_distillation": r"objective\.self_distillation\.(weight|temperature)",
}


def _load(name, **overrides):
  return load_config(f"{CONFIGS}/deevisum/{name}.py:root=r", overrides)


def _flat(config):
  return flatten(to_dict(config))


@pytest.mark.parametrize(
  ("stage", "billions", "exits"),
  [("teacher", 27.65, (46,)), ("mentor", 9.66, (42,)), ("student", 3.03, (4, 8, 12, 26))],
)
def test_a_stage_has_the_published_size(stage, billions, exits, corpus):
  config = _load(
    STAGES[stage],
    tokenizer=str(corpus / "tokenizer.model"),
    **{"mesh.fsdp": "1", "model.quantize": ""},
  )
  assert config.task.model.exits.layers == exits
  experiment = build_experiment(config, jax.devices()[:1])
  assert num_params(experiment.abstract_params()) / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_student_learns_from_the_caches_of_the_stages_above():
  teachers = _load("student_3b").task.objective.teachers
  assert [t.cache for t in teachers] == ["r/mentor_cache", "r/teacher_cache"]
  assert {(t.weight, t.temperature, t.direction) for t in teachers} == {(0.5, 2.0, "forward")}
  chain = load_chain(f"{CONFIGS}/deevisum/chain.py:root=r")
  assert [(s.name, s.workdir, s.cache) for s in chain.stages] == [
    ("teacher", "r/teacher", "r/teacher_cache"),
    ("mentor", "r/mentor", "r/mentor_cache"),
    ("student", "r/student", ""),
  ]


@pytest.mark.parametrize(("name", "changed"), CHANGED.items())
def test_an_ablation_changes_what_its_name_says(name, changed):
  whole, ablated = _flat(_load("student_3b")), _flat(_load(f"ablations/{name}"))
  keys = {key for key in whole.keys() | ablated.keys() if whole.get(key) != ablated.get(key)}
  assert bool(keys) == (name != "mskd_exits")
  assert all(re.fullmatch(changed, key) for key in keys), keys


def test_every_ablation_is_tested():
  files = (CONFIGS / "deevisum" / "ablations").glob("*.py")
  assert {path.stem for path in files} == CHANGED.keys()


def test_an_unknown_option_names_the_known_ones():
  with pytest.raises(InputError, match="option 'rot'; known: root, manifest"):
    load_config(f"{CONFIGS}/deevisum/student_3b.py:rot=x")
