"""The abstract state, its shardings, and the digest of parameters."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vsumjax import sharding, testing
from vsumjax.models.student import init_params
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig
from vsumjax.training import optimizer, state

TX = optimizer.build_optimizer(optimizer.OptimizerConfig(1e-3, 0.1, 0.1, 1.0), 10)


@pytest.fixture(scope="module")
def boxed():
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    learner = ScoreLearner(testing.tiny_model(), ObjectiveConfig(1.0, (1.0, 1.0, 1.0), ()))
    return jax.eval_shape(lambda: state.init_state(learner, TX, testing.random_batch(), 0))


def test_moments_lie_where_their_parameters_do(boxed):
  mesh = sharding.build_mesh(sharding.MeshConfig(data=2, fsdp=2, tensor=2))
  abstract = state.with_shardings(boxed, mesh, sharding.LogicalRules())
  specs = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.sharding.spec
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]
  }
  params = {k.removeprefix("params/"): v for k, v in specs.items() if k.startswith("params/")}
  assert params["llm/embedder/input_embedding"] == PartitionSpec("tensor", "fsdp")
  for moment in ("mu", "nu"):
    of_moment = {k.split(f"/{moment}/")[1]: v for k, v in specs.items() if f"/{moment}/" in k}
    assert of_moment == params
  assert specs["step"] == PartitionSpec()


def test_seed_and_only_seed_decides_the_parameters(one_device):
  def digest(seed, batch_seed):
    batch = testing.random_batch(batch_seed)
    return state.params_digest(sharding.unbox(init(batch, jax.random.key(seed))))

  init = jax.jit(lambda batch, key: init_params(testing.tiny_model(), batch, key))
  assert digest(0, 1) == digest(0, 2)
  assert digest(0, 1) != digest(1, 1)


def _params():
  return {"a": {"w": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(4)}


@pytest.mark.parametrize(
  "change",
  [
    lambda p: p | {"b": p["b"].at[3].add(1e-6)},
    lambda p: p | {"b": p["b"].astype(jnp.bfloat16)},
    lambda p: p | {"b": p["b"].reshape(2, 2)},
    lambda p: {"a": p["a"], "c": p["b"]},
    lambda p: {"a": {"w": p["a"]["w"].T}, "b": p["b"]},
  ],
  ids=["value", "dtype", "shape", "name", "order"],
)
def test_digest_sees_every_change(change):
  assert state.params_digest(change(_params())) != state.params_digest(_params())


def test_digest_depends_neither_on_key_order_nor_on_devices():
  params = _params()
  mesh = sharding.build_mesh(sharding.MeshConfig(data=2, fsdp=2, tensor=2))
  spread = dict(params, b=jax.device_put(params["b"], NamedSharding(mesh, PartitionSpec("fsdp"))))
  assert len(spread["b"].sharding.device_set) == 8
  digest = state.params_digest(params)
  assert state.params_digest(spread) == digest
  assert state.params_digest(dict(reversed(params.items()))) == digest
  assert len(digest) == 32
