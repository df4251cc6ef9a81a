"""Runs that start from a checkpoint: the same numbers, adapters and exits fresh, refusals."""

import json
import shutil

import jax
import numpy as np
import pytest
import qwix

from vsumjax import testing
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run, run_training
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.convert import convert
from vsumjax.models import quantization
from vsumjax.types import InputError

FORMATS = {"workdir": "", "ours": "ours", "Hugging Face": "hf", "npz": "x.npz"}


@pytest.fixture(scope="module")
def sources(trained, tmp_path_factory):
  """One trained model in every format."""
  root = tmp_path_factory.mktemp("formats")
  for name in filter(None, FORMATS.values()):
    kind = "hf" if name == "hf" else ""
    convert(trained, root / name, kind=kind, check_numbers=False)
  return {name: root / path if path else trained for name, path in FORMATS.items()}


def _start(config, num_devices=1):
  return build_run(build_experiment(config, jax.devices()[:num_devices])).init_state().params


def _leaves(params):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_starts_with_the_weights_of_any_format(make_config, sources, trained, name):
  expected = _leaves(load_student(trained).params)
  got = _leaves(_start(make_config(init_from=str(sources[name]))))
  assert got.keys() == expected.keys()
  for path, leaf in expected.items():
    np.testing.assert_array_equal(got[path], leaf, err_msg=path)


def test_the_weights_lie_in_their_shardings(make_config, sources):
  config = make_config(init_from=str(sources["ours"]), mesh={"data": 2, "fsdp": 2, "tensor": 2})
  params = _start(config, num_devices=8)
  linear = params["llm"]["layers"]["mlp"]["linear"]
  assert linear.sharding.shard_shape(linear.shape) == (3, 32, 16)
  alone = _leaves(_start(make_config(init_from=str(sources["ours"]))))
  for path, leaf in _leaves(params).items():
    np.testing.assert_array_equal(leaf, alone[path], err_msg=path)


def test_adapters_are_fresh_and_the_base_is_quantised_from_the_checkpoint(make_config, sources):
  lora = {"rank": 2, "alpha": 4.0, "targets": ["llm/layers/.*"]}
  changes = {"model.lora": lora, "model.quantize": "int8", "model.param_dtype": "bfloat16"}
  config = make_config(init_from=str(sources["Hugging Face"]), **changes)
  mlp = _start(config)["llm"]["layers"]["mlp"]
  plain = _start(make_config(init_from=str(sources["Hugging Face"])))["llm"]["layers"]["mlp"]
  tiles = quantization.tile_shape("int8", (64, 32), (0,))
  expected = [quantization.quantize(w, "int8", tiles) for w in plain["linear"]]
  assert isinstance(mlp["linear"], qwix.QArray)
  for layer, q in enumerate(expected):
    testing.assert_same_up_to_rounding(mlp["linear"].scale[layer], q.scale, ulps=2)
    # What lies halfway between two levels may be rounded either way by another program.
    levels = [np.asarray(x, np.int32) for x in (mlp["linear"].qvalue[layer], q.qvalue)]
    assert np.abs(levels[0] - levels[1]).max() <= 1
  assert np.asarray(mlp["linear_lora_a"]).std() > 0
  assert not np.asarray(mlp["linear_lora_b"]).any()


def test_exits_that_a_checkpoint_lacks_are_fresh(make_config, sources, tmp_path):
  for name in ("config.json", "model.safetensors", "tokenizer.model"):
    (tmp_path / "hf").mkdir(exist_ok=True)
    shutil.copyfile(sources["Hugging Face"] / name, tmp_path / "hf" / name)
  got = _leaves(_start(make_config(init_from=str(tmp_path / "hf"))))
  trained = _leaves(_start(make_config(init_from=str(sources["Hugging Face"]))))
  for path, leaf in trained.items():
    assert np.array_equal(got[path], leaf) == (not path.startswith("exits/")), path


def test_a_run_that_starts_from_a_checkpoint_trains_and_resumes(make_config, sources, tmp_path):
  config = make_config(init_from=str(sources["npz"]))
  whole = run_training(config, tmp_path / "whole", lambda *update: None)
  shutil.copytree(whole, tmp_path / "again")
  shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
  (tmp_path / "again" / "FINISHED.json").unlink()
  again = run_training(config, tmp_path / "again", lambda *update: None)
  digests = [json.loads((d / "FINISHED.json").read_text()) for d in (whole, again)]
  assert digests[0] == digests[1]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model.llm.sliding_window": 4}, "llm.sliding_window is 8 there and .* is 4"),
    ({"model.llm.vocab_size": 600}, "llm.vocab_size is 512 there and .* is 600"),
    ({"init_from": "no/such"}, "no/such: no such file or folder"),
  ],
)
def test_another_architecture_is_refused(make_config, sources, changes, message):
  config = make_config(**{"init_from": str(sources["ours"])} | changes)
  with pytest.raises(InputError, match=message):
    _start(config)
