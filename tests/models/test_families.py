"""The published models at full size, shaped without memory: every parameter is accounted for."""

import jax
import jax.numpy as jnp
import pytest

from vsumjax import sharding
from vsumjax.models import families, student
from vsumjax.models.student import init_params
from vsumjax.types import Batch, InputError

pytestmark = pytest.mark.usefixtures("one_device")

VOCAB = 257_152
# Gemma (2403.08295) and Gemma 2 (2408.00118), table 1 of each: width, layers, half of the gated
# mlp, query heads, key heads, head size, norms a layer; and what the published checkpoint counts,
# with its own vocabulary of 256,000.
DECODERS = {
  "paligemma_3b": (2048, 18, 16_384, 8, 1, 256, 2, 2_506_172_416),
  "paligemma2_3b": (2304, 26, 9216, 8, 4, 256, 4, 2_614_341_888),
  "paligemma2_10b": (3584, 42, 14_336, 16, 8, 256, 4, 9_241_705_984),
  "paligemma2_28b": (4608, 46, 36_864, 32, 16, 128, 4, 27_227_128_320),
}
# So400m/14 of SigLIP.
TOWER = {"patch": 14, "width": 1152, "depth": 27, "mlp": 4304}
# Parameters of Hugging Face's checkpoints at 224 px, whose embedding has 64 unused rows.
HUGGING_FACE = {"paligemma_3b": 2_923_466_480, "paligemma2_3b": 3_032_242_416}


def _decoder_parts(name):
  D, L, M, H, K, S, num_norms, _ = DECODERS[name]
  return {
    "embedder": VOCAB * D,
    "layers/attn": L * (D * H * S + 2 * K * D * S + H * S * D),
    "layers/mlp": L * 3 * D * M,
    "layers/norms": L * num_norms * D,
    "final_norm": D,
  }


def _tower_parts(resolution):
  D, L, M, patch = TOWER["width"], TOWER["depth"], TOWER["mlp"], TOWER["patch"]
  return {
    "embedding": patch * patch * 3 * D + D,
    "pos_embedding": (resolution // patch) ** 2 * D,
    "attention": L * 4 * (D * D + D),
    "mlp": L * (D * M + M + M * D + D),
    "norms": (2 * L + 1) * 2 * D,
  }


def _params(name):
  """Shapes of the whole model, from one image and two tokens."""
  config = families.paligemma(name)
  P, size = config.img.num_patches, config.img.image_size
  row = jax.ShapeDtypeStruct((1, P + 2), jnp.int32)
  spec = Batch(
    frames=jax.ShapeDtypeStruct((1, 1, 1, size, size, 3), jnp.uint8),
    tokens=row,
    mask_ar=row,
    input_mask=jax.ShapeDtypeStruct(row.shape, jnp.bool_),
    score_pos=jax.ShapeDtypeStruct((1, 1), jnp.int32),
    targets=jax.ShapeDtypeStruct((1, 1, 5), jnp.float32),
    weight=jax.ShapeDtypeStruct((1, 1), jnp.float32),
    teachers=(),
    example=jax.ShapeDtypeStruct((1,), jnp.int32),
  )
  model = student.VideoSummaryStudent(config, P, VOCAB, (1, 2, 3, 4, 5))
  boxed = jax.eval_shape(lambda: init_params(model, spec, jax.random.key(0)))
  return sharding.unbox(boxed)


def _num(*trees):
  return sum(student.num_params(tree) for tree in trees)


@pytest.mark.parametrize("resolution", families.RESOLUTIONS)
@pytest.mark.parametrize("name", DECODERS)
def test_every_parameter_is_accounted_for(name, resolution):
  params = _params(f"{name}_{resolution}")
  llm, img = params["llm"], dict(params["img"])
  layers = dict(llm["layers"])
  decoder = {
    "embedder": _num(llm["embedder"]),
    "layers/attn": _num(layers.pop("attn")),
    "layers/mlp": _num(layers.pop("mlp")),
    "layers/norms": _num(layers),
    "final_norm": _num(llm["final_norm"]),
  }
  assert decoder == _decoder_parts(name)
  blocks = dict(img["Transformer"]["encoderblock"])
  tower = {
    "embedding": _num(img["embedding"]),
    "pos_embedding": _num(img["pos_embedding"]),
    "attention": _num(blocks.pop("MultiHeadDotProductAttention_0")),
    "mlp": _num(blocks.pop("MlpBlock_0")),
    "norms": _num(blocks, img["Transformer"]["encoder_norm"]),
  }
  assert tower == _tower_parts(resolution)
  D = DECODERS[name][0]
  projector = _num(img["head"])
  assert projector == TOWER["width"] * D + D
  assert _num(params) == sum(decoder.values()) + sum(tower.values()) + projector
  assert set(params) == {"img", "llm"}  # nothing beside a checkpoint's own parameters


@pytest.mark.parametrize("name", DECODERS)
def test_the_sums_are_the_published_ones(name):
  """Gemma's own counts, and those of the converted checkpoints where they are known."""
  D, *_, gemma = DECODERS[name]
  decoder = sum(_decoder_parts(name).values())
  assert decoder == gemma + (VOCAB - 256_000) * D
  tower = sum(_tower_parts(224).values())
  assert tower == 412_442_352
  if name in HUGGING_FACE:
    assert decoder + 64 * D + tower + TOWER["width"] * D + D == HUGGING_FACE[name]


@pytest.mark.parametrize("name", ["paligemma2_3b", "paligemma2_3b_225"])
def test_an_unknown_name_is_refused_and_the_nearest_is_told(name):
  with pytest.raises(InputError, match=f"'{name}': unknown; did you mean paligemma2_3b_"):
    families.paligemma(name)
