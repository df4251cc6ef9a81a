"""Properties of the whole model at tiny size."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.models import exits, gemma, student
from vsumjax.models.student import init_params
from vsumjax.ops import attention
from vsumjax.types import InputError

pytestmark = pytest.mark.usefixtures("one_device")


def _init(model, batch, seed=0):
  init = jax.jit(lambda key: sharding.unbox(init_params(model, batch, key)))
  return init(jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def _apply(model, params, *args, method=None):
  return model.apply({"params": params}, *args, method=method)


def _logits(model, params, batch):
  return _apply(model, params, batch).logits


@pytest.fixture(scope="module", params=[1, 3], ids=["N=1", "N=3"])
def case(request):
  batch = testing.random_batch(window=request.param, frames=2)
  model = testing.tiny_model()
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])):
    return model, _init(model, batch), batch


def test_shapes_and_confidence(case):
  model, params, batch = case
  output = _apply(model, params, batch)
  B, N = batch.score_pos.shape
  assert output.logits.shape == (3, B, N, 5)
  expected = jax.nn.softmax(output.logits).max(-1)
  np.testing.assert_allclose(output.confidence, expected, rtol=1e-6)


def test_padding_garbage_changes_nothing(case):
  model, params, batch = case
  tokens = np.where(batch.input_mask, batch.tokens, 33)
  assert (tokens != batch.tokens).any()
  np.testing.assert_array_equal(
    _logits(model, params, batch), _logits(model, params, batch.replace(tokens=tokens))
  )


def test_rows_do_not_see_each_other(case):
  model, params, batch = case
  swapped = jax.tree.map(lambda x: x[::-1], batch)
  np.testing.assert_allclose(
    _logits(model, params, batch)[:, ::-1], _logits(model, params, swapped), atol=1e-5
  )


def test_every_input_counts(case):
  model, params, batch = case
  before = _logits(model, params, batch)
  for changed in (
    batch.replace(frames=255 - batch.frames),
    batch.replace(tokens=np.where(batch.tokens < 40, batch.tokens + 1, batch.tokens)),
  ):
    assert jnp.abs(before - _logits(model, params, changed)).max() > 1e-3


@pytest.mark.parametrize("depth", [1, 2])
def test_exit_k_equals_a_model_of_k_layers(case, depth):
  model, params, batch = case
  config = testing.tiny_config()
  short = testing.tiny_model(
    dataclasses.replace(
      config,
      llm=dataclasses.replace(config.llm, depth=depth),
      exits=exits.ExitsConfig((depth,)),
    )
  )
  sliced = dict(params, llm=dict(params["llm"]))
  sliced["llm"]["layers"] = jax.tree.map(lambda x: x[:depth], params["llm"]["layers"])
  del sliced["exits"]

  def read(module, batch):
    x_BTD = module.embed(batch)
    return module.llm.read(x_BTD, batch.input_mask, batch.mask_ar, batch.score_pos)[1]

  whole = _apply(model, params, batch, method=read)
  part = _apply(short, sliced, batch, method=read)
  assert len(whole) == 3
  assert len(part) == depth
  testing.assert_same_up_to_rounding(whole[:depth], part)


def test_remat_changes_the_program_and_not_the_numbers(case):
  model, params, batch = case
  remat = testing.tiny_model(testing.tiny_config(remat=True))

  def grads(m):
    fn = jax.grad(lambda p: m.apply({"params": p}, batch).logits.sum())
    return str(jax.make_jaxpr(fn)(params)), jax.jit(fn)(params)

  (plain_jaxpr, plain), (remat_jaxpr, rematted) = grads(model), grads(remat)
  assert "policy=None" in remat_jaxpr
  assert "policy=None" not in plain_jaxpr
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, rematted)


def test_scan_equals_unrolled_layers(case):
  model, params, batch = case

  def unrolled(module, batch):
    """Applies the block layer by layer with slices of the stacked parameters."""
    x_BTD = module.embed(batch)
    llm = testing.tiny_config().llm
    masks_BTT = gemma.attention_masks(llm, batch.input_mask, batch.mask_ar)
    position_BT = attention.positions(batch.input_mask)
    block, reads = gemma.Block(llm), []
    for layer in range(3):
      sliced = jax.tree.map(lambda x, i=layer: x[i], params["llm"]["layers"])
      x_BTD, read = block.apply(
        {"params": sliced},
        x_BTD,
        (jnp.array(layer), jnp.array(layer % 2 == 0)),
        (position_BT, masks_BTT, batch.score_pos),
        method="read",
      )
      reads.append(read)
    return jnp.stack(reads)

  def scanned(module, batch):
    x_BTD = module.embed(batch)
    return module.llm.read(x_BTD, batch.input_mask, batch.mask_ar, batch.score_pos)[1]

  batch = jax.tree.map(jnp.asarray, batch)
  np.testing.assert_allclose(
    _apply(model, params, batch, method=scanned),
    _apply(model, params, batch, method=unrolled),
    atol=1e-5,
  )


def test_the_sliding_window_acts_on_even_layers_and_behind_the_prefix_only():
  prefix = testing.random_batch(text=12)
  causal = prefix.replace(mask_ar=prefix.mask_ar.at[:, 4:].set(1))
  config = testing.tiny_config()
  params = _init(testing.tiny_model(config), prefix)

  def reads(batch, window):
    llm = dataclasses.replace(config.llm, sliding_window=window)
    model = testing.tiny_model(dataclasses.replace(config, llm=llm))

    def read(module, batch):
      x_BTD = module.embed(batch)
      return module.llm.read(x_BTD, batch.input_mask, batch.mask_ar, batch.score_pos)[1]

    return _apply(model, params, batch, method=read)

  assert jnp.abs(reads(causal, 4)[0] - reads(causal, 0)[0]).max() > 1e-4
  np.testing.assert_allclose(reads(causal, 64), reads(causal, 0), atol=1e-6)
  np.testing.assert_allclose(reads(prefix, 4), reads(prefix, 0), atol=1e-6)
  llm = dataclasses.replace(config.llm, sliding_window=4)
  everywhere, local = gemma.attention_masks(llm, causal.input_mask, causal.mask_ar)
  assert jnp.any(everywhere & ~local)
  assert not jnp.any(local & ~everywhere)


def test_causal_tokens_do_not_see_the_future():
  """By gradient: with mask_ar = 1, the read depends on no later embedding."""
  batch = jax.tree.map(jnp.asarray, testing.random_batch(text=6))
  model = testing.tiny_model()
  params = _init(model, batch)
  T = batch.tokens.shape[1]
  read_at = jnp.full((2, 1), T - 4)

  def read(module, x_BTD, mask_ar):
    valid = jnp.ones_like(batch.input_mask)
    return module.llm.read(x_BTD, valid, mask_ar, read_at)[1][-1].sum()

  def influence(mask_ar):
    grad = jax.grad(lambda x: _apply(model, params, x, mask_ar, method=read))(
      _apply(model, params, batch, method="embed")
    )
    return jnp.abs(grad).max(axis=(0, 2))

  causal = influence(jnp.ones_like(batch.tokens))
  prefix = influence(jnp.zeros_like(batch.tokens))
  assert jnp.all(causal[T - 3 :] == 0)
  assert jnp.all(causal[T - 6 : T - 3] > 0)
  assert jnp.all(prefix[T - 3 :] > 0)


def test_soft_tokens_fill_the_slots_in_order():
  batch = jax.tree.map(jnp.asarray, testing.random_batch(window=2, frames=2))
  model = testing.tiny_model()
  params = _init(model, batch)
  x_BTD = _apply(model, params, batch, method="embed")

  def soft(module, frames):
    return module.img(student.normalise(frames))

  images = batch.frames.reshape(-1, 16, 16, 3)
  soft_BID = _apply(model, params, images, method=soft).reshape(2, 16, -1)
  slots = np.flatnonzero(batch.tokens[0] == testing.IMAGE_ID)
  assert list(slots) == [*range(8), *range(9, 17)]
  np.testing.assert_allclose(x_BTD[:, slots], soft_BID, atol=1e-6)


def test_last_exit_is_the_tied_head_on_the_score_tokens():
  batch = testing.random_batch()
  model = testing.tiny_model()
  params = _init(model, batch)
  before = _logits(model, params, batch)
  table = params["llm"]["embedder"]["input_embedding"]
  params["llm"]["embedder"]["input_embedding"] = table.at[testing.SCORE_IDS[4]].multiply(2.0)
  after = _logits(model, params, batch)
  np.testing.assert_array_equal(before[:2], after[:2])
  np.testing.assert_allclose(before[2][..., :4], after[2][..., :4], atol=1e-6)
  assert jnp.abs(before[2][..., 4] - after[2][..., 4]).min() > 1e-3


def test_bfloat16_stays_near_float32(case):
  model, params, batch = case
  half = testing.tiny_model(testing.tiny_config(dtype="bfloat16"))
  difference = jnp.abs(_logits(model, params, batch) - _logits(half, params, batch)).max()
  assert 0 < difference < 0.15


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"exits": exits.ExitsConfig((1, 2))}, "must be model.llm.depth"),
    ({"exits": exits.ExitsConfig((2, 1, 3))}, "ascending"),
    ({"exits": exits.ExitsConfig(())}, "ascending"),
    ({"dtype": "float16"}, "model.dtype"),
  ],
)
def test_configs_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    testing.tiny_config(**changes)
