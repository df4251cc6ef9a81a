"""The logits of big_vision's own PaliGemma, with the same parameters.

BIG_VISION names the folder of a checkout; without one these tests are skipped.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import sharding, testing
from vsumjax.convert import big_vision
from vsumjax.models import exits, gemma, siglip, student
from vsumjax.models.student import init_params
from vsumjax.ops import attention
from vsumjax.types import Prompt

pytestmark = pytest.mark.usefixtures("one_device", "checkout")

P = 16  # patches of an image of 16 px, and image slots: big_vision does not pool
GEMMA2 = testing.tiny_config().llm
CONFIGS = {
  "gemma_1": dataclasses.replace(
    GEMMA2, num_kv_heads=1, attention_cap=0.0, final_cap=0.0, post_norms=False, sliding_window=0
  ),
  "gemma_2": dataclasses.replace(GEMMA2, sliding_window=4096),
  # Of 48 / 4 = 12, while a head has 8.
  "gemma_2_27b": dataclasses.replace(GEMMA2, width=48, query_scale=12.0, sliding_window=4096),
  # Caps that bend the logits of a tiny model, too.
  "low_caps": dataclasses.replace(GEMMA2, attention_cap=0.5, final_cap=1.5, sliding_window=4096),
}


@pytest.fixture(scope="module")
def checkout():
  try:
    big_vision.build_model(testing.tiny_config())
  except ImportError as error:
    pytest.skip(str(error))


@pytest.fixture(params=CONFIGS)
def config(request):
  llm = CONFIGS[request.param]
  img = siglip.SiglipConfig(16, 4, width=16, depth=2, mlp_dim=32, num_heads=2)
  return student.StudentConfig(img, llm, exits.ExitsConfig((llm.depth,)), "float32", False)


@pytest.fixture
def case(config):
  """Our model, random parameters, and a prompt with a suffix; rows differ in both lengths."""
  rng = np.random.default_rng(0)
  num_prefix, num_valid = np.array([5, 3, 9]), np.array([12, 7, 10])
  index_T = np.arange(12)
  is_image = np.ones((3, P))
  tokens = rng.integers(1, 60, (3, 12))
  mask_ar = index_T >= num_prefix[:, None]
  prompt = Prompt(
    frames=rng.integers(0, 256, (3, 1, 1, 16, 16, 3)).astype(np.uint8),
    tokens=np.concatenate([is_image * testing.IMAGE_ID, tokens], axis=1).astype(np.int32),
    mask_ar=np.concatenate([is_image * 0, mask_ar], axis=1).astype(np.int32),
    input_mask=np.concatenate([is_image > 0, index_T < num_valid[:, None]], axis=1),
  )
  prompt = jax.tree.map(jnp.asarray, prompt)
  model = student.VideoSummaryStudent(config, P, testing.IMAGE_ID, testing.SCORE_IDS)
  return model, _random_params(model), prompt


def _random_params(model):
  """Every leaf random: norms and biases, too, which begin as ones and zeros."""
  boxed = jax.eval_shape(lambda: init_params(model, testing.random_batch(), jax.random.key(0)))
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype), sharding.unbox(boxed)
  )


def _ours(model, params, prompt):
  return jax.jit(lambda p, x: model.apply({"params": p}, x, method="lm_logits"))(params, prompt)


def _theirs(config, params, prompt):
  """Logits at the text positions before the soft cap, which it returns, and after, among others."""
  model = big_vision.build_model(config)
  image = student.normalise(prompt.frames[:, 0, 0])

  def apply(params):
    text, mask_ar = prompt.tokens[:, P:], prompt.mask_ar[:, P:]
    before, out = model.apply({"params": params}, image, text, mask_ar)
    return before, out["llm/logits"][:, P:]

  with jax.numpy_rank_promotion("allow"):
    return jax.jit(apply)(params)


def test_logits_are_the_same(config, case):
  model, params, prompt = case
  text_mask = prompt.input_mask[:, P:]
  ours = _ours(model, params, prompt)[:, P:][text_mask]
  before, after = (logits[text_mask] for logits in _theirs(config, params, prompt))
  assert jnp.std(ours) > 0.1
  np.testing.assert_allclose(ours, after, atol=1e-4, rtol=0)
  np.testing.assert_allclose(
    ours, attention.soft_cap(before, config.llm.final_cap), atol=1e-4, rtol=0
  )


@pytest.mark.parametrize("config", ["low_caps"], indirect=True)
def test_the_comparison_tells_a_wrong_model(config, case):
  """What a mistake in the mask, the query scale or the caps would change is well above 1e-4."""
  model, params, prompt = case
  valid = prompt.input_mask
  right = _ours(model, params, prompt)[valid]
  bidirectional = prompt.replace(mask_ar=jnp.zeros_like(prompt.mask_ar))
  assert jnp.abs(right - _ours(model, params, bidirectional)[valid]).max() > 1e-2
  changes = [{"query_scale": config.llm.query_scale * 1.5}, {"post_norms": False}]
  changes += [{"attention_cap": 0.0}, {"final_cap": 0.0}]
  for change in changes:
    llm = dataclasses.replace(config.llm, **change)
    wrong = model.clone(config=dataclasses.replace(config, llm=llm))
    assert jnp.abs(right - _ours(wrong, params, prompt)[valid]).max() > 1e-3, change


def test_names_and_shapes_of_parameters_are_the_same(config, case):
  _, params, prompt = case
  model = big_vision.build_model(config)
  image, text = student.normalise(prompt.frames[:, 0, 0]), prompt.tokens[:, P:]
  with jax.numpy_rank_promotion("allow"):
    theirs = jax.eval_shape(model.init, jax.random.key(0), image, text, text)["params"]

  def shapes(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

  assert shapes(params) == shapes(theirs)


def test_a_query_scale_that_it_lacks_is_refused():
  config = testing.tiny_config()
  odd = gemma.GemmaConfig(**{**dataclasses.asdict(config.llm), "query_scale": 3.0})
  with pytest.raises(ValueError, match=r"query scale 3\.0"):
    big_vision.build_model(dataclasses.replace(config, llm=odd))
