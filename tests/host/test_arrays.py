import math

import numpy as np
import pytest

from vsumjax.host import arrays
from vsumjax.types import InputError


@pytest.mark.parametrize("array", [np.ones(2), np.zeros(0), np.array("x"), np.array([None])])
def test_what_is_no_number_is_told(array):
  with pytest.raises(InputError, match=r"^f: expected one number, found "):
    arrays.number("f", array)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_what_is_not_above_zero_is_told(value):
  with pytest.raises(InputError, match=r"^f: must be a number above 0"):
    arrays.require_positive("f", value)


@pytest.mark.parametrize("array", [np.ones((2, 4)), np.ones(3), np.ones((0, 3))])
def test_another_shape_is_told(array):
  arrays.require_shape("f", np.ones((5, 3)), (None, 3))
  with pytest.raises(InputError, match=r"^f: has shape .*, expected \[any, 3\]"):
    arrays.require_shape("f", array, (None, 3))


def test_what_holds_no_numbers_is_told():
  with pytest.raises(InputError, match=r"^f: holds <U1, expected numbers"):
    arrays.require_shape("f", np.array(["a"]), (1,))


@pytest.mark.parametrize("value", [-1.0, 0.5, 6.0, math.nan, math.inf])
def test_what_is_no_whole_number_in_the_range_is_told(value):
  with pytest.raises(InputError, match=rf"^f: holds {value}, expected whole numbers from 0 to 5"):
    arrays.whole_numbers("f", np.array([1.0, value]), 0, 5)


def test_whole_numbers_get_their_type():
  found = arrays.whole_numbers("f", np.array([3.0, 700.0]), 0, 700, np.int64)
  assert found.dtype == np.int64
  np.testing.assert_array_equal(found, [3, 700])
