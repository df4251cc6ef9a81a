"""The loop: order, resuming to the bit, refusals, and the same run on other devices."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run
from vsumjax.training import loop, state
from vsumjax.training.checkpoints import Checkpoints
from vsumjax.training.loop import TrainConfig
from vsumjax.types import InputError

NUM_STEPS = 20
MESHES = {"data=8": {"data": 8}, "data=2,fsdp=2,tensor=2": {"data": 2, "fsdp": 2, "tensor": 2}}


class Stop(Exception):
  """Ends a run from within, as a signal would."""


def _silent(done, total, note):
  del done, total, note


def _stop_at(step):
  def on_progress(done, total, note):
    if done == step:
      raise Stop

  return on_progress


def _lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _losses(workdir):
  return {line["step"]: line["train/loss"] for line in _lines(workdir) if "train/loss" in line}


def _steps(workdir, name):
  return [line["step"] for line in _lines(workdir) if name in line]


@pytest.fixture(scope="module")
def make_run(make_config):
  """`make_run(devices, **mesh)`: the tiny run wired for some devices, once for each mesh."""

  @functools.cache
  def make(num_devices, **mesh):
    changes = {"num_steps": NUM_STEPS, "checkpoint_every": 4, "eval_every": 8}
    changes = {f"train.{key}": value for key, value in changes.items()}
    config = make_config(mesh=mesh, **changes)
    return build_run(build_experiment(config, jax.devices()[:num_devices]))

  return make


@pytest.fixture(scope="module")
def run(make_run):
  return make_run(1)


@pytest.fixture(scope="module")
def straight(run, tmp_path_factory):
  """(workdir, final state) of a run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("straight")
  return workdir, loop.train(run, workdir, _silent)


def test_every_step_is_logged_once_and_evaluated_when_due(straight):
  workdir, final = straight
  assert int(final.step) == NUM_STEPS
  assert _steps(workdir, "train/loss") == list(range(1, NUM_STEPS + 1))
  assert _steps(workdir, "validation/loss") == [0, 8, 16, 20]
  losses = list(_losses(workdir).values())
  assert np.mean(losses[-5:]) < np.mean(losses[:5])
  saver = Checkpoints(workdir)
  assert saver.latest_step() == NUM_STEPS
  saver.close()


@pytest.mark.parametrize("stop_at", [5, 8, 9, 18])
def test_resumed_equals_uninterrupted_bit_for_bit(run, straight, tmp_path, stop_at):
  started_at = []

  def train_batches(start):
    started_at.append(start)
    return run.train_batches(start)

  watched = dataclasses.replace(run, train_batches=train_batches)
  with pytest.raises(Stop):
    loop.train(watched, tmp_path, _stop_at(stop_at))
  final = loop.train(watched, tmp_path, _silent)
  assert started_at[0] == 0
  assert 0 < started_at[1] <= stop_at  # it did not start anew
  workdir, expected = straight
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(final), jax.device_get(expected))
  assert _losses(tmp_path) == _losses(workdir)
  for name in ("train/loss", "validation/loss"):
    assert _steps(tmp_path, name) == _steps(workdir, name)


def test_a_finished_run_is_left_as_it_is(run, straight):
  workdir, final = straight
  before = _lines(workdir)
  again = loop.train(run, workdir, _silent)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(final))
  assert _lines(workdir) == before


def test_lines_of_steps_to_be_repeated_are_dropped(run, straight, tmp_path):
  """A process killed after it logged step 7, in the middle of the line of step 8."""
  with pytest.raises(Stop):
    loop.train(run, tmp_path, _stop_at(7))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 7, "train/loss": 1e9}\n{"step": 8, "trai')
  loop.train(run, tmp_path, _silent)
  assert _losses(tmp_path) == _losses(straight[0])


def test_one_trace_serves_all_steps_and_runs(run, straight):
  assert run.train_step._cache_size() == 1
  assert run.eval_step._cache_size() == 1


def _poisoned(run, at_step, **changes):
  """The run with a batch of `at_step` (counted from 1) changed."""

  def train_batches(start):
    for step, batch in enumerate(run.train_batches(start), start=start + 1):
      yield batch.replace(**changes) if step == at_step else batch

  return dataclasses.replace(run, train_batches=train_batches)


def test_a_loss_that_is_nan_halts_and_names_step_and_examples(run, tmp_path):
  batch = next(run.train_batches(5))
  bad = _poisoned(run, 6, targets=np.full_like(batch.targets, np.nan))
  with pytest.raises(FloatingPointError) as raised:
    loop.train(bad, tmp_path, _silent)
  examples = batch.example.tolist()
  assert str(raised.value) == f"loss is nan at step 6; {run.describe(examples)}"
  assert run.describe(examples).startswith(f"examples {examples} of videos train_00")
  saver = Checkpoints(tmp_path)
  assert saver.latest_step() == 4  # from before it
  saver.close()


def test_a_gradient_that_is_infinite_halts_before_it_is_saved(run, tmp_path):
  """Else the checkpoint would hold weights that are NaN, and every resumed run would end there."""

  steps = iter(range(1, NUM_STEPS))

  def train_step(before, batch):
    after, metrics = run.train_step(before, batch)
    if next(steps) == 4:
      metrics = metrics | {"grad_norm": (np.inf, 1.0)}
    return after, metrics

  with pytest.raises(FloatingPointError, match="grad_norm is inf at step 4; examples"):
    loop.train(dataclasses.replace(run, train_step=train_step), tmp_path, _silent)
  saver = Checkpoints(tmp_path)
  assert saver.latest_step() == 0
  saver.close()


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"train.seed": 1}, "train.seed is 0 in the checkpoint and 1 now"),
    ({"new": "x"}, "new is 'absent' in the checkpoint and 'x' now"),
    ({"teacher_digests": ["ab"]}, "teacher_digests"),
  ],
)
def test_another_runs_checkpoint_is_refused(run, straight, changes, named):
  other = dataclasses.replace(run, meta=dict(run.meta) | changes)
  with pytest.raises(InputError, match="cannot resume: ") as raised:
    loop.train(other, straight[0], _silent)
  assert named in str(raised.value)
  assert str(straight[0]) in str(raised.value)


# A mesh of all three axes cuts rows along `data` as the other does, and parameters besides.
@pytest.mark.parametrize(
  "mesh", [pytest.param("data=8", marks=pytest.mark.long), "data=2,fsdp=2,tensor=2"]
)
def test_eight_devices_give_the_losses_of_one(make_run, straight, tmp_path, mesh):
  run = make_run(8, **MESHES[mesh])
  final = loop.train(run, tmp_path, _silent)
  table = final.params["llm"]["embedder"]["input_embedding"]
  assert len(table.sharding.device_set) == 8
  shards = {"data=8": 1, "data=2,fsdp=2,tensor=2": 4}[mesh]
  assert {shard.data.size for shard in table.addressable_shards} == {table.size // shards}
  moment = final.opt_state[1][0].mu["llm"]["embedder"]["input_embedding"]
  assert moment.sharding == table.sharding
  one, eight = _losses(straight[0]), _losses(tmp_path)
  assert list(eight) == list(range(1, NUM_STEPS + 1))
  np.testing.assert_allclose(list(eight.values()), list(one.values()), rtol=0, atol=1e-5)


def test_a_run_goes_on_on_another_mesh(make_run, straight, tmp_path):
  """From one device to eight, with parameters and moments sharded there."""
  workdir = tmp_path / "moved"
  shutil.copytree(straight[0], workdir)
  for folder in (workdir / "checkpoints").iterdir():
    if folder.name == str(NUM_STEPS):
      shutil.rmtree(folder)
  run = make_run(8, data=2, fsdp=2, tensor=2)
  final = loop.train(run, workdir, _silent)
  assert len(final.params["img"]["head"]["kernel"].sharding.device_set) == 8
  assert _steps(workdir, "train/loss") == list(range(1, NUM_STEPS + 1))
  one, moved = _losses(straight[0]), _losses(workdir)
  assert [moved[step] for step in range(1, 17)] == [one[step] for step in range(1, 17)]
  np.testing.assert_allclose(list(moved.values()), list(one.values()), rtol=0, atol=1e-5)


def test_checkpoints_of_another_model_are_refused(run, straight):
  """Even where the meta agrees."""
  params = {"other": run.abstract.step}
  other = dataclasses.replace(run, abstract=state.TrainState(run.abstract.step, params, ()))
  with pytest.raises(InputError, match="checkpoint of another architecture: "):
    loop.train(other, straight[0], _silent)


@pytest.mark.parametrize(
  "field", [f.name for f in dataclasses.fields(TrainConfig) if f.type == "int"]
)
def test_numbers_below_one_are_refused(run, field):
  value = -1 if field == "seed" else 0
  with pytest.raises(InputError, match=f"train.{field}: {value} is less than"):
    dataclasses.replace(run.config, **{field: value})


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(run, decay):
  with pytest.raises(InputError, match=f"train.ema_decay: {decay} is not in 0 .. 1"):
    dataclasses.replace(run.config, ema_decay=decay)


def test_microbatches_that_do_not_divide_the_batch_are_refused(run):
  with pytest.raises(InputError, match=r"train.accumulate: 3 does not divide train.batch_size, 8"):
    dataclasses.replace(run.config, accumulate=3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train.batch_size": 6}, r"train\.batch_size: 6 rows do not divide .*'data': 8"),
    ({"train.accumulate": 2}, r"train\.accumulate: 4 rows of a microbatch do not .*'data': 8"),
  ],
)
def test_rows_that_do_not_divide_among_devices_are_refused(make_config, changes, message):
  experiment = build_experiment(make_config(**changes))
  assert experiment.mesh.shape["data"] == 8
  with pytest.raises(InputError, match=message):
    build_run(experiment)
