"""big_vision's train step beside ours: the command, the table, and what its step computes.

BIG_VISION names the folder of a checkout; without one the tests of its step are skipped.
"""

import dataclasses
import io
import os
import re
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from vsumjax import testing
from vsumjax.benchmarks import big_vision, big_vision_step, gpu
from vsumjax.convert import big_vision as its_modules
from vsumjax.models import exits, families
from vsumjax.tpu import topologies

GIB = 1 << 30
CONFIG = testing.tiny_config(exits=exits.ExitsConfig((3,)), dtype="bfloat16")


@pytest.fixture
def source(monkeypatch):
  monkeypatch.setattr(sys, "path", [*sys.path])  # processes of other tests are not to find it
  if its_modules.CHECKOUT not in os.environ:
    pytest.skip(f"{its_modules.CHECKOUT} does not name a checkout of big_vision")
  with jax.numpy_rank_promotion("allow"):  # as its modules count on
    yield Path(os.environ[its_modules.CHECKOUT])


def build(source, config=CONFIG, **changes):
  return big_vision_step.build(config, 8, 6, source=source, **changes)


def made_up(name, ms, **changes):
  report = {
    "name": name, "predicted_ms": ms, "floor_ms": ms / 2, "mfu": 0.4, "fits": True,
    "hbm_peak_bytes": 8 * GIB, "hbm_capacity_bytes": 16 * GIB,
  }  # fmt: skip
  return report | changes


def shown(programs):
  """The lines of a table of programs at 128 rows."""
  console = Console(file=io.StringIO(), width=120)
  rows = [{"rows": 128, "programs": big_vision.with_ratios(programs)}]
  big_vision.print_report({"topology": "v5e:4x4", "rows": rows}, console)
  return [" ".join(re.split(r"[│\s]+", line)) for line in console.file.getvalue().splitlines()]


def test_the_table_has_ratios():
  ours = made_up(big_vision.OURS, 600.0)
  theirs = made_up("as_published", 1500.0, mfu=0.16, floor_ms=450.0, mfu_with_vocabulary=0.18)
  lines = shown([ours, theirs])
  assert " 128 ours 600 1.00 300 40.0 % 8.00 " in lines
  assert " 128 big_vision float32 1,500 2.50 450 16.0 % 18.0 % 8.00 " in lines


def test_what_does_not_fit_has_no_ratio():
  too_large = {
    "name": "bfloat16", "fits": False, "hbm_peak_bytes": 20 * GIB, "hbm_capacity_bytes": 16 * GIB
  }  # fmt: skip
  lines = shown([made_up(big_vision.OURS, 600.0), too_large])
  assert " 128 big_vision bfloat16 does not fit: 20.00 of 16.00 GiB " in lines
  lines = shown([too_large | {"name": big_vision.OURS}, made_up("bfloat16", 600.0)])
  assert " 128 big_vision bfloat16 600 300 40.0 % 8.00 " in lines


def test_a_folder_that_is_no_checkout_is_refused(run_cli, tmp_path):
  status, _, err = run_cli("benchmark", "big_vision", "--source", tmp_path)
  assert status == 2
  assert f"{tmp_path} holds no big_vision/models/proj/paligemma/paligemma.py" in err
  assert "git clone https://github.com/google-research/big_vision" in err
  assert len(err.splitlines()) == 1


def test_without_a_checkout_it_says_what_to_give(run_cli):
  status, _, err = run_cli("benchmark", "big_vision")
  assert status == 2
  assert "needs --source, the folder of a checkout: git clone" in err
  assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--topology", "v5e:3x3"], "--topology: 'v5e:3x3' is not known"),
    (["--only", "float8"], "--only: 'float8' is not one of as_published, bfloat16"),
  ],
)
def test_options_that_are_wrong(run_cli, tmp_path, options, said):
  status, _, err = run_cli("benchmark", "big_vision", "--source", tmp_path, *options)
  assert status == 2
  assert said in err


def test_ours_is_split_over_16_devices_at_most():
  meshes = {}
  for name in ("v5e:4x4", "v5e:16x16"):
    topology = topologies.parse(name)
    config = big_vision.our_config(topology, 256)
    meshes[name] = (config.mesh.data, config.mesh.fsdp)
    assert config.train.batch_size == 256
  assert meshes == {"v5e:4x4": (1, -1), "v5e:16x16": (16, 16)}


@pytest.mark.parametrize("loss", big_vision_step.LOSSES)
def test_its_step_changes_every_parameter(source, loss):
  step = build(source, loss=loss)
  first, batch = step.init(jax.random.key(0)), step.random_batch()
  update, state = jax.jit(step.update), first
  for _ in range(3):  # the rate rises from 0
    state, value = update(state, batch)
    assert np.isfinite(value)
  moments = state["opt"][1].inner_state.mu
  assert all(np.any(leaf) for leaf in jax.tree.leaves(moments))
  same = jax.tree.map(jnp.array_equal, state["params"], first["params"])
  assert not any(jax.tree.leaves(same))


def test_its_loss_is_the_cross_entropy_of_the_next_token(source):
  step = build(source)
  state, batch = step.init(jax.random.key(0)), step.random_batch()
  batch["mask_loss"][:, :4] = 0
  _, value = jax.jit(step.update)(state, batch)
  model = its_modules.build_model(CONFIG)
  inputs = batch["image"], batch["text"][:, :-1], batch["mask_ar"][:, :-1]
  logits_BTV, _ = model.apply({"params": state["params"]}, *inputs)
  logp_BTV = np.asarray(jax.nn.log_softmax(logits_BTV))
  wanted = [
    -logp_BTV[row, at, batch["text"][row, at + 1]] for row in range(8) for at in range(3, 6)
  ]
  assert float(value) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_bfloat16_is_near_float32_and_leaves_parameters_in_float32(source):
  losses = {}
  for dtype in ("float32", "bfloat16"):
    step = build(source, dtype=dtype)
    state, losses[dtype] = jax.jit(step.update)(step.init(jax.random.key(0)), step.random_batch())
    assert {leaf.dtype for leaf in jax.tree.leaves(state["params"])} == {jnp.dtype("float32")}
  assert losses["bfloat16"] != losses["float32"]
  assert float(losses["bfloat16"]) == pytest.approx(float(losses["float32"]), rel=0.02)


def test_its_rule_of_sharding_and_its_constraints_act(source):
  # Above 4 MiB its rule shards an array, along its largest axis that divides.
  config = dataclasses.replace(CONFIG, llm=dataclasses.replace(CONFIG.llm, vocab_size=65_536))
  step = build(source, config)
  mesh = big_vision_step.build_mesh(step, jax.devices())
  assert dict(mesh.shape) == {"data": 8}
  state, batch = step.abstract(mesh)
  table = state["params"]["llm"]["embedder"]["input_embedding"]
  assert table.sharding.spec == jax.sharding.PartitionSpec("data", None)
  assert batch["text"].sharding.shard_shape(batch["text"].shape) == (1, 7)
  with jax.set_mesh(mesh):
    lowered = jax.jit(step.update).lower(state, batch).as_text()
  assert re.search(r'sdy\.sharding_constraint .*\[\{"data"\}, \{\}, \{\}\]', lowered)


def test_at_full_size_it_is_the_model_of_its_config(source):
  config = families.paligemma("paligemma2_3b_224")
  step = build(source, config)
  (paligemma,) = its_modules.import_modules("models.proj.paligemma.paligemma", checkout=source)
  published = paligemma.Model(**step.recipe.model)
  inputs = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 1), int), jnp.zeros((1, 1), int)
  wanted = jax.eval_shape(lambda: published.init(jax.random.key(0), *inputs)["params"])
  got = jax.eval_shape(step.init, jax.random.key(0))["params"]
  assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, nn.unbox(wanted))
  more = [big_vision_step.model_flops(step, vocabulary=each) for each in (True, False)]
  llm = config.llm
  assert more[0] - more[1] == pytest.approx(6 * llm.vocab_size * llm.width * 8 * 6)


def test_the_gpu_benchmark_times_its_step(source, capsys):
  sizes = gpu.Sizes(CONFIG, rows=2, text_tokens=6, matrix=64)
  report = gpu.benchmark_gpu(sizes, rounds=2, source=source)
  assert report["big_vision"].keys() == {"float32", "bfloat16"}
  for row in report["big_vision"].values():
    assert 0 < row["loss"] < 10
    assert row["segments_per_s"] == pytest.approx(2 / (row["ms"] / 1e3))
  assert "train, big_vision" in capsys.readouterr().out


def test_the_gpu_benchmark_refuses_what_is_no_checkout(run_cli, tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  status, _, err = run_cli("benchmark", "gpu", "--big-vision", tmp_path)
  assert status == 2
  assert "git clone" in err
