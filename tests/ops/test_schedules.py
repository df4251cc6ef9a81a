"""Weights that follow points, and those that make no sense."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.ops import schedules
from vsumjax.types import InputError

FALLING = ((0.0, 1.0), (0.5, 1.0), (1.0, 0.0))


@pytest.mark.parametrize(("progress", "value"), [(0, 1), (0.25, 1), (0.5, 1), (0.75, 0.5), (1, 0)])
def test_lines_join_the_points(progress, value):
  assert jax.jit(lambda p: schedules.value_at(FALLING, p))(progress) == pytest.approx(value)


def test_before_the_first_and_after_the_last_point_it_stays():
  schedule = ((0.25, 2.0), (0.5, 4.0))
  values = [float(schedules.value_at(schedule, p)) for p in (0.0, 0.375, 0.9)]
  assert values == [2.0, 3.0, 4.0]


def test_a_number_stays():
  assert [float(schedules.value_at(0.5, p)) for p in (0.0, 1.0)] == [0.5, 0.5]


@pytest.mark.parametrize(
  "schedule",
  [
    -1.0,
    math.inf,
    math.nan,
    (),
    ((0.0, 1.0, 2.0),),
    ((0.5, 1.0), (0.5, 2.0)),
    ((0.5, 1.0), (0.2, 2.0)),
    ((0.0, 1.0), (1.1, 2.0)),
    ((-0.1, 1.0), (1.0, 2.0)),
    ((0.0, 1.0), (1.0, -2.0)),
  ],
)
def test_what_is_no_schedule_is_refused_by_its_key(schedule):
  with pytest.raises(InputError, match=r"objective\.x"):
    schedules.check("objective.x", schedule)


def test_it_is_off_only_if_it_is_0_all_the_time():
  assert schedules.is_off(0.0)
  assert schedules.is_off(((0.0, 0.0), (1.0, 0.0)))
  assert not schedules.is_off(((0.0, 0.0), (1.0, 0.1)))


def test_a_sum_that_vanishes_somewhere_is_refused():
  rising, falling = ((0.0, 0.0), (1.0, 1.0)), ((0.0, 1.0), (0.5, 0.0))
  schedules.check_sum("w", (rising, falling))
  with pytest.raises(InputError, match=r"w: .* not all 0"):
    schedules.check_sum("w", (((0.5, 0.0), (1.0, 1.0)), falling))
  with pytest.raises(InputError, match="not all 0"):
    schedules.check_sum("w", ())


points = st.lists(
  st.tuples(st.floats(0, 1, width=16), st.floats(0, 5, width=16)),
  min_size=1,
  max_size=4,
  unique_by=lambda point: point[0],
).map(lambda found: tuple(sorted(found)))


@given(points, st.floats(0, 1, width=16))
def test_values_lie_between_those_of_the_points(schedule, progress):
  schedules.check("x", schedule)
  values = [value for _, value in schedule]
  found = float(schedules.value_at(schedule, progress))
  assert min(values) - 1e-6 <= found <= max(values) + 1e-6
  np.testing.assert_allclose(found, np.interp(progress, *zip(*schedule, strict=True)), atol=1e-4)
