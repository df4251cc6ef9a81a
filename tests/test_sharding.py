import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vsumjax import sharding
from vsumjax.types import InputError

RULES = sharding.LogicalRules()


def test_spec_for():
  assert sharding.spec_for(("vocab", "width"), RULES) == PartitionSpec("tensor", "fsdp")
  assert sharding.spec_for((None, "batch"), RULES) == PartitionSpec(None, ("data", "fsdp"))


def test_a_misspelt_axis_raises_with_the_nearest():
  with pytest.raises(ValueError, match=r"'widht'; meant 'width'"):
    sharding.spec_for(("widht",), RULES)


def test_two_axes_on_one_mesh_axis_raise():
  with pytest.raises(ValueError, match="collide"):
    sharding.spec_for(("heads", "mlp"), RULES)
  changed = dataclasses.replace(RULES, mlp=None)
  assert sharding.spec_for(("heads", "mlp"), changed) == PartitionSpec("tensor", None)


def test_mesh_fills_the_free_axis():
  mesh = sharding.build_mesh(sharding.MeshConfig(data=-1, fsdp=2, tensor=2))
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, -1, 1), (2, 2, 1), (-1, 3, 1), (0, 1, 1)])
def test_mesh_that_does_not_fit_is_refused(sizes):
  with pytest.raises(InputError, match="mesh"):
    sharding.build_mesh(sharding.MeshConfig(*sizes))


def test_constrain_without_a_mesh_raises():
  with pytest.raises(RuntimeError, match="use_mesh"):
    sharding.constrain(jnp.zeros((8, 2)), "batch", None)


def test_constrain_is_in_the_jaxpr_and_acts():
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig())):
    fn = jax.jit(lambda x: sharding.constrain(x * 2, "batch", None))
    assert "sharding_constraint" in str(jax.make_jaxpr(fn)(jnp.zeros((8, 2))))
    assert fn(jnp.zeros((8, 2))).sharding.shard_shape((8, 2)) == (1, 2)


def test_shardings_of_names_and_plain_leaves():
  mesh = sharding.build_mesh(sharding.MeshConfig(fsdp=4, tensor=2))
  tree = {"w": sharding.Named(jnp.zeros((8, 4)), ("width", "mlp")), "step": jnp.zeros(())}
  shardings = sharding.shardings_of(tree, mesh, RULES)
  assert shardings["w"].shard_shape((8, 4)) == (2, 2)
  assert shardings["step"].spec == PartitionSpec()
  text = sharding.describe(sharding.unbox(tree), shardings)
  assert "w  float32[8, 4]  P('fsdp', 'tensor')  16 B" in text


def test_named_checks_the_rank():
  with pytest.raises(ValueError, match="axis names"):
    sharding.named(lambda shape: jnp.zeros(shape), "width")((2, 3))


def test_to_global_puts_rows_on_devices_and_to_host_brings_them_back():
  mesh = sharding.build_mesh(sharding.MeshConfig())
  rows = {"a": np.arange(16).reshape(8, 2)}
  batch = sharding.to_global(rows, mesh, RULES)
  assert batch["a"].sharding.shard_shape((8, 2)) == (1, 2)
  np.testing.assert_array_equal(sharding.to_host(batch["a"]), rows["a"])
