"""Our model against transformers' PaliGemma and PaliGemma 2: logits, gradients, generation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_paligemma as tiny  # noqa: E402  (after the skips; it lies beside this file)

from vsumjax import sharding  # noqa: E402
from vsumjax.inference.generate import GenerateConfig, Generator  # noqa: E402
from vsumjax.types import Prompt  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_device")
LONG = pytest.mark.long


@dataclasses.dataclass(frozen=True)
class Case:
  """family: of `tiny.FAMILIES`. text, suffix: tokens of each row, before and of the answer."""

  family: str
  text: tuple[int, ...]
  suffix: int = 5
  images: int = 1


# Each of these has a mechanism of its own, which the logits of its family feel. What the backward
# pass and the cache add is the same for all: two cases that hold most of it stand for the others.
CASES = {
  "gemma1": Case("gemma1", (9, 9)),
  "gemma1, padded": Case("gemma1", (9, 4, 1)),
  "gemma2, grouped queries": Case("gemma2_wide", (9, 9)),
  "gemma2, query scale of 27b": Case("gemma2_27b", (9, 9)),
  "gemma2, longer than the window": Case("gemma2", (6, 6), suffix=30),
  "gemma2, two images": Case("gemma2", (9, 9), images=2),
  "gemma2, padded": Case("gemma2", (9, 4, 1), suffix=12),
}


EVERY = list(CASES)
FEW = [
  name if name in ("gemma1, padded", "gemma2, padded") else pytest.param(name, marks=LONG)
  for name in CASES
]


@pytest.fixture(scope="module")
def both(request):
  """A case, by its name, with the same weights on both sides."""
  case = CASES[request.param]
  llm = tiny.FAMILIES[case.family]
  theirs = tiny.hf_model(llm)
  weights = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
  params = jax.tree.map(jnp.asarray, tiny.to_ours(weights, llm))
  return case, theirs, tiny.our_model(llm), params


def _inputs(case, side="right"):
  """Rows of image slots, text and suffix, padded on one side, as both sides want them."""
  rng = np.random.default_rng(0)
  B, slots = len(case.text), case.images * tiny.NUM_PATCHES
  T = slots + max(case.text) + case.suffix
  tokens = np.zeros((B, T), np.int32)
  is_suffix, valid = np.zeros((B, T), bool), np.zeros((B, T), bool)
  for row, text in enumerate(case.text):
    length = slots + text + case.suffix
    begin = 0 if side == "right" else T - length
    tokens[row, begin : begin + slots] = tiny.IMAGE_ID
    words = rng.integers(3, 60, text + case.suffix)
    tokens[row, begin + slots : begin + length] = words
    valid[row, begin : begin + length] = True
    is_suffix[row, begin + slots + text : begin + length] = True
  size = tiny.IMAGE_SIZE
  frames = rng.integers(0, 256, (B, 1, case.images, size, size, 3)).astype(np.uint8)
  pixels = frames.reshape(-1, size, size, 3).transpose(0, 3, 1, 2) / 127.5 - 1
  prompt = Prompt(frames, tokens, is_suffix.astype(np.int32), valid)
  theirs = {
    "input_ids": torch.tensor(tokens, dtype=torch.long),
    "pixel_values": torch.tensor(pixels, dtype=torch.float32),
    "attention_mask": torch.tensor(valid, dtype=torch.long),
    "token_type_ids": torch.tensor(is_suffix, dtype=torch.long),
  }
  return jax.tree.map(jnp.asarray, prompt), theirs


def _logits(model, params, prompt):
  return jax.jit(lambda p: model.apply({"params": params}, p, method="lm_logits"))(prompt)


@pytest.mark.parametrize("both", EVERY, indirect=True)
def test_logits(both):
  case, theirs, ours, params = both
  prompt, inputs = _inputs(case)
  with torch.no_grad():
    expected = theirs(**inputs).logits.numpy()
  got = np.asarray(_logits(ours, params, prompt))
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(got[prompt.input_mask], expected[prompt.input_mask], atol=1e-4)


@pytest.mark.parametrize("both", FEW, indirect=True)
def test_gradients_of_every_parameter(both):
  case, theirs, ours, params = both
  prompt, inputs = _inputs(case)
  is_suffix = np.asarray(prompt.mask_ar, bool)
  labels = torch.where(torch.tensor(is_suffix), inputs["input_ids"], -100)
  theirs.zero_grad()
  loss = theirs(**inputs, labels=labels).loss
  loss.backward()
  gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
  expected = tiny.to_ours(gradients, tiny.FAMILIES[case.family])

  def our_loss(params):
    logits_BTV = ours.apply({"params": params}, prompt, method="lm_logits")[:, :-1]
    log_probs_BTV = jax.nn.log_softmax(logits_BTV)
    chosen_BT = jnp.take_along_axis(log_probs_BTV, prompt.tokens[:, 1:, None], axis=-1)[..., 0]
    weight_BT = is_suffix[:, 1:].astype(np.float32)
    return -(chosen_BT * weight_BT).sum() / weight_BT.sum()

  value, got = jax.jit(jax.value_and_grad(our_loss))(params)
  np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for (path, ours_leaf), theirs_leaf in zip(
    jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
  ):
    name = jax.tree_util.keystr(path)
    scale = np.linalg.norm(theirs_leaf)
    if name.endswith("['key']['bias']"):  # softmax does not feel it: zero but for rounding
      scale = np.linalg.norm(expected["img"]["embedding"]["bias"])
    assert scale > 0, name
    assert np.linalg.norm(ours_leaf - theirs_leaf) <= 1e-4 * scale, name


@pytest.mark.parametrize("both", FEW, indirect=True)
def test_greedy_generation(both):
  case, theirs, ours, params = both
  case = dataclasses.replace(case, suffix=0)
  padded_left, inputs = _inputs(case, side="left")
  theirs.generation_config.eos_token_id = None
  with torch.no_grad():
    out = theirs.generate(**inputs, max_new_tokens=16, do_sample=False, use_cache=True)
  expected = out[:, inputs["input_ids"].shape[1] :].numpy()
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  generator = Generator(
    ours, params, mesh, sharding.LogicalRules(), GenerateConfig(16), eos_id=-1, pad_id=0
  )
  padded_right, _ = _inputs(case, side="right")
  for prompt in (padded_left, padded_right):
    np.testing.assert_array_equal(generator(prompt).tokens, expected)
  if case.family == "gemma2":  # else the case would not reach beyond the window
    assert expected.shape[1] > tiny.FAMILIES["gemma2"].sliding_window


@pytest.mark.parametrize(
  ("name", "change"),
  [
    ("gemma2, longer than the window", {"sliding_window": 0}),
    ("gemma2, query scale of 27b", {"query_scale": 16.0}),
    ("gemma2, grouped queries", {"attention_cap": 0.0}),
    ("gemma2, grouped queries", {"final_cap": 0.0}),
  ],
)
def test_cases_feel_what_they_are_there_for(name, change):
  case = CASES[name]
  llm = tiny.FAMILIES[case.family]
  weights = {k: p.detach().numpy() for k, p in tiny.hf_model(llm).named_parameters()}
  params = jax.tree.map(jnp.asarray, tiny.to_ours(weights, llm))
  prompt, _ = _inputs(case)
  right = _logits(tiny.our_model(llm), params, prompt)
  wrong = _logits(tiny.our_model(dataclasses.replace(llm, **change)), params, prompt)
  assert jnp.abs(right - wrong).max() > 1e-2
