"""The loop with everything on: microbatches, frozen weights, a running mean, the best, SIGTERM."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.experiment.experiment import build_experiment
from vsumjax.experiment.run import build_run
from vsumjax.host import stopping
from vsumjax.training import loop, state
from vsumjax.training.checkpoints import Checkpoints
from vsumjax.training.goodput import KINDS, Clock

NUM_STEPS = 12
OPTIONS = {
  "train.num_steps": NUM_STEPS,
  "train.checkpoint_every": 4,
  "train.eval_every": 3,
  "train.accumulate": 2,
  "train.ema_decay": 0.8,
  "train.keep_best": "validation/ce",
  "optimizer.freeze": ("img/.*",),
}


def _silent(done, total, note):
  del done, total, note


@pytest.fixture(scope="module")
def run(make_config):
  return build_run(build_experiment(make_config(**OPTIONS), jax.devices()[:1]))


@pytest.fixture(scope="module")
def straight(run, tmp_path_factory):
  """(workdir, final state, clock) of a run that nothing interrupted, with a profile of 2 steps."""
  workdir, clock = tmp_path_factory.mktemp("straight"), Clock()
  return workdir, loop.train(run, workdir, _silent, clock=clock, profile=range(2, 4)), clock


def _lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _told(workdir):
  """What was logged and does not depend on the time it took."""
  names = ("train/loss", "train/grad_norm", "validation/loss", "validation/ce")
  return [[line["step"], *(line.get(name) for name in names)] for line in _lines(workdir)]


def _validation(workdir):
  return {
    line["step"]: line["validation/ce"] for line in _lines(workdir) if "validation/ce" in line
  }


def _selected(workdir):
  return sorted(int(path.name) for path in (workdir / "selected").iterdir())


def _assert_same(final, expected):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(final), jax.device_get(expected))


def test_frozen_weights_stay_and_the_mean_lags_behind(run, straight):
  _, final, _ = straight
  _assert_same(final.params["img"], run.init_state().params["img"])
  assert set(final.ema) == {"llm", "exits"}
  table = lambda tree: np.asarray(tree["llm"]["embedder"]["input_embedding"])  # noqa: E731
  assert np.abs(table(final.params) - table(final.ema)).max() > 1e-3


def test_the_evaluation_is_that_of_the_mean(run, straight):
  workdir, final, _ = straight
  batches = list(run.eval_batches())

  def ce(params):
    with sharding.use_mesh(run.mesh, run.rules):
      sums = [jax.device_get(run.eval_step(params, batch))["ce"] for batch in batches]
    return sum(total for total, _ in sums) / sum(weight for _, weight in sums)

  last = _validation(workdir)[NUM_STEPS]
  np.testing.assert_allclose(last, ce(state.used_params(final)), rtol=1e-5)
  assert abs(ce(final.params) - last) > 1e-3


def test_the_parameters_of_the_best_evaluation_are_kept(straight):
  workdir = straight[0]
  values = _validation(workdir)
  assert list(values) == [0, 3, 6, 9, 12]
  assert _selected(workdir) == [min(values, key=values.get)]


def test_it_is_not_always_the_last(run, tmp_path):
  """Where what is right changes after step 6."""
  steps = iter([0, 3, 6, 9, 12])

  def eval_batches():
    step = next(steps)
    for batch in run.eval_batches():
      wrong = np.roll(batch.targets, 1, axis=-1)
      yield batch.replace(targets=wrong) if step > 6 else batch

  final = loop.train(dataclasses.replace(run, eval_batches=eval_batches), tmp_path, _silent)
  assert int(final.step) == NUM_STEPS
  values = _validation(tmp_path)
  best = min(values, key=values.get)
  assert best <= 6
  assert _selected(tmp_path) == [best]


def _terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def _terminated_at(step):
  def on_progress(done, total, note):
    if done == step:
      _terminate()

  return on_progress


@pytest.mark.parametrize("told_at", [1, 3, 6, 7])
def test_sigterm_saves_the_step_and_the_rest_is_as_if_it_had_not_come(
  run, straight, tmp_path, told_at
):
  """`told_at` is known one step late, so that the next step is done by then, if none is due."""
  with pytest.raises(stopping.Stopped) as raised:
    loop.train(run, tmp_path, _terminated_at(told_at))
  saver = Checkpoints(tmp_path)
  saved = saver.latest_step()
  saver.close()
  assert saved in (told_at, told_at + 1)
  assert str(raised.value) == f"stopped; saved at step {saved}; the same command resumes from there"
  final = loop.train(run, tmp_path, _silent)
  _assert_same(final, straight[1])
  assert _told(tmp_path) == _told(straight[0])
  assert _selected(tmp_path) == _selected(straight[0])


def test_sigterm_within_an_evaluation_leaves_it_to_the_resumed_run(run, straight, tmp_path):
  """Also if that is stopped in it, too."""
  twice = iter([False, False, True])

  def eval_batches():
    stops = next(twice, False)
    for batch in run.eval_batches():
      if stops:
        _terminate()
      yield batch

  stopped = dataclasses.replace(run, eval_batches=eval_batches)
  with pytest.raises(stopping.Stopped, match="saved at step 6;"):
    loop.train(stopped, tmp_path, _silent)
  saver = Checkpoints(tmp_path)
  assert not saver.is_evaluated(6)
  saver.close()
  copy = tmp_path / "copy"
  shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))

  class KilledError(Exception):
    pass

  def kill(done, total, note):
    raise KilledError  # at step 7: the evaluation of step 6 is written, and is so again

  with pytest.raises(KilledError):
    loop.train(run, copy, kill)
  for workdir in (tmp_path, copy):
    _assert_same(loop.train(run, workdir, _silent), straight[1])
    assert _told(workdir) == _told(straight[0])


def test_sigterm_while_it_waits_for_data_is_heard_at_once(run, straight, tmp_path):
  def train_batches(start):
    for step, batch in enumerate(run.train_batches(start), start=start):
      if step == 5:
        _terminate()
        pytest.fail("SIGTERM was not heard")
      yield batch

  with pytest.raises(stopping.Stopped, match="saved at step 5;"):
    loop.train(dataclasses.replace(run, train_batches=train_batches), tmp_path, _silent)
  _assert_same(loop.train(run, tmp_path, _silent), straight[1])


def test_goodput_is_told_with_every_line_and_adds_to_one(straight):
  workdir, _, clock = straight
  lines = [line for line in _lines(workdir) if "train/loss" in line]
  for line in lines:
    assert sum(line[f"goodput/{kind}"] for kind in KINDS) == pytest.approx(1)
  spent = clock.seconds()
  assert all(spent[kind] > 0 for kind in KINDS)
  assert spent["compile"] > spent["steps"]  # tiny steps of a model that takes seconds to compile


def test_a_profile_is_written(straight):
  (trace,) = (straight[0] / "profile").rglob("*.xplane.pb")
  content = trace.read_bytes()
  assert b"train" in content
  assert b"step_num" in content


def test_the_note_of_the_progress_has_loss_and_speed(run, straight, tmp_path):
  del straight
  notes = []
  loop.train(run, tmp_path, lambda done, total, note: notes.append((done, total, note)))
  assert [note[:2] for note in notes] == [(step, NUM_STEPS) for step in range(1, NUM_STEPS + 1)]
  assert all(note[2].startswith("loss ") and note[2].endswith(" steps/s") for note in notes)
