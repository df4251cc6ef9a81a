"""Strict conversion, overrides, and one clear line for whatever is wrong in a config."""

import dataclasses
import json
from pathlib import Path

import pytest

from vsumjax.data.sets import DataSet
from vsumjax.experiment import config
from vsumjax.experiment.config import build_config, flatten, load_config, to_dict
from vsumjax.models import families
from vsumjax.models.lora import LoraConfig
from vsumjax.tasks.score import task
from vsumjax.types import InputError

DEMO = Path(__file__).parents[2] / "configs" / "demo.py"


def test_what_is_saved_as_json_comes_back_the_same(make_config):
  changed = make_config(**{"train.seed": 7, "rules.kv_heads": ("fsdp", "tensor"), "mesh.fsdp": 2})
  teacher = {"name": "t", "workdir": "w", "cache": "c", "direction": "reverse"}
  values = to_dict(changed)
  values["objective"]["teachers"] = [teacher | {"weight": 1, "temperature": 2.5}]
  changed = build_config(values)
  assert build_config(json.loads(json.dumps(to_dict(changed)))) == changed
  assert changed != make_config()
  assert changed.task.objective.teachers[0].weight == 1.0
  assert isinstance(changed.task.objective.teachers[0].weight, float)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train.sede": 3}, "config key train.sede: unknown; did you mean train.seed?"),
    ({"trian.seed": 3}, "config key trian: unknown; did you mean train?"),
    ({"model.llm.qqq": 3}, "config key model.llm.qqq: unknown; known: vocab_size, width"),
    ({"train.seed": "three"}, "config key train.seed: expected int, got 'three'"),
    ({"train.seed": 1.5}, "config key train.seed: expected int, got 1.5"),
    ({"train.seed": True}, "config key train.seed: expected int, got True"),
    ({"model.remat": 1}, "config key model.remat: expected bool, got 1"),
    ({"optimizer.learning_rate": "1e-3 "}, "config key optimizer.learning_rate: expected float"),
    ({"optimizer.learning_rate": None}, "config key optimizer.learning_rate: expected float"),
    ({"tokenizer": 3}, "config key tokenizer: expected str, got 3"),
    ({"train": 3}, "config key train: expected a group of keys, got 3"),
    ({"model.exits.layers": 3}, "config key model.exits.layers: expected a list, got 3"),
    ({"model.exits.layers": [1, "2", 3]}, "config key model.exits.layers[1]: expected int"),
    ({"objective.exit_weights": "123"}, "config key objective.exit_weights: expected a list"),
    ({"objective.teachers": [{}]}, "config key objective.teachers[0].name: missing"),
    ({"rules.batch": 3}, "config key rules.batch: expected str | tuple[str, ...] | None, got 3"),
    ({"model.llm.num_heads": 3}, "model.llm.num_kv_heads: 2 does not divide the 3 query heads"),
    ({"model.llm.width": 0}, "model.llm.width: 0 must be positive"),
    ({"model.llm.head_size": 5}, "model.llm.head_size: 5 is odd"),
    ({"model.lora": {"rank": -1}}, "model.lora.rank: -1 is less than 0"),
    ({"model.lora": {"rank": 2, "targets": []}}, "model.lora.targets: none, with model.lora.rank"),
    ({"model.lora": {"targets": ["llm/("]}}, "model.lora.targets: 'llm/(' is not a regular"),
    ({"model.lora": {"targets": "llm"}}, "config key model.lora.targets: expected a list"),
    ({"model.lora": {"alpha": 0}}, "model.lora.alpha: 0.0 is not above 0"),
    ({"model.lora": {"rnak": 2}}, "config key model.lora.rnak: unknown; did you mean model.lora."),
    ({"model.quantize": "int3"}, "model.quantize: 'int3' is not one of '', 'int8', 'int4'"),
    ({"model.param_dtype": "f32"}, "model.param_dtype: 'f32' is neither 'float32' nor 'bfloat16'"),
    ({"model.img.num_heads": 3}, "model.img.num_heads: 3 does not divide model.img.width"),
    ({"model.img.patch_size": 3}, "model.img.patch_size: 3 does not divide the 16 pixels"),
    ({"model.img.depth": 0}, "model.img.depth: 0 must be positive"),
    ({"prompt.image_size": 32}, "prompt.image_size: 32 is not model.img.image_size, 16"),
    ({"prompt.tokens_per_frame": 5}, "prompt.tokens_per_frame: 5 is not the square of a number"),
    ({"prompt.tokens_per_frame": 9}, "prompt.tokens_per_frame: 9 is not the square of a number"),
    ({"model.exits.prototypes": True}, "objective.prototype_weight: 0.0 with model."),
    ({"objective.prototype_weight": 1.0}, "objective.prototype_weight: 1.0 with model."),
    ({"objective.prototype_weight": -1}, "objective.prototype_weight: -1.0 must be 0 or more"),
    ({"objective.prototype_weight": float("nan")}, "objective.prototype_weight: nan must be 0"),
    ({"optimizer.learning_rate": 10**400}, "config key optimizer.learning_rate: a number of 401"),
    ({"objective.exit_weights": [1.0]}, "objective.exit_weights: 1 weights for 3 exits"),
    ({"data.targets": "soft"}, "data.targets: must be one of histogram, hard, is 'soft'"),
    ({"train.batch_size": 0}, "train.batch_size: 0 is less than 1"),
    ({"train.seed": 1 << 32}, "train.seed: 4294967296 is not less than 4294967296"),
    ({"train.log_every": 0}, "train.log_every: 0 is less than 1"),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named_by_its_full_key(make_config, changes, message):
  with pytest.raises(InputError) as raised:
    make_config(**changes)
  assert str(raised.value).startswith(message)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["train.seed", "train", "tokenizer", "model.img.depth"])
def test_a_missing_key_is_named(config_values, key):
  values = config_values()
  *groups, name = key.split(".")
  group = values
  for part in groups:
    group = group[part]
  del group[name]
  with pytest.raises(InputError, match=f"config key {key}: missing"):
    build_config(values)


def test_flatten_names_every_value_by_its_full_key():
  nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": [{"f": 3}, {"f": 4}], "g": ()}
  assert flatten(nested) == {"a.b": 1, "a.c.d": [1, 2], "e[0].f": 3, "e[1].f": 4, "g": ()}


@pytest.mark.parametrize("stage", ["teacher", "mentor", "student"])
def test_the_demo_config_builds_every_stage(stage):
  built = load_config(f"{DEMO}:{stage},seed=4,root=somewhere")
  assert built.train.seed == 4
  assert built.task.tokenizer == "somewhere/tokenizer.model"
  num_teachers = {"teacher": 0, "mentor": 1, "student": 2}[stage]
  assert len(built.task.objective.teachers) == num_teachers


def test_a_published_model_is_named_and_changed(config_values, write_config, tmp_path):
  values = config_values(**{"prompt.image_size": 224, "prompt.tokens_per_frame": 256})
  values["model"] = {"family": "paligemma2_3b_224", "lora": {"rank": 16}, "quantize": "int4"}
  values["objective"]["exit_weights"] = [1.0]
  path = write_config(tmp_path / "c.py", values)
  built = load_config(str(path), {"model.dtype": "float32"})
  published = families.paligemma("paligemma2_3b_224")
  expected = dataclasses.replace(
    published, lora=LoraConfig(rank=16), quantize="int4", dtype="float32"
  )
  assert built.task.model == expected
  with pytest.raises(InputError, match="unknown; did you mean paligemma2_3b_224"):
    load_config(str(path), {"model.family": "paligemma2_3b_225"})


def test_overrides_reach_any_depth_and_keep_their_types():
  overrides = {
    "train.seed": "3",
    "optimizer.learning_rate": "1e-4",
    "model.remat": "true",
    "model.lora.rank": "8",
    "model.lora.targets": '["llm/layers/attn/.*"]',
    "model.quantize": "int4",
    "model.exits.layers": "[1, 4]",
    "objective.exit_weights": "[1, 2.5]",
    "data.sets": '[{"manifest": "a=b.jsonl"}, {"manifest": "c", "weight": 3}]',
    "mesh.fsdp": "2",
  }
  built = load_config(f"{DEMO}:student,kd=none", overrides)
  assert built.train.seed == 3
  assert built.optimizer.learning_rate == 1e-4
  assert built.task.model.remat is True
  assert built.task.model.lora == LoraConfig(8, 16.0, ("llm/layers/attn/.*",))
  assert built.task.model.quantize == "int4"
  assert built.task.model.exits.layers == (1, 4)
  assert built.task.objective.exit_weights == (1.0, 2.5)
  assert built.task.data.sets == (DataSet("a=b.jsonl"), DataSet("c", 3))
  assert built.mesh.fsdp == 2


@pytest.mark.parametrize(
  ("key", "text", "message"),
  [
    ("train.sede", "3", "config key train.sede: unknown; did you mean train.seed?"),
    ("train.seed", "abc", "config key train.seed: expected int, got 'abc'"),
    ("train.seed.x", "3", "config key train.seed.x: seed holds a value"),
    ("objective.teachers.weight", "3", "config key objective.teachers.weight: teachers holds"),
    ("train.seed", "1" * 5000, "config key train.seed: Exceeds the limit"),
    ("model.family", "3", "config key model.family: expected str, got 3"),
    ("model.family", "[1]", "config key model.family: expected str, got [1]"),
  ],
)
def test_bad_overrides_are_named(key, text, message):
  with pytest.raises(InputError) as raised:
    load_config(f"{DEMO}:student", {key: text})
  assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
  ("source", "arg", "named"),
  [
    ("x = (", "", "SyntaxError"),
    ("import not_a_module_of_this_world", "", "not_a_module_of_this_world"),
    ("x = 1", "", "get_config"),
    ("def get_config(arg): return 3", ":a", "to_dict"),
    ("def get_config(): return unknown_name", "", "unknown_name"),
    ("def get_config(arg): return {'a': 1}[arg]", ":foo", "get_config('foo') failed: KeyError"),
    ("def get_config(): return 3", ":foo", "get_config('foo') failed: TypeError"),
    ("def get_config(arg): return 3", "", "get_config() failed: TypeError"),
    ("raise ValueError('two\\nlines')", "", "ValueError"),
  ],
)
def test_a_broken_config_file_is_named_in_one_line(tmp_path, source, arg, named):
  path = tmp_path / "broken.py"
  path.write_text(source + "\n")
  with pytest.raises(InputError) as raised:
    load_config(f"{path}{arg}")
  assert str(path) in str(raised.value)
  assert named in str(raised.value)
  assert "\n" not in str(raised.value)


def test_a_missing_config_file_is_named():
  with pytest.raises(InputError, match=r"nowhere\.py: no such config file"):
    load_config("nowhere.py:teacher")


@pytest.mark.parametrize(
  ("option", "named"),
  [
    ("exits=lats", "lats"),
    ("online=yes", "yes"),
    ("kd=mksd", "mksd"),
    ("directoin=js", "directoin"),
  ],
)
def test_a_misspelt_option_of_the_demo_is_named(option, named):
  with pytest.raises(InputError, match=named):
    load_config(f"{DEMO}:student,{option}")


def test_an_unknown_stage_is_named():
  with pytest.raises(InputError, match=r"demo\.py: get_config\('foo'\) failed: .*foo"):
    load_config(f"{DEMO}:foo")


def test_every_config_is_frozen():
  kinds = [kind for module in (config, task) for kind in vars(module).values()]
  kinds = [kind for kind in kinds if getattr(kind, "__name__", "").endswith("Config")]
  kinds = [kind for kind in kinds if dataclasses.is_dataclass(kind)]  # not protocols
  assert len(kinds) >= 10
  for kind in kinds:
    assert kind.__dataclass_params__.frozen, kind
