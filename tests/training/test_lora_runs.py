"""A whole QLoRA run: checkpoints, resuming, refusals, and a student loaded from it."""

import shutil

import jax
import numpy as np
import pytest
import qwix

from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run, run_training
from vsumjax.experiment.workdir import load_student
from vsumjax.training import loop, state
from vsumjax.types import InputError

LORA = {"rank": 2, "alpha": 4.0, "targets": ["llm/layers/.*"]}
QLORA = {"model.lora": LORA, "model.quantize": "int4"}


def _silent(done, total, note):
  del done, total, note


def _experiment(config):
  return build_experiment(config, jax.devices()[:1])


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
  """A workdir of 6 steps that nothing interrupted."""
  return run_training(make_config(**QLORA), tmp_path_factory.mktemp("qlora") / "run", _silent)


def test_a_student_is_loaded_with_its_quantised_base(finished):
  student = load_student(finished)
  assert state.params_digest(student.params) == student.params_digest
  linear = student.params["llm"]["layers"]["mlp"]["linear"]
  assert isinstance(linear, qwix.QArray)
  assert linear.qvalue.dtype == "int4"
  source = student.experiment.task.source("test")
  readouts = student.scorer(8).read(source, _silent)
  assert all(np.isfinite(readout.logits_ENC).all() for readout in readouts)


def test_resumed_equals_uninterrupted_bit_for_bit(make_config, finished, tmp_path):
  """From the checkpoint of step 4 to step 6, the base and the adapters as they were."""
  workdir = tmp_path / "resumed"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "checkpoints" / "6")
  (workdir / "FINISHED.json").unlink()
  run_training(make_config(**QLORA), workdir, _silent)
  read = lambda name: [(folder / name).read_text() for folder in (workdir, finished)]  # noqa: E731
  resumed, straight = read("FINISHED.json")
  assert resumed == straight


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"model.lora": LORA | {"rank": 4}}, "model.lora.rank is 2 in the checkpoint and 4 now"),
    ({"model.lora": LORA | {"alpha": 8.0}}, "model.lora.alpha is 4.0 in the checkpoint and 8.0"),
    ({"model.quantize": "int8"}, "model.quantize is 'int4' in the checkpoint and 'int8' now"),
  ],
)
def test_another_lora_is_not_resumed(make_config, finished, changes, named):
  run = build_run(_experiment(make_config(**(QLORA | changes))))
  with pytest.raises(InputError, match="cannot resume: ") as raised:
    loop.train(run, finished, _silent)
  assert named in str(raised.value)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model.quantize": "int4"},
      "model.quantize: 'int4' weights cannot be trained; set model.lora",
    ),
    (
      {"model.lora": LORA | {"targets": ["llm/x"]}},
      "model.lora.targets: 'llm/x' matches no weight",
    ),
  ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(make_config, changes, message):
  with pytest.raises(InputError) as raised:
    build_run(_experiment(make_config(**changes)))
  assert str(raised.value).startswith(message)
  assert "\n" not in str(raised.value)


def test_a_quantised_base_without_adapters_is_good_for_use(make_config):
  config = make_config(**{"model.quantize": "int8"})
  params = _experiment(config).abstract_params()
  assert params["llm"]["layers"]["mlp"]["linear"].qvalue.dtype == "int8"
