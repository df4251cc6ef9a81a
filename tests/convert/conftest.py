"""Directories as Hugging Face's own library writes them."""

import warnings

import pytest
from checkpoint_files import their_model


@pytest.fixture(scope="session")
def make_huggingface(tmp_path_factory):
  """`make_huggingface("gemma2", "bfloat16")`: a directory of `save_pretrained`, in shards."""
  made = {}

  def make(family="gemma2", dtype="float32"):
    if (family, dtype) not in made:
      path = tmp_path_factory.mktemp("hf") / f"{family}_{dtype}"
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        their_model(family, dtype).save_pretrained(path, max_shard_size="40KB")
      assert len(list(path.glob("*.safetensors"))) > 1
      made[family, dtype] = path
    return made[family, dtype]

  return make
