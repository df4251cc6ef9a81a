"""The decoder's weights in int8 and int4: their form, their numbers, and the bytes of 28B."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from jax.sharding import PartitionSpec

from vsumjax import sharding, testing
from vsumjax.models import families, quantization
from vsumjax.models.lora import LoraConfig, merge_lora
from vsumjax.models.student import VideoSummaryStudent, init_params, num_bytes
from vsumjax.training import state
from vsumjax.types import InputError

BATCH = testing.random_batch()
NAMES = ("attn/q_einsum/w", "attn/kv_einsum/w", "attn/attn_vec_einsum/w", "mlp/gating_einsum")


def _config(**changes):
  """Of width 128, so that int4 has two scales in it."""
  config = testing.tiny_config()
  llm = dataclasses.replace(config.llm, width=128, depth=1, head_size=8)
  exits = dataclasses.replace(config.exits, layers=(1,))
  return dataclasses.replace(config, llm=llm, exits=exits, **changes)


def _abstract(config, mesh=None, batch=BATCH):
  mesh = mesh or sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh):
    model = testing.tiny_model(config)
    boxed = jax.eval_shape(lambda: init_params(model, batch, jax.random.key(0)))
  return state.with_shardings(boxed, mesh, sharding.LogicalRules())


@pytest.fixture(scope="module")
def params():
  """Parameters of the model that is not quantised."""
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    model = testing.tiny_model(_config())
    init = jax.jit(lambda: sharding.unbox(init_params(model, BATCH, jax.random.key(0))))
    return init()


@pytest.mark.parametrize(
  ("kind", "shape", "contracted", "tiles"),
  [
    ("int8", (8, 2304, 256), (1,), (1, 2304, 1)),
    ("int4", (8, 2304, 256), (1,), (1, 64, 1)),
    ("int8", (8, 256, 2304), (0, 1), (8, 256, 1)),
    ("int4", (8, 256, 2304), (0, 1), (1, 64, 1)),
    ("int8", (2, 2304, 9216), (1,), (1, 2304, 1)),
    ("int4", (96, 5), (0,), (32, 1)),
  ],
)
def test_tiles(kind, shape, contracted, tiles):
  assert quantization.tile_shape(kind, shape, contracted) == tiles


@pytest.mark.parametrize(("kind", "levels"), [("int8", 127), ("int4", 7)])
def test_no_value_is_off_by_more_than_half_a_level(kind, levels):
  w = jax.random.normal(jax.random.key(0), (2, 128, 6), jnp.bfloat16)
  tiles = quantization.tile_shape(kind, w.shape, (1,))
  q = quantization.quantize(w, kind, tiles)
  assert q.qvalue.dtype == jnp.dtype(kind)
  assert q.scale.dtype == jnp.float32
  num_tiles = {"int8": 1, "int4": 2}[kind]
  assert q.scale.shape == (2, num_tiles, 6)
  tiled = np.asarray(w, np.float32).reshape(2, num_tiles, -1, 6)
  error = np.abs(tiled - np.asarray(qwix.dequantize(q)).reshape(tiled.shape))
  assert (error <= np.abs(tiled).max(axis=2, keepdims=True) / levels * 0.5001).all()


def _logits(config, params):
  model = testing.tiny_model(config)
  return jax.jit(lambda p: model.apply({"params": p}, BATCH).logits)(params)


def test_a_quantised_model_is_the_model_of_its_rounded_weights(one_device, params):
  """And near the model it was made from: int8 nearer than int4."""
  before, errors = _logits(_config(), params), {}
  for kind in quantization.KINDS:
    config = _config(quantize=kind)
    abstract = _abstract(config)
    quantised = quantization.quantize_params(params, abstract)
    assert jax.tree.structure(quantised) == jax.tree.structure(abstract)
    assert jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype, quantised, abstract))
    for name in (*NAMES, "mlp/linear"):
      path = name.split("/")
      leaf = quantised["llm"]["layers"][path[0]][path[1]]
      leaf = leaf[path[2]] if len(path) == 3 else leaf
      assert leaf.qvalue.dtype == jnp.dtype(kind), name
    rounded = merge_lora(quantised, LoraConfig(), "float32")
    assert jax.tree.structure(rounded) == jax.tree.structure(params)
    after = _logits(config, quantised)
    np.testing.assert_allclose(after, _logits(_config(), rounded), atol=1e-5)
    errors[kind] = float(jnp.abs(after - before).max())
  assert 0 < errors["int8"] < 0.02
  assert errors["int8"] < errors["int4"] < 0.4


def test_values_and_scales_lie_where_their_weight_does():
  mesh = sharding.build_mesh(sharding.MeshConfig(data=2, fsdp=2, tensor=2))
  for kind, q_scale, gating_scale in [
    ("int8", (None, "tensor", None, None), (None, None, None, "tensor")),
    ("int4", (None, "tensor", None, None), (None, None, None, "tensor")),
  ]:
    layers = _abstract(_config(quantize=kind), mesh)["llm"]["layers"]
    q, gating = layers["attn"]["q_einsum"]["w"], layers["mlp"]["gating_einsum"]
    assert q.qvalue.sharding.spec == PartitionSpec(None, "tensor", "fsdp", None)
    assert q.scale.sharding.spec == PartitionSpec(*q_scale)
    assert gating.qvalue.sharding.spec == PartitionSpec(None, None, "fsdp", "tensor")
    assert gating.scale.sharding.spec == PartitionSpec(*gating_scale)
    assert layers["mlp"]["linear"].scale.sharding.spec == PartitionSpec(None, None, "fsdp")


def test_a_leaf_the_model_lacks_is_refused(params):
  abstract = _abstract(_config(quantize="int8"))
  with pytest.raises(InputError, match=r"llm/more is \(2,\), and absent in the quantised model"):
    quantization.quantize_params({"llm": {"more": jnp.zeros(2)}}, abstract)
  with pytest.raises(InputError, match=r"llm/layers/mlp/linear is \(3, 4\), and \(1, 64, 128\) in"):
    quantization.quantize_params(
      {"llm": {"layers": {"mlp": {"linear": jnp.zeros((3, 4))}}}}, abstract
    )


def test_bytes_of_28b_in_int4_with_adapters():
  """Shapes alone, in seconds; widths of Gemma 2 27B as in `families`."""
  config = dataclasses.replace(
    families.paligemma("paligemma2_28b_224"),
    lora=LoraConfig(rank=16),
    quantize="int4",
    param_dtype="bfloat16",
  )
  model = VideoSummaryStudent(config, 256, 256_000, testing.SCORE_IDS)
  frames = jax.ShapeDtypeStruct((1, 1, 1, 224, 224, 3), jnp.uint8)
  spec = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), BATCH)
  spec = spec.replace(frames=frames)
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    boxed = jax.eval_shape(lambda: init_params(model, spec, jax.random.key(0)))
  params = sharding.unbox(boxed)
  D, L, M, H, K, S, R, V = 4608, 46, 36_864, 32, 16, 128, 16, 257_152
  weights = L * (H * D * S + 2 * K * D * S + H * S * D + 3 * D * M)
  q_ins, out_ins = H * S, 2 * K * S
  adapters = L * R * ((D + q_ins) + (2 * D + out_ins) + (H * S + D) + 2 * (D + M) + (M + D))
  layers = params["llm"]["layers"]
  leaves = jax.tree.leaves_with_path(layers)
  by_part = {"qvalue": 0, "scale": 0, "lora": 0, "norm": 0}
  for path, leaf in leaves:
    name = jax.tree_util.keystr(path)
    part = next(p for p in ("norm", "lora", "qvalue", "scale") if p in name)
    by_part[part] += num_bytes(leaf)
  assert by_part == {
    "qvalue": weights // 2,
    "scale": 4 * weights // quantization.TILE,
    "lora": 4 * adapters,
    "norm": 2 * 4 * L * D,
  }
  assert num_bytes(params["llm"]["embedder"]) == 2 * V * D
  assert num_bytes(params["img"]) == 2 * (412_442_352 + 1152 * D + D)
  assert num_bytes(params) < 19e9  # of 55e9 in bfloat16
