"""Adapters beside weights: where they are, what they change, and what merging gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.models import lora
from vsumjax.models.lora import LoraConfig
from vsumjax.models.student import init_params
from vsumjax.types import InputError, Prompt

pytestmark = pytest.mark.usefixtures("one_device")

LORA = LoraConfig(4, 8.0, ("llm/layers/.*", "img/.*"))
BATCH = testing.random_batch(frames=2)
PROMPT = Prompt(BATCH.frames, BATCH.tokens, BATCH.mask_ar, BATCH.input_mask)


def _model(config=LORA, **changes):
  return testing.tiny_model(testing.tiny_config(lora=config, **changes))


def _abstract(config):
  init = lambda: init_params(_model(config), BATCH, jax.random.key(0))  # noqa: E731
  return sharding.unbox(jax.eval_shape(init))


def _init(model):
  init = jax.jit(lambda: sharding.unbox(init_params(model, BATCH, jax.random.key(0))))
  return init()


def _run(model, params):
  """Scores, and logits after a prefill, which goes through the layers another way."""

  def both(params):
    scores = model.apply({"params": params}, BATCH).logits
    return scores, model.apply({"params": params}, PROMPT, 32, method="prefill")[0]

  return jax.jit(both)(params)


def _paths(params):
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _randomise_b(params):
  """As after training: b is no longer 0."""

  def change(path, leaf):
    if not path[-1].key.endswith(lora.B):
      return leaf
    return 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)

  return jax.tree_util.tree_map_with_path(change, params)


@pytest.fixture(scope="module")
def base():
  """(parameters, outputs) of the model without LoRA."""
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    params = _init(_model(LoraConfig()))
    return params, _run(_model(LoraConfig()), params)


@pytest.fixture(scope="module")
def adapted():
  """(parameters, outputs) of the model with adapters, as initialised."""
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    params = _init(_model())
    return params, _run(_model(), params)


def test_new_adapters_change_nothing(base, adapted):
  """The outputs of the base alone, and merged, the base itself, bit for bit."""
  (plain, before), (params, _) = base, adapted
  with_adapters = _paths(params) | _paths(plain)
  params = jax.tree.unflatten(
    jax.tree.structure(params), [with_adapters[path] for path in _paths(params)]
  )
  testing.assert_same_up_to_rounding(_run(_model(), params), before)
  merged = lora.merge_lora(params, LORA, "float32")
  jax.tree.map(np.testing.assert_array_equal, merged, plain)
  adapters = {path: leaf for path, leaf in _paths(params).items() if "_lora_" in path}
  assert len(adapters) == 2 * (5 + 8)  # weights of a decoder layer, of the tower
  for path, leaf in adapters.items():
    assert leaf.dtype == jnp.float32
    assert bool((leaf == 0).all()) == path.endswith(lora.B)


def test_adapters_stand_beside_their_weight_in_its_axes(adapted):
  shapes = {path: leaf.shape for path, leaf in _paths(adapted[0]).items()}
  assert shapes["llm/layers/attn/q_einsum/w"] == (3, 4, 32, 8)
  assert shapes["llm/layers/attn/q_einsum/w_lora_a"] == (3, 1, 32, 1, 4)
  assert shapes["llm/layers/attn/q_einsum/w_lora_b"] == (3, 4, 1, 8, 4)
  # A stacked weight has adapters of each part.
  assert shapes["llm/layers/mlp/gating_einsum_lora_a"] == (3, 2, 32, 1, 4)
  assert shapes["llm/layers/mlp/gating_einsum_lora_b"] == (3, 2, 1, 64, 4)
  assert shapes["img/head/kernel_lora_a"] == (16, 1, 4)


def test_a_merged_model_answers_as_the_adapted_one(base, adapted):
  params = _randomise_b(adapted[0])
  after = _run(_model(), params)
  for old, new in zip(adapted[1], after, strict=True):
    assert jnp.abs(old - new).max() > 1e-2
  merged = lora.merge_lora(params, LORA, "float32")
  assert _paths(merged).keys() == _paths(base[0]).keys()
  for path, weight in _paths(merged).items():
    assert weight.dtype == jnp.float32
    is_adapted = f"{path}{lora.A}" in _paths(params)
    assert bool((weight != _paths(params)[path]).any()) == is_adapted, path
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    _run(_model(LoraConfig()), merged),
    after,
  )


def test_alpha_over_rank_scales_the_change(adapted):
  params = _randomise_b(adapted[0])
  halved = jax.tree_util.tree_map_with_path(
    lambda path, x: x / 2 if path[-1].key.endswith(lora.B) else x, params
  )
  half = LoraConfig(LORA.rank, LORA.alpha / 2, LORA.targets)
  for one, other in zip(_run(_model(), halved), _run(_model(half), params), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_whose_adapters_do_nothing_keeps_its_bits(dtype):
  w = jnp.array([[0.0, -0.0, 1.1], [-2.3, jnp.inf, 1e-30]], dtype)
  params = {"w": w, "w_lora_a": jnp.ones((2, 1, 4)), "w_lora_b": jnp.zeros((1, 3, 4))}
  merged = lora.merge_lora({"llm": params}, LORA, dtype)["llm"]
  assert merged["w"].dtype == w.dtype
  assert np.asarray(merged["w"]).tobytes() == np.asarray(w).tobytes()
  assert set(merged) == {"w"}


@pytest.mark.parametrize(
  ("targets", "weights"),
  [
    (("llm/layers/attn/q_einsum/w",), {"llm/layers/attn/q_einsum/w"}),
    (("llm/layers/mlp/.*",), {"llm/layers/mlp/gating_einsum", "llm/layers/mlp/linear"}),
    (
      (r"img/.*/MlpBlock_0/Dense_\d/kernel", "img/head/kernel"),
      {
        "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel",
        "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel",
        "img/head/kernel",
      },
    ),
  ],
)
def test_targets_are_whole_paths(targets, weights):
  paths = _paths(_abstract(LoraConfig(2, 4.0, targets)))
  assert {path.removesuffix(lora.A) for path in paths if path.endswith(lora.A)} == weights
  assert {path.removesuffix(lora.B) for path in paths if path.endswith(lora.B)} == weights


@pytest.mark.parametrize(
  ("target", "near"),
  [
    ("llm/layers/attn/q_einsum", "llm/layers/attn/q_einsum/w"),
    ("llm/layers/mlp/linaer", "llm/layers/mlp/linear"),
    ("llm/final_norm/scale", "llm/final_norm/scale"),  # is there, and is no weight
  ],
)
def test_a_target_that_matches_no_weight_is_named_with_the_nearest(target, near):
  with pytest.raises(InputError) as raised:
    _abstract(LoraConfig(2, 4.0, ("img/.*", target)))
  assert str(raised.value) == (
    f"model.lora.targets: {target!r} matches no weight; the nearest is {near}"
  )


def test_base_in_bfloat16_and_the_rest_in_float32():
  """The base loses half its bytes; what is new and trained keeps its precision."""
  model = _model(param_dtype="bfloat16")
  init = lambda: init_params(model, BATCH, jax.random.key(0))  # noqa: E731
  for path, leaf in _paths(sharding.unbox(jax.eval_shape(init))).items():
    is_new = "_lora_" in path or path.startswith("exits/")
    assert leaf.dtype == (jnp.float32 if is_new else jnp.bfloat16), path
