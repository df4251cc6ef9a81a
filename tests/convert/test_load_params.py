"""Weights into the shardings of a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_files import random_leaves, small_config, write_npz

from vsumjax import sharding, testing
from vsumjax.convert import formats
from vsumjax.convert.load import load_params
from vsumjax.models.student import init_params
from vsumjax.training import state
from vsumjax.types import InputError


@pytest.fixture(scope="module")
def leaves():
  return random_leaves(small_config())


@pytest.fixture(scope="module")
def source(leaves, tmp_path_factory):
  path = write_npz(tmp_path_factory.mktemp("npz") / "x.npz", leaves)
  return formats.open_weights(path, small_config())


def _abstract(early_exits=False, dtype=None, **axes):
  mesh = sharding.build_mesh(sharding.MeshConfig(**axes))
  rules = sharding.LogicalRules()
  model = testing.tiny_model(small_config(early_exits=early_exits))
  with sharding.use_mesh(mesh, rules):
    boxed = jax.eval_shape(lambda: init_params(model, testing.random_batch(), jax.random.key(0)))
  tree = state.with_shardings(boxed, mesh, rules)
  if dtype is None:
    return tree
  return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype, sharding=s.sharding), tree)


@pytest.mark.parametrize(
  "axes", [{"data": 8}, {"data": 1, "fsdp": 8}, {"data": 1, "fsdp": 4, "tensor": 2}]
)
def test_eight_devices(source, leaves, axes):
  abstract = _abstract(**axes)
  loaded = load_params(source, abstract)
  assert loaded.missing == ()
  for path, array in sharding.by_path(loaded.params).items():
    assert array.sharding == sharding.by_path(abstract)[path].sharding
    np.testing.assert_array_equal(array, leaves[path])
  shardings = {leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(loaded.params)}
  assert (False in shardings) == (axes["data"] != 8)


def test_a_leaf_in_many_blocks(source, leaves, monkeypatch):
  monkeypatch.setattr("vsumjax.convert.tensors.BLOCK_BYTES", 100)
  loaded = load_params(source, _abstract(data=1, fsdp=4, tensor=2))
  for path, array in sharding.by_path(loaded.params).items():
    np.testing.assert_array_equal(array, leaves[path])


def test_ours_and_hugging_face_load_alike(source, leaves, tmp_path):
  for kind in (formats.NATIVE, formats.HUGGINGFACE):
    formats.write_weights(tmp_path / kind, kind, source, 10**9, lambda count: None)
    opened = formats.open_weights(tmp_path / kind)
    loaded = load_params(opened, _abstract(data=1, fsdp=4, tensor=2))
    for path, array in sharding.by_path(loaded.params).items():
      np.testing.assert_array_equal(array, leaves[path])


def test_the_dtype_is_the_model_s(source, leaves):
  loaded = load_params(source, _abstract(dtype=jnp.bfloat16, data=8))
  for path, array in sharding.by_path(loaded.params).items():
    assert array.dtype == jnp.bfloat16
    np.testing.assert_array_equal(array, leaves[path].astype(jnp.bfloat16))


def test_exits_that_are_missing_are_told(source):
  abstract = _abstract(early_exits=True, data=8)
  loaded = load_params(source, abstract)
  assert loaded.missing == ("exits/bias", "exits/kernel", "exits/norm", "exits/prototype")
  assert loaded.params["exits"] == abstract["exits"]
  assert isinstance(loaded.params["llm"]["final_norm"]["scale"], jax.Array)


def _without(source, path):
  return dataclasses.replace(
    source, tensors={name: t for name, t in source.tensors.items() if name != path}
  )


def test_what_else_is_missing_raises(source):
  with pytest.raises(InputError, match=r"missing: llm/final_norm/scale \[32\]"):
    load_params(_without(source, "llm/final_norm/scale"), _abstract(data=8))


def test_what_is_left_over_raises(source):
  abstract = _abstract(data=8)
  del abstract["llm"]["final_norm"]
  with pytest.raises(InputError, match=r"llm/final_norm/scale \(float32\[32\]\)"):
    load_params(source, abstract)


def test_another_shape_raises(source):
  abstract = _abstract(data=8)
  scale = abstract["llm"]["final_norm"]["scale"]
  abstract["llm"]["final_norm"]["scale"] = jax.ShapeDtypeStruct(
    (8,), "float32", sharding=scale.sharding
  )
  with pytest.raises(InputError, match=r"final_norm/scale \(float32\[32\]\).*\[8\]"):
    load_params(source, abstract)
