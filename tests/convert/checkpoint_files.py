"""Small checkpoints in each format, made without this library's converter."""

import dataclasses
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vsumjax import testing
from vsumjax.convert import weights
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.gemma import GemmaConfig

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def small_config(family="gemma2", early_exits=False):
  """A PaliGemma ("gemma") or PaliGemma 2 ("gemma2") of a few thousand parameters."""
  exits = ExitsConfig((1, 2, 3), prototypes=True) if early_exits else ExitsConfig((3,))
  config = dataclasses.replace(testing.tiny_config(), exits=exits)
  if family == "gemma2":
    return config
  shape = {name: getattr(config.llm, name) for name in ("vocab_size", "width", "depth", "mlp_dim")}
  llm = GemmaConfig(
    **shape, num_heads=4, num_kv_heads=1, head_size=8, query_scale=8.0, attention_cap=0.0,
    final_cap=0.0, post_norms=False, sliding_window=0,
  )  # fmt: skip
  return dataclasses.replace(config, llm=llm)


def random_leaves(config, dtype="float32", classes=5, seed=0):
  """Random arrays for every parameter, by path."""
  rng = np.random.default_rng(seed)
  shapes = weights.leaf_shapes(config, classes)
  return {
    path: rng.normal(0, 0.1, shape).astype(DTYPES[dtype]) for path, shape in sorted(shapes.items())
  }


def write_npz(path, leaves, prefix="params/", *, deflated=False):
  """As big_vision writes it: bfloat16 as void of two bytes, fields of NumPy's own writer."""
  arrays = {
    prefix + name: a.view("V2") if a.dtype == ml_dtypes.bfloat16 else a
    for name, a in leaves.items()
  }
  (np.savez_compressed if deflated else np.savez)(path, **arrays)
  return path


def read_npz(path):
  """{key: (dtype as stored, bytes)}, by NumPy and zipfile alone."""
  with zipfile.ZipFile(path) as archive:
    assert archive.testzip() is None
  with np.load(path) as archive:
    return {key: (archive[key].dtype.str, archive[key].tobytes()) for key in archive.files}


def assert_same_tensors(a, b):
  """Same paths, dtypes, shapes and bits."""
  assert a.keys() == b.keys()
  for path, tensor in a.items():
    other = b[path]
    assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape), path
    assert _bytes(tensor) == _bytes(other), path


def _bytes(tensor):
  return (tensor if isinstance(tensor, np.ndarray) else tensor.array()).tobytes()


def their_model(family, dtype="float32"):
  """Hugging Face's model of `small_config`, with random weights."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.utils.logging.disable_progress_bar()
    vision = {
      "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32,
      "patch_size": 4, "image_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
      "vision_use_head": False,
    }  # fmt: skip
    text = {
      "model_type": family, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
      "num_attention_heads": 4, "num_key_value_heads": 2 if family == "gemma2" else 1,
      "head_dim": 8, "vocab_size": 64,
    }  # fmt: skip
    if family == "gemma2":
      text |= {"query_pre_attn_scalar": 8, "sliding_window": 8}
    config = transformers.PaliGemmaConfig(
      vision_config=vision, text_config=text, image_token_index=64, projection_dim=32,
      hidden_size=32, vocab_size=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.PaliGemmaForConditionalGeneration(config)
    with torch.no_grad():  # norms and biases start at 0 or 1, where a swap would not show
      for parameter in model.parameters():
        parameter.normal_(0, 0.1)
    return model.to(getattr(torch, dtype))
