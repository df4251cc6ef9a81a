"""What `write_native` writes is an ordinary checkpoint of Orbax."""

import math

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_files import random_leaves, small_config, write_npz

from vsumjax import sharding
from vsumjax.convert import formats, native, weights
from vsumjax.convert.tensors import FLOATS, LazyTensor


@pytest.fixture(params=["float32", "bfloat16", "float16"])
def written(request, tmp_path):
  leaves = random_leaves(small_config(), request.param)
  source = formats.open_weights(write_npz(tmp_path / "x.npz", leaves), small_config())
  formats.write_weights(tmp_path / "ours", formats.NATIVE, source, 0, lambda count: None)
  return leaves, tmp_path / "ours" / native.PARAMS


def test_orbax_restores_it(written):
  leaves, path = written
  with ocp.StandardCheckpointer() as checkpointer:
    restored = sharding.by_path(checkpointer.restore(path))
  assert restored.keys() == leaves.keys()
  for name, array in restored.items():
    assert array.dtype == leaves[name].dtype
    np.testing.assert_array_equal(array, leaves[name])


def test_orbax_restores_it_into_shardings(written):
  leaves, path = written
  mesh = jax.make_mesh((8,), ("x",))

  def abstract(array):
    spec = [None] * (array.ndim - 1) + ["x" if array.shape[-1] % 8 == 0 else None]
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)

  target = weights.nested({name: abstract(array) for name, array in leaves.items()})
  with ocp.StandardCheckpointer() as checkpointer:
    restored = checkpointer.restore(path, target)
  for name, array in sharding.by_path(restored).items():
    assert array.sharding == sharding.by_path(target)[name].sharding
    np.testing.assert_array_equal(array, leaves[name])
  assert not restored["llm"]["embedder"]["input_embedding"].sharding.is_fully_replicated


@pytest.mark.parametrize(
  ("shape", "chunk"),
  [
    ((18, 2, 2048, 16_384), (1, 1, 512, 16_384)),
    ((257_152, 2048), (4096, 2048)),
    ((18, 8, 2048, 256), (1, 8, 2048, 256)),
    ((18, 2048), (18, 2048)),
    ((2048,), (2048,)),
    ((46, 36_864, 4608), (1, 1820, 4608)),
  ],
)
def test_a_chunk_is_at_most_a_layer(shape, chunk):
  tensor = LazyTensor("x", shape, FLOATS["float32"], "", lambda region: None, len(shape))
  assert native.chunk_shape(tensor) == chunk
  assert 4 * math.prod(chunk) <= 2**25
