"""big_vision's own PaliGemma, where a checkout of it can be imported: for parity and for speed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from vsumjax.models.student import StudentConfig

CHECKOUT = "BIG_VISION"  # environment variable with the folder that holds big_vision/
MISSING = f"big_vision cannot be imported: set {CHECKOUT} to a checkout and install einops"


def import_modules(*names: str, checkout: str | os.PathLike[str] = "") -> list[types.ModuleType]:
  """Modules by their names within big_vision.

  Args:
    checkout: the folder that holds big_vision/; "" takes that of the environment, if any.

  Raises:
    ImportError: one of them, or something that it needs, is not there.
  """
  folder = str(checkout) or os.environ.get(CHECKOUT, "")
  if folder and folder not in sys.path:
    sys.path.append(folder)
  try:
    importlib.import_module("flax.io")  # would take what stands in for TensorFlow for TensorFlow
    with _tensorflow_stood_in():
      return [importlib.import_module(f"big_vision.{name}") for name in names]
  except ImportError as error:
    raise ImportError(f"{MISSING} ({error})") from error


def build_model(config: StudentConfig, *, remat: bool = True, dtype: str = "float32") -> Any:
  """A Linen module of the sizes of `config`; our parameters (`img`, `llm`) are its parameters.

  `apply({"params": params}, image, text, mask_ar)` takes pixels in [-1, 1] and text without image
  slots. It has no sliding window, no pooling of tokens and computes in float32 by default.

  Args:
    config: sizes. The query scale must be the head size or width // heads, all that it knows.
    remat: compute activations again in the backward pass, which is its default.
    dtype: of activations. Its decoder has float32 alone: with "bfloat16" the parameters must be
      given in bfloat16, too.

  Raises:
    ImportError: it, or something that it needs, is not there.
    ValueError: it knows no such query scale.
  """
  paligemma, gemma = _modules()
  variant = f"vsumjax {config.llm} {dtype}"
  values = _gemma_config(config, variant) | {"embed_dtype": dtype}
  published = gemma.get_config
  # It looks its sizes up by name, again in every call.
  gemma.get_config = lambda name: (
    ml_collections.ConfigDict(values) if name == variant else published(name)
  )
  c = config.img
  img = {
    "width": c.width,
    "depth": c.depth,
    "mlp_dim": c.mlp_dim,
    "num_heads": c.num_heads,
    "patch_size": (c.patch_size, c.patch_size),
    "pool_type": "none",
    "scan": True,
    "dtype_mm": dtype,
    # A scanned tower has no "none": an unknown name would keep nothing.
    "remat_policy": "nothing_saveable" if remat else "everything_saveable",
  }
  llm = {"variant": variant, "remat_policy": "nothing_saveable" if remat else "none"}
  return paligemma.Model(img=img, llm=llm)


def _gemma_config(config: StudentConfig, variant: str) -> dict[str, Any]:
  c = config.llm
  scales = {
    float(c.width // c.num_heads): "rsqrt_emb_per_head",
    float(c.head_size): "rsqrt_head_dim",
  }
  if c.query_scale not in scales:
    raise ValueError(f"big_vision knows no query scale {c.query_scale}, only {list(scales)}")
  return {
    "variant": variant,
    "width": c.width,
    "depth": c.depth,
    "mlp_dim": c.mlp_dim,
    "num_heads": c.num_heads,
    "num_kv_heads": c.num_kv_heads,
    "head_dim": c.head_size,
    "norm_eps": 1e-6,
    "vocab_size": c.vocab_size,
    "query_pre_attn_norm": scales[c.query_scale],
    "final_logits_softcap": c.final_cap,
    "attn_logits_softcap": c.attention_cap,
    "post_norms": c.post_norms,
  }


def _modules() -> tuple[types.ModuleType, types.ModuleType]:
  paligemma, gemma, *_ = import_modules(
    "models.proj.paligemma.paligemma",
    "models.ppp.gemma",
    "models.proj.paligemma.gemma_bv",
    "models.vit",
  )
  if not hasattr(gemma._apply_rope, "__wrapped__"):
    gemma._apply_rope = _in_dtype_of_input(gemma._apply_rope)
  return paligemma, gemma


def _in_dtype_of_input(rotate: Callable[..., Any]) -> Callable[..., Any]:
  """Its rotary embedding turns bfloat16 into float32, with which its scan over layers refuses."""

  @functools.wraps(rotate)
  def rotated(x: Any, **kwargs: Any) -> Any:
    return rotate(x, **kwargs).astype(x.dtype)

  return rotated


@contextlib.contextmanager
def _tensorflow_stood_in() -> Iterator[None]:
  """The models import TensorFlow for access to files only, which nobody asks of them here."""
  if importlib.util.find_spec("tensorflow"):
    yield
    return
  names = ("tensorflow", "tensorflow.io", "tensorflow.io.gfile")
  tensorflow, io, gfile = (types.ModuleType(name) for name in names)
  tensorflow.io, io.gfile = io, gfile
  sys.modules.update(zip(names, (tensorflow, io, gfile), strict=True))
  try:
    yield
  finally:
    for name in names:
      del sys.modules[name]
