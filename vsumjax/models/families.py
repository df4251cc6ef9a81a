"""The published sizes: Gemma 1 and 2, SigLIP So400m/14, PaliGemma and PaliGemma 2.

Sources: Gemma (2403.08295) table 1, Gemma 2 (2408.00118) table 1, SigLIP (2303.15343), PaliGemma
(2407.07726) and PaliGemma 2 (2412.03555), with the figures of big_vision's and transformers'
configs where the papers are silent.
"""

from __future__ import annotations

import difflib

from vsumjax.models.exits import ExitsConfig
from vsumjax.models.gemma import GemmaConfig
from vsumjax.models.siglip import SiglipConfig
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

# 256,000 pieces of Gemma, 1,024 locations and 128 segmentation codes.
VOCAB_SIZE = 257_152


def _gemma2(
  width: int, depth: int, mlp_dim: int, heads: tuple[int, int, int], query_scale: float
) -> GemmaConfig:
  num_heads, num_kv_heads, head_size = heads
  return GemmaConfig(
    vocab_size=VOCAB_SIZE,
    width=width,
    depth=depth,
    mlp_dim=mlp_dim,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
    head_size=head_size,
    query_scale=query_scale,
    attention_cap=50.0,
    final_cap=30.0,
    post_norms=True,
    sliding_window=4096,
  )


GEMMA = {
  "gemma_2b": GemmaConfig(
    vocab_size=VOCAB_SIZE,
    width=2048,
    depth=18,
    mlp_dim=16_384,
    num_heads=8,
    num_kv_heads=1,
    head_size=256,
    query_scale=256.0,
    attention_cap=0.0,
    final_cap=0.0,
    post_norms=False,
    sliding_window=0,
  ),
  "gemma2_2b": _gemma2(2304, 26, 9216, (8, 4, 256), 256.0),
  "gemma2_9b": _gemma2(3584, 42, 14_336, (16, 8, 256), 256.0),
  # Of width / heads = 144, and not of the head size as the others.
  "gemma2_27b": _gemma2(4608, 46, 36_864, (32, 16, 128), 144.0),
}

RESOLUTIONS = (224, 448, 896)

_DECODERS = {
  "paligemma_3b": "gemma_2b",
  "paligemma2_3b": "gemma2_2b",
  "paligemma2_10b": "gemma2_9b",
  "paligemma2_28b": "gemma2_27b",
}


def so400m(image_size: int) -> SiglipConfig:
  """SigLIP So400m/14 at 224, 448 or 896 pixels."""
  return SiglipConfig(
    image_size=image_size, patch_size=14, width=1152, depth=27, mlp_dim=4304, num_heads=16
  )


PALIGEMMA = {
  f"{name}_{resolution}": StudentConfig(
    img=so400m(resolution),
    llm=GEMMA[decoder],
    exits=ExitsConfig((GEMMA[decoder].depth,)),
    dtype="bfloat16",
    remat=True,
  )
  for name, decoder in _DECODERS.items()
  for resolution in RESOLUTIONS
}


def paligemma(name: str) -> StudentConfig:
  """A published model by name, as "paligemma2_3b_448"; InputError names the nearest if unknown."""
  if name not in PALIGEMMA:
    near = difflib.get_close_matches(name, PALIGEMMA, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(PALIGEMMA)}"
    raise InputError(f"model {name!r}: unknown{hint}")
  return PALIGEMMA[name]
