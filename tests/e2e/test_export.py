"""What leaves for Hugging Face: answers as our last exit, adapters merged, exits read back."""

import json

import jax
import numpy as np
import pytest

from vsumjax import testing
from vsumjax.convert import formats
from vsumjax.data import pipeline
from vsumjax.experiment.run import run_training
from vsumjax.experiment.workdir import load_student
from vsumjax.jobs.convert import convert
from vsumjax.models import lora

# One frame of 16 soft tokens and no pooling, as PaliGemma reads it.
PALIGEMMA = {
  "prompt.tokens_per_frame": 16,
  "prompt.window": 1,
  "prompt.text_tokens": 200,
  "train.num_steps": 6,
}
LORA = {
  "rank": 2,
  "alpha": 4.0,
  "targets": ["llm/layers/.*", "img/.*/MlpBlock_0/.*", "img/head/.*"],
}


def _train(make_config, folder, **changes):
  return run_training(make_config(**changes), folder / "run", lambda *update: None)


def test_generate_answers_as_our_last_exit(make_config, tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  workdir = _train(make_config, tmp_path, **PALIGEMMA)
  convert(workdir, tmp_path / "hf", kind="hf")
  theirs = transformers.PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "hf").float()
  facts = json.loads((tmp_path / "hf" / "vsumjax.json").read_text())

  student = load_student(workdir)
  score_ids = np.asarray(student.experiment.task.model.score_ids)
  batches = pipeline.sequential_batches(student.experiment.task.source("train"), 8)
  levels = []
  for batch, output in student.scorer(8).outputs(batches):
    is_row = batch.example >= 0
    tokens, valid = _padded_left(batch.tokens[is_row], batch.input_mask[is_row])
    pixels = batch.frames[is_row, 0, 0].transpose(0, 3, 1, 2) / 127.5 - 1
    out = theirs.generate(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(valid, dtype=torch.long),
      token_type_ids=torch.zeros(tokens.shape, dtype=torch.long),
      pixel_values=torch.tensor(pixels, dtype=torch.float32),
      max_new_tokens=1,
      do_sample=False,
      prefix_allowed_tokens_fn=lambda *_: facts["score_ids"],
    )
    logits_BC = output.logits[-1, is_row, 0]
    levels.append((out[:, -1:].numpy() == score_ids).argmax(-1))
    theirs_B = np.take_along_axis(logits_BC, levels[-1][:, None], -1)[:, 0]
    # Of two that are equal but for rounding, either may be the largest.
    np.testing.assert_allclose(theirs_B, logits_BC.max(-1), atol=1e-4)
  assert len(np.unique(np.concatenate(levels))) > 1


def _padded_left(tokens, valid):
  """Rows moved to the right end, where `generate` reads on."""
  shift = valid.shape[1] - valid.sum(axis=1)
  assert (shift > 0).any()
  rolled = [[np.roll(row, n) for row, n in zip(x, shift, strict=True)] for x in (tokens, valid)]
  return map(np.stack, rolled)


@pytest.mark.parametrize(
  "changes",
  [
    pytest.param({}, marks=pytest.mark.long),
    pytest.param({"model.quantize": "int4"}, marks=pytest.mark.long),
    {"model.quantize": "int8", "model.param_dtype": "bfloat16"},
  ],
  ids=["float32", "int4", "int8 and bfloat16"],
)
def test_adapters_are_merged_into_the_export(make_config, tmp_path, changes):
  workdir = _train(make_config, tmp_path, **{"model.lora": LORA}, **changes)
  convert(workdir, tmp_path / "ours", check_numbers=False)
  exported = formats.open_weights(tmp_path / "ours")
  assert exported.config.lora.rank == 0
  assert exported.config.quantize == ""

  student = load_student(workdir)
  config = student.task.config.model
  expected = lora.merge_lora(student.params, config.lora, config.param_dtype)
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected)
  }
  assert exported.tensors.keys() == leaves.keys()
  merged = {name: exported.tensors[name].array() for name in leaves}
  testing.assert_same_up_to_rounding(merged, leaves, ulps=2)
