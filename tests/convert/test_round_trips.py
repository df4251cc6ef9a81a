"""There and back: the same keys, the same bits."""

import json
import shutil
import warnings

import numpy as np
import pytest
from checkpoint_files import (
  assert_same_tensors,
  random_leaves,
  read_npz,
  small_config,
  their_model,
  write_npz,
)
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vsumjax.convert import formats, huggingface, mapping, sidecar
from vsumjax.convert.safetensors import open_safetensors

_LEGACY = ("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector.")
_NEW = ("model.language_model.", "model.vision_tower.", "model.multi_modal_projector.")


def _write(path, kind, weights, max_shard_bytes=40_000):
  formats.write_weights(path, kind, weights, max_shard_bytes, lambda count: None)
  return path


def _tensors(folder):
  """Everything in the shards of a directory, by the reference library; bits of any dtype."""
  found = {}
  for file in folder.glob("model*.safetensors"):
    found |= open_safetensors(file)
    with safe_open(file, "numpy") as opened:
      assert set(opened.keys()) == open_safetensors(file).keys()
  return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gemma", "gemma2"])
def test_hf_ours_hf(make_huggingface, tmp_path, family, dtype):
  source = make_huggingface(family, dtype)
  ours = _write(tmp_path / "ours", formats.NATIVE, formats.open_weights(source))
  back = _write(tmp_path / "back", formats.HUGGINGFACE, formats.open_weights(ours))
  assert len(list(back.glob("model-*.safetensors"))) > 1
  assert_same_tensors(_tensors(source), _tensors(back))
  assert (back / "config.json").read_text() == (source / "config.json").read_text()


def _spelled(folder, out, prefixes, head=""):
  """A copy of a directory in one file, with other key prefixes and maybe an LM head."""
  layout = mapping.find_layout(_tensors(folder), "")
  old = (layout.decoder, layout.tower, layout.projector)
  arrays = {}
  for file in folder.glob("*.safetensors"):
    arrays |= load_file(file)
  renamed = {}
  for name, array in arrays.items():
    was, new = next(pair for pair in zip(old, prefixes, strict=True) if name.startswith(pair[0]))
    renamed[new + name.removeprefix(was)] = array
  if head:
    renamed[head] = renamed[prefixes[0] + "embed_tokens.weight"]
  out.mkdir()
  shutil.copy(folder / "config.json", out)
  save_file(renamed, out / "model.safetensors", {"format": "pt"})
  return out


@pytest.mark.parametrize(
  ("prefixes", "head"),
  [(_LEGACY, ""), (_LEGACY, "language_model.lm_head.weight"), (_NEW, ""), (_NEW, "lm_head.weight")],
)
def test_every_spelling_comes_back(make_huggingface, tmp_path, prefixes, head):
  source = make_huggingface()
  spelled = _spelled(source, tmp_path / "spelled", prefixes, head)
  assert _tensors(spelled).keys() != _tensors(source).keys()
  opened = formats.open_weights(spelled)
  assert_same_tensors(opened.tensors, formats.open_weights(source).tensors)
  ours = _write(tmp_path / "ours", formats.NATIVE, opened)
  back = _write(tmp_path / "back", formats.HUGGINGFACE, formats.open_weights(ours), 10**9)
  assert_same_tensors(_tensors(spelled), _tensors(back))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("prefix", ["params/", ""])
@pytest.mark.parametrize("deflated", [False, True])
def test_npz_ours_npz(tmp_path, dtype, prefix, deflated):
  config = small_config()
  leaves = random_leaves(config, dtype)
  source = write_npz(tmp_path / "source.npz", leaves, prefix, deflated=deflated)
  opened = formats.open_weights(source, config)
  assert_same_tensors(opened.tensors, leaves)
  ours = _write(tmp_path / "ours", formats.NATIVE, opened)
  back = _write(tmp_path / "back.npz", formats.NPZ, formats.open_weights(ours))
  assert read_npz(back) == read_npz(source)
  assert next(iter(read_npz(back).values()))[0] == {"bfloat16": "|V2"}.get(
    dtype, np.dtype(dtype if dtype != "bfloat16" else "V2").str
  )


def test_an_npz_of_fortran_order(tmp_path):
  config = small_config()
  leaves = random_leaves(config)
  turned = {name: np.asfortranarray(array) for name, array in leaves.items()}
  source = write_npz(tmp_path / "source.npz", turned)
  assert_same_tensors(formats.open_weights(source, config).tensors, leaves)


@pytest.mark.parametrize("kind", formats.FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gemma", "gemma2"])
def test_ours_and_back_with_exits(tmp_path, kind, dtype, family):
  """Ours -> npz, Hugging Face or ours -> ours: weights, exits, config and facts."""
  config = small_config(family, early_exits=True)
  leaves = random_leaves(config, dtype)
  assert {f"exits/{name}" for name in ("norm", "kernel", "bias", "prototype")} < leaves.keys()
  ours = _write(tmp_path / "ours", formats.NATIVE, _as_weights(leaves, config))
  there = tmp_path / ("there.npz" if kind == formats.NPZ else "there")
  _write(there, kind, formats.open_weights(ours))
  again = _write(tmp_path / "again", formats.NATIVE, formats.open_weights(there))
  before, after = formats.open_weights(ours), formats.open_weights(again)
  assert_same_tensors(leaves, after.tensors)
  assert after.config == before.config == config
  for name in ("score_tokens", "score_ids", "prompt", "prompt_digest", "image_token_id"):
    assert getattr(after.facts, name) == getattr(before.facts, name), name


def _as_weights(leaves, config):
  from vsumjax.convert.tensors import LazyTensor, full
  from vsumjax.convert.weights import Facts, Weights

  def lazy(name, array):
    read = lambda region: array[full(region, array.shape)]  # noqa: E731
    return LazyTensor(name, array.shape, array.dtype, "memory", read, array.ndim)

  facts = Facts("memory", 60, ("1", "2", "3", "4", "5"), (5, 6, 7, 8, 9), {"window": 1}, "a digest")
  return Weights(config, {n: lazy(n, a) for n, a in leaves.items()}, facts, {}, "memory")


@pytest.mark.parametrize("family", ["gemma", "gemma2"])
def test_transformers_loads_what_we_export(tmp_path, family):
  """From a model that never was Hugging Face's, with exits beside: nothing missing or left over."""
  model = their_model(family)
  config = small_config(family, early_exits=True)
  leaves = random_leaves(config)
  path = _write(tmp_path / "hf", formats.HUGGINGFACE, _as_weights(leaves, config))
  assert (path / sidecar.EXITS).exists()
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    loaded, info = type(model).from_pretrained(path, output_loading_info=True)
  assert {name: len(found) for name, found in info.items() if found} == {}
  embedding = loaded.get_input_embeddings().weight.detach().numpy()
  np.testing.assert_array_equal(embedding, leaves["llm/embedder/input_embedding"])
  assert loaded.config.image_token_id == 60


def test_the_files_of_tokenizer_and_processor_travel(make_huggingface, tmp_path):
  source = tmp_path / "source"
  shutil.copytree(make_huggingface(), source)
  for name in huggingface.CARRIED[1:]:
    (source / name).write_text(json.dumps({"of": name}))
  ours = _write(tmp_path / "ours", formats.NATIVE, formats.open_weights(source))
  back = _write(tmp_path / "back", formats.HUGGINGFACE, formats.open_weights(ours))
  for name in huggingface.CARRIED[1:]:
    assert (back / name).read_text() == (source / name).read_text()
