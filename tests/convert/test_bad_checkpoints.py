"""What is broken is refused by the name of file and tensor."""

import dataclasses
import json
import shutil
import struct

import numpy as np
import pytest
from checkpoint_files import random_leaves, small_config, write_npz

from vsumjax.convert import formats
from vsumjax.types import InputError

_INDEX = "model.safetensors.index.json"
_NORM = "language_model.model.norm.weight"


@pytest.fixture
def folder(make_huggingface, tmp_path):
  """A copy of a sharded PaliGemma 2, to break."""
  return shutil.copytree(make_huggingface(), tmp_path / "hf")


def _refused(path, *named, config=None):
  with pytest.raises(InputError) as raised:
    formats.open_weights(path, config)
  message = str(raised.value)
  assert "\n" not in message
  for name in named:
    assert str(name) in message, message


def _edit_json(path, change):
  values = json.loads(path.read_text())
  change(values)
  path.write_text(json.dumps(values))


def _edit_header(path, change):
  """Rewrites the header of a safetensors file, data as it is."""
  content = path.read_bytes()
  (length,) = struct.unpack("<Q", content[:8])
  header = json.loads(content[8 : 8 + length])
  change(header)
  encoded = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def _shard_of(folder, tensor):
  return folder / json.loads((folder / _INDEX).read_text())["weight_map"][tensor]


def test_a_shard_cut_off_in_its_data(folder):
  shard = _shard_of(folder, _NORM)
  shard.write_bytes(shard.read_bytes()[:-10])
  _refused(shard.parent, shard, "vision_tower.", "cut off 10 bytes")


@pytest.mark.parametrize("size", [0, 5, 8, 100])
def test_a_shard_cut_off_in_its_header(folder, size):
  shard = _shard_of(folder, _NORM)
  shard.write_bytes(shard.read_bytes()[:size])
  _refused(folder, shard)


def test_a_header_that_is_no_json(folder):
  shard = _shard_of(folder, _NORM)
  content = bytearray(shard.read_bytes())
  content[8:12] = b"oops"
  shard.write_bytes(content)
  _refused(folder, shard, "not a safetensors file")


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ({"dtype": "I32"}, "dtype I32"),
    ({"dtype": "F8_E4M3"}, "dtype F8_E4M3"),
    ({"shape": [31]}, "128 bytes for F32[31]"),
    ({"shape": "many"}, "broken"),
    ({"data_offsets": [8]}, "broken"),
    ({"data_offsets": [128, 0]}, "-128 bytes"),
  ],
)
def test_an_entry_of_the_header(folder, entry, message):
  shard = _shard_of(folder, _NORM)
  _edit_header(shard, lambda header: header[_NORM].update(entry))
  _refused(folder, shard, _NORM, message)


def test_a_tensor_of_another_shape(folder):
  shard = _shard_of(folder, _NORM)
  _edit_header(shard, lambda header: header[_NORM].update(shape=[4, 8]))
  _refused(folder, shard, _NORM, "float32[4, 8]", "[32]")


def test_an_index_that_names_a_missing_file(folder):
  shard = _shard_of(folder, _NORM)
  shard.unlink()
  _refused(folder, folder / _INDEX, shard.name)


def test_an_index_that_is_not_of_the_files(folder):
  _edit_json(folder / _INDEX, lambda index: index["weight_map"].pop(_NORM))
  _refused(folder, _shard_of(folder, "multi_modal_projector.linear.bias"), _NORM)


def test_an_index_that_says_too_much(folder):
  other = _shard_of(folder, "language_model.model.embed_tokens.weight").name
  _edit_json(folder / _INDEX, lambda index: index["weight_map"].update({_NORM: other}))
  _refused(folder, folder / other, _NORM)


def test_an_index_without_its_table(folder):
  _edit_json(folder / _INDEX, lambda index: index.pop("weight_map"))
  _refused(folder, folder / _INDEX, "weight_map")


def test_tensors_missing_and_left_over_are_all_listed(folder):
  def rename(header):
    header["spare.weight"] = header.pop(_NORM)

  shard = _shard_of(folder, _NORM)
  _edit_header(shard, rename)
  _edit_json(
    folder / _INDEX,
    lambda index: index["weight_map"].update({"spare.weight": index["weight_map"].pop(_NORM)}),
  )
  _refused(folder, folder, _NORM, "[32]")


def test_a_tensor_left_over(folder):
  def add(header):
    header["spare.weight"] = header[_NORM]

  shard = _shard_of(folder, _NORM)
  _edit_header(shard, add)
  _edit_json(
    folder / _INDEX, lambda index: index["weight_map"].update({"spare.weight": shard.name})
  )
  _refused(folder, shard, "spare.weight (float32[32])")


def test_a_head_that_is_not_tied(folder):
  def add(header):
    header["lm_head.weight"] = header["language_model.model.embed_tokens.weight"] | {
      "data_offsets": [4, 4 + 64 * 32 * 4]
    }

  shard = _shard_of(folder, "language_model.model.embed_tokens.weight")
  _edit_header(shard, add)
  _edit_json(
    folder / _INDEX, lambda index: index["weight_map"].update({"lm_head.weight": shard.name})
  )
  _refused(folder, shard, "lm_head.weight", "tied")


@pytest.mark.parametrize(
  ("group", "change", "named"),
  [
    ("", {"model_type": "llava"}, "model_type: 'llava'"),
    ("text_config", {"model_type": "gemma3"}, "text_config.model_type: 'gemma3'"),
    ("text_config", {"model_type": "gemma"}, "tensors that the model has not"),
    ("text_config", {"vocab_size": 128}, "embed_tokens.weight (float32[64, 32])"),
    ("text_config", {"vocab_size": "64"}, "text_config.vocab_size"),
    (
      "text_config",
      {"num_hidden_layers": 4, "layer_types": None},
      "layers.3.mlp.up_proj.weight [64, 32]",
    ),
    ("text_config", {"num_hidden_layers": None}, "text_config.num_hidden_layers: missing"),
    ("text_config", {"hidden_activation": "silu"}, "text_config.hidden_activation: 'silu'"),
    ("text_config", {"rms_norm_eps": 1e-5}, "text_config.rms_norm_eps"),
    ("text_config", {"attention_bias": True}, "text_config.attention_bias"),
    ("text_config", {"rope_theta": 500000.0}, "text_config.rope_theta"),
    ("text_config", {"rope_parameters": {"rope_theta": 1e6}}, "text_config.rope_parameters"),
    ("text_config", {"rope_scaling": {"factor": 8}}, "text_config.rope_scaling"),
    ("text_config", {"layer_types": ["full_attention"] * 2 + ["sliding_attention"]}, "layer_types"),
    ("text_config", {"tie_word_embeddings": False}, "text_config.tie_word_embeddings"),
    ("text_config", {"use_bidirectional_attention": False}, "use_bidirectional_attention"),
    ("vision_config", {"vision_use_head": True}, "vision_config.vision_use_head"),
    ("vision_config", {"hidden_act": "gelu"}, "vision_config.hidden_act"),
    ("vision_config", {"model_type": "clip_vision_model"}, "vision_config.model_type"),
    ("vision_config", {"image_size": 32}, "position_embedding.weight (float32[16, 16])"),
    ("vision_config", {"patch_size": 5}, "patch_size"),
  ],
)
def test_a_config_of_another_model(folder, group, change, named):
  _edit_json(
    folder / "config.json", lambda values: (values[group] if group else values).update(change)
  )
  _refused(folder, named)


def test_a_config_that_is_no_json(folder):
  (folder / "config.json").write_text("{")
  _refused(folder, folder / "config.json")


def test_other_prefixes(folder):
  def rename(header):
    del header["__metadata__"]
    for name in list(header):
      header["x." + name] = header.pop(name)

  for file in folder.glob("*.safetensors"):
    _edit_header(file, rename)
  _edit_json(
    folder / _INDEX,
    lambda index: index.update(weight_map={f"x.{n}": f for n, f in index["weight_map"].items()}),
  )
  _refused(folder, "no PaliGemma")


@pytest.fixture
def leaves():
  return random_leaves(small_config())


def test_an_npz_of_unknown_keys(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves | {"opt/mu": np.zeros(3, np.float32)}, "")
  _refused(path, path, "opt/mu (float32[3])", config=small_config())


def test_an_npz_that_lacks_a_key(leaves, tmp_path):
  del leaves["llm/final_norm/scale"]
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, path, "llm/final_norm/scale [32]", config=small_config())


def test_an_npz_of_integers(leaves, tmp_path):
  leaves["llm/final_norm/scale"] = np.zeros(32, np.int32)
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, path, "llm/final_norm/scale", "int32", config=small_config())


def test_an_npz_of_objects(leaves, tmp_path):
  leaves["llm/final_norm/scale"] = np.array([{}], object)
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, path, "llm/final_norm/scale", config=small_config())


def test_an_npz_of_another_shape(leaves, tmp_path):
  leaves["llm/final_norm/scale"] = np.zeros(31, np.float32)
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, "llm/final_norm/scale (float32[31])", "[32]", config=small_config())


def test_an_npz_of_another_vocabulary(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves)
  config = small_config()
  other = dataclasses.replace(config, llm=dataclasses.replace(config.llm, vocab_size=128))
  _refused(path, "input_embedding (float32[64, 32])", "[128, 32]", config=other)


def test_an_npz_of_another_family(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, "post_attention_norm/scale", config=small_config("gemma"))


def test_an_npz_of_no_published_size(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves)
  _refused(path, path, "input_embedding", "--model")


def test_an_npz_cut_off(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves)
  path.write_bytes(path.read_bytes()[:-1000])
  _refused(path, path, "cut off", config=small_config())


def test_no_archive_at_all(tmp_path):
  path = tmp_path / "x.npz"
  path.write_text("weights")
  _refused(path, path, "not an npz archive")


def test_a_deflated_npz_with_a_broken_member(leaves, tmp_path):
  path = write_npz(tmp_path / "x.npz", leaves, deflated=True)
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 200] = bytes(200)
  path.write_bytes(content)
  with pytest.raises(InputError, match=str(path)):
    for tensor in formats.open_weights(path, small_config()).tensors.values():
      tensor.array()


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "text"])
def test_no_checkpoint(tmp_path, kind):
  path = tmp_path / "x"
  if kind == "empty folder":
    path.mkdir()
  elif kind == "text":
    path.write_text("x")
  _refused(path, path)


@pytest.fixture
def ours(leaves, tmp_path):
  source = formats.open_weights(write_npz(tmp_path / "x.npz", leaves), small_config())
  formats.write_weights(tmp_path / "ours", formats.NATIVE, source, 0, lambda count: None)
  return tmp_path / "ours"


def test_ours_of_another_version(ours):
  _edit_json(ours / "model.json", lambda values: values.update(version=99))
  _refused(ours, ours / "model.json", "version 99")


def test_ours_with_another_config(ours):
  _edit_json(ours / "model.json", lambda values: values["model"]["llm"].update(mlp_dim=128))
  _refused(ours, ours, "mlp", "128")


def test_ours_with_an_unknown_field(ours):
  _edit_json(ours / "model.json", lambda values: values["model"]["llm"].update(spice=1))
  _refused(ours, ours / "model.json", "spice")


@pytest.mark.parametrize("name", ["manifest.ocdbt", "_METADATA"])
def test_ours_without_a_file_of_orbax(ours, name):
  (ours / "params" / name).unlink()
  _refused(ours, ours / "params")


def test_ours_with_its_data_gone(ours):
  for file in (ours / "params").rglob("d/*"):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  with pytest.raises(InputError, match=str(ours)):
    for tensor in formats.open_weights(ours).tensors.values():
      tensor.array()
