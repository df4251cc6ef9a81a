"""The best parameters stay, whatever is killed when, and the ones a checkpoint relies on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax.training.selection import Selection, load_selected
from vsumjax.types import InputError

META = {"train.seed": 3}
METRIC = "validation/ce"


def _params(step):
  return {"dense": {"kernel": jnp.full((2, 3), float(step))}}


def _abstract():
  return jax.eval_shape(lambda: _params(0))


@pytest.fixture
def resume(tmp_path):
  """`resume(step, metric)`: the selection of a run that goes on from a step."""
  opened = []

  def make(resumed=None, metric=METRIC):
    for selection in opened:
      selection.close()
    opened.append(Selection(tmp_path, metric, META, resumed))
    return opened[-1]

  yield make
  opened[-1].close()


def _offer(selection, step, value):
  selection.offer(step, {METRIC: value, "validation/loss": -value}, _params(step))


def _steps(tmp_path):
  return sorted(int(path.name) for path in (tmp_path / "selected").iterdir())


def test_the_lowest_value_of_the_metric_is_kept(resume, tmp_path):
  selection = resume()
  for step, value in enumerate([3.0, 2.0, 2.5, 2.0, 1.0, 4.0]):
    _offer(selection, step, value)
  assert _steps(tmp_path) == [4]
  params, about = load_selected(tmp_path, _abstract())
  assert about == {"step": 4, "folder": "selected", "metric": METRIC, "value": 1.0}
  np.testing.assert_array_equal(params["dense"]["kernel"], 4.0)


def test_without_a_metric_it_keeps_what_it_is_offered(resume, tmp_path):
  resume(metric="").offer(7, {}, _params(7))
  assert load_selected(tmp_path, _abstract())[1] == {"step": 7, "folder": "selected"}


def test_what_the_newest_checkpoints_know_as_best_stays_until_the_end(resume, tmp_path):
  """Saves of the run: at 1, 3 and 5. Whoever resumes from 3 needs what was best at 3."""
  selection = resume()
  for step in range(1, 7):
    _offer(selection, step, 10.0 - step)
    if step % 2:
      selection.recorded()
  assert _steps(tmp_path) == [3, 5, 6]
  selection.finish()
  assert _steps(tmp_path) == [6]


def test_a_resumed_run_has_the_best_it_had_and_chooses_later_ones_again(resume, tmp_path):
  selection = resume()
  _offer(selection, 2, 5.0)
  selection.recorded()
  _offer(selection, 4, 3.0)
  assert _steps(tmp_path) == [2, 4]
  selection = resume(3)
  assert _steps(tmp_path) == [2]
  _offer(selection, 4, 6.0)
  assert _steps(tmp_path) == [2]
  _offer(selection, 5, 4.0)
  assert load_selected(tmp_path, _abstract())[1]["step"] == 5


def test_a_run_that_starts_anew_drops_all(resume, tmp_path):
  _offer(resume(), 2, 5.0)
  _offer(resume(), 1, 9.0)
  assert _steps(tmp_path) == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(resume, value):
  with pytest.raises(FloatingPointError, match=f"validation/ce is {value} at step 2"):
    _offer(resume(), 2, value)


def test_a_folder_without_parameters_is_named(tmp_path):
  (tmp_path / "selected").mkdir()
  with pytest.raises(InputError, match="selected: holds no parameters"):
    load_selected(tmp_path, _abstract())
