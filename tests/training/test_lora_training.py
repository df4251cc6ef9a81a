"""Training with a frozen base: what moves, what is kept of it, and on which devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.models import lora
from vsumjax.models.lora import LoraConfig
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig
from vsumjax.training import optimizer, partition, state, step

LORA = LoraConfig(4, 8.0, ("llm/layers/.*", "img/.*"))
TX = optimizer.build_optimizer(optimizer.OptimizerConfig(1e-2, 0.0, 0.05, 1.0), 20)
OBJECTIVE = ObjectiveConfig(1.0, (1.0, 1.0, 1.0), ())
BATCH = testing.random_batch(rows=8)
ONE, EIGHT = sharding.MeshConfig(), sharding.MeshConfig(data=2, fsdp=2, tensor=2)


def _config(**changes):
  return testing.tiny_config(**({"lora": LORA} | changes))


def _step(config):
  return step.make_train_step(ScoreLearner(testing.tiny_model(config), OBJECTIVE), TX, num_steps=20)


def _init(config):
  return lambda: state.init_state(ScoreLearner(testing.tiny_model(config), OBJECTIVE), TX, BATCH, 0)


def _abstract(config, mesh_config=ONE, num_devices=1):
  mesh = sharding.build_mesh(mesh_config, jax.devices()[:num_devices])
  with sharding.use_mesh(mesh):
    boxed = jax.eval_shape(_init(config))
    return mesh, state.with_shardings(boxed, mesh, sharding.LogicalRules())


def _train(config, num_steps, mesh_config=ONE, num_devices=1, first=None):
  """(state before, state after, losses)."""
  mesh, abstract = _abstract(config, mesh_config, num_devices)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  with sharding.use_mesh(mesh):
    if first is None:
      first = jax.jit(lambda: sharding.unbox(_init(config)()))()
    after, losses = jax.device_put(first, shardings), []
    batch = sharding.to_global(jax.device_get(BATCH), mesh, sharding.LogicalRules())
    train_step = jax.jit(_step(config), out_shardings=(shardings, None))
    for _ in range(num_steps):
      after, metrics = train_step(after, batch)
      losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
  assert jax.tree.map(lambda x: x.sharding, after) == shardings
  return first, after, losses


def _moved(before, after):
  """{path: whether the leaf differs}."""
  leaves = jax.tree.leaves_with_path(jax.device_get(before.params))
  pairs = zip(leaves, jax.tree.leaves(jax.device_get(after.params)), strict=True)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): bool((np.asarray(x) != y).any())
    for (path, x), y in pairs
  }


@pytest.fixture(scope="module")
def trained():
  """(config, state before, state after, losses) of 6 steps, with adapters in both towers."""
  config = _config(quantize="int4", remat=True)
  return config, *_train(config, 6)


def test_the_loss_falls_and_only_adapters_and_exits_move(trained):
  _, before, after, losses = trained
  assert losses[-1] < 0.9 * losses[0]
  for path, moved in _moved(before, after).items():
    assert moved == ("_lora_" in path or path.startswith("exits/")), path


def test_eight_devices_train_as_one(trained):
  config, first, one, losses = trained
  _, eight, sharded_losses = _train(config, 6, EIGHT, 8, jax.device_get(first))
  np.testing.assert_allclose(sharded_losses, losses, atol=1e-5)
  mlp = eight.params["llm"]["layers"]["mlp"]
  qvalue = mlp["linear"].qvalue
  assert {shard.data.size for shard in qvalue.addressable_shards} == {qvalue.size // 4}
  b = mlp["gating_einsum_lora_b"]
  assert {shard.data.size for shard in b.addressable_shards} == {b.size // 2}
  moments = eight.opt_state[1][0].mu["llm"]["layers"]["mlp"]
  assert moments["gating_einsum_lora_b"].sharding == b.sharding
  for path, moved in _moved(one, eight).items():
    assert not moved or "_lora_" in path or path.startswith("exits/"), path


def test_the_merged_model_scores_as_the_trained_one(trained, one_device):
  config, _, after, _ = trained
  merged = lora.merge_lora(after.params, config.lora, config.param_dtype)
  plain = testing.tiny_config()
  expected = jax.eval_shape(lambda: sharding.unbox(_init(plain)().params))
  assert jax.tree.structure(merged) == jax.tree.structure(expected)

  def logits(config, params):
    model = testing.tiny_model(config)
    return jax.jit(lambda p: model.apply({"params": p}, BATCH).logits)(params)

  np.testing.assert_allclose(logits(plain, merged), logits(config, after.params), atol=1e-5)


def _shapes(tree):
  return {leaf.shape for leaf in jax.tree.leaves(tree)}


def test_the_optimizer_keeps_nothing_of_the_base():
  _, with_lora = _abstract(_config())
  _, without = _abstract(_config(lora=LoraConfig()))
  trained, frozen = partition.split(with_lora.params)
  assert not _shapes(with_lora.opt_state) & (_shapes(frozen) - _shapes(trained))
  assert _shapes(without.opt_state) >= _shapes(frozen)
  mu = with_lora.opt_state[1][0].mu
  assert jax.tree.structure(mu) == jax.tree.structure(trained)


def _dots(jaxpr):
  """Shapes of the results of all matmuls of a jaxpr, whatever it is nested in."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      yield eqn.outvars[0].aval.shape
    for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from _dots(inner)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("quantize", ["", "int4"])
def test_no_gradient_of_a_base_weight_is_computed(one_device, remat, quantize):
  """A weight's gradient is a matmul whose result has its axes, in some order."""

  def weight_gradients(config):
    _, abstract = _abstract(config)
    shapes = list(_dots(jax.make_jaxpr(_step(config))(abstract, BATCH).jaxpr))
    mlp = (32, 64)  # of a decoder layer: up, gate and down
    return sum(sorted(shape) == sorted(mlp) for shape in shapes)

  plain = _config(lora=LoraConfig(), remat=remat)
  assert weight_gradients(plain) == 3
  assert weight_gradients(_config(remat=remat, quantize=quantize)) == 0


@pytest.mark.parametrize(
  "changes", [{"lora": LoraConfig()}, {}, {"quantize": "int8"}], ids=["full", "lora", "qlora"]
)
def test_a_step_keeps_shapes_and_dtypes(one_device, changes):
  """With a base in bfloat16; the moments are in float32 all the same."""
  config = _config(param_dtype="bfloat16", dtype="bfloat16", **changes)
  _, abstract = _abstract(config)
  testing.assert_step_specs(_step(config), abstract, BATCH)
  assert abstract.params["llm"]["final_norm"]["scale"].dtype == jnp.bfloat16
  moments = jax.tree.leaves((abstract.opt_state[1][0].mu, abstract.opt_state[1][0].nu))
  assert {leaf.dtype for leaf in moments} == {jnp.dtype("float32")}
