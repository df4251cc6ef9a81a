"""What a person is shown of a batch is what the model gets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsumjax.data import pipeline
from vsumjax.data.order import MixedOrder
from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.experiment.experiment import build_experiment
from vsumjax.jobs import inspect_data
from vsumjax.types import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shown(make_config, tmp_path_factory):
  config = make_config(**{"data.augment": {"crop": 0.7, "flip": 0.5, "time_shifts": 3}})
  out = tmp_path_factory.mktemp("shown")
  return config, out, inspect_data.inspect_data(config, out, step=2, rows=3)


def test_rows_are_those_of_the_training_step(shown):
  config, out, described = shown
  experiment = build_experiment(config)
  source = experiment.task.training_source()
  batch = next(
    pipeline.training_batches(source, MixedOrder(source.parts, 0), 8, start_step=2, num_steps=1)
  )
  assert [about["example"] for about in described] == batch.example[:3].tolist()
  for row, about in enumerate(described):
    index, first = source.window(about["example"])
    assert about["video"] == source.videos[index].id
    assert about["span_s"][0] == source.spans(index)[first].tolist()
    assert np.allclose(about["targets"], batch.targets[row], atol=1e-4)
    assert about["weight"] == batch.weight[row].tolist()
    counts = about["tokens"]
    assert counts["image"] + counts["text"] == batch.input_mask[row].sum()
    assert sum(counts.values()) == batch.tokens.shape[1] == len(about["kinds"])
    assert f"title: {source.videos[index].title[:5]}" in about["prompt"]
  assert json.loads((out / "batch.json").read_text()) == described
  with Image.open(out / "batch.png") as image:
    assert image.size[0] > 1000


def test_a_sequence_is_spelled_with_what_is_read_and_masked(corpus):
  tokenizer = load_tokenizer(corpus / "tokenizer.model")
  text = [tokenizer.bos_id, *tokenizer.encode("it barks\n")]
  tokens = np.array([*[tokenizer.image_id] * 3, *text, *[tokenizer.pad_id] * 2])
  mask = np.arange(len(tokens)) < 3 + len(text)
  spelled = inspect_data.spell(tokens, mask, [2 + len(text)], tokenizer)
  assert spelled == "<image>×3 <bos>it barks⏎^ <masked>×2"
  spelled = inspect_data.spell(tokens, mask, [3], tokenizer)
  assert spelled == "<image>×3 <bos>^it barks⏎ <masked>×2"


@pytest.mark.parametrize("wrong", [{"step": -1}, {"rows": 0}])
def test_impossible_requests_are_refused(make_config, tmp_path, wrong):
  with pytest.raises(InputError, match="--step"):
    inspect_data.inspect_data(make_config(), tmp_path, **wrong)


def test_the_script_does_not_hide_the_standard_librarys_module():
  """Python puts a script's folder first in its path, where `inspect` is ours."""
  code = (
    "import sys; sys.modules.pop('inspect', None); import inspect\n"
    "assert inspect.signature and 'launch' not in inspect.__file__, inspect.__file__\n"
    "assert sys.path[0].endswith('launch')"
  )
  program = f"import sys; sys.path.insert(0, {str(ROOT / 'launch')!r})\n{code}"
  subprocess.run([sys.executable, "-c", program], check=True)


def test_a_model_that_reads_text_alone_is_shown_without_frames(make_config, tmp_path):
  config = make_config(**{"prompt.frames_per_segment": 0, "prompt.position": 4})
  (about,) = inspect_data.inspect_data(config, tmp_path, step=0, rows=1)
  assert " at: " in about["prompt"]
  assert about["tokens"]["image"] == 0
  with Image.open(tmp_path / "batch.png") as image:
    assert image.size[0] > 1000
