"""Whether frames come at a constant rate, told from times that a container has rounded."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

SLOWEST, FASTEST = 10, 300  # frames a second, of rates that are looked for

_NTSC = (24, 30, 48, 60, 120, 240)  # these are also used 1000/1001 as fast
_COMMON = tuple(
  sorted(
    [Fraction(rate) for rate in range(SLOWEST, FASTEST + 1)]
    + [Fraction(1000 * rate, 1001) for rate in _NTSC]
  )
)
# Each time is off by up to a tick of the container, to either side.
_TICKS_OFF = 2.02
_MOST_OF_A_FRAME = 0.25  # never by more than this, or any times would do
_FEWEST_IN_PLACE = 0.8  # of the frames that a rate asks for


def constant_rate(
  times_s: Sequence[np.ndarray], stated: Sequence[Fraction], tick_s: float
) -> Fraction | None:
  """The rate at which frames come.

  A rate fits if every frame of a run lies on a grid of that rate, as far as a container can say,
  no two in one place, and few places are empty. Of the common rates that fit, that is whole numbers
  and 24, 30, 48, 60, 120 and 240 times 1000/1001, the one closest to what the file states is taken;
  if none fits, what it states. E.g. 0, 33, 67, 100 ms in ticks of 1 ms come at 30 frames a second
  where 30.3 is stated.

  Args:
    times_s: of each run f64[n], seconds, ascending: when its frames start.
    stated: rates that the file states, the best first.
    tick_s: unit of the container's times.

  Returns:
    Frames a second, between SLOWEST and FASTEST; None where they vary.
  """
  runs = [np.asarray(run) for run in times_s if len(run) > 1]
  if not runs:
    return None
  stated = [rate for rate in stated if SLOWEST <= rate <= FASTEST]
  believed = next((rate for rate in stated if _fits(rate, runs, tick_s)), _mean_rate(runs))
  nearest = sorted(_COMMON, key=lambda rate: abs(rate - believed))[:4]
  fitting = (rate for rate in itertools.chain(nearest, stated) if _fits(rate, runs, tick_s))
  return next(fitting, None)


def _mean_rate(runs: list[np.ndarray]) -> float:
  """Of the frames that follow one another closely."""
  steps_s = np.concatenate([np.diff(run) for run in runs])
  return 1 / max(float(np.mean(steps_s[steps_s <= 1.5 * np.median(steps_s)])), 1e-6)


def _fits(rate: Fraction, runs: list[np.ndarray], tick_s: float) -> bool:
  allowed = min(_TICKS_OFF * tick_s * float(rate), _MOST_OF_A_FRAME)
  return all(_is_on_grid((run - run[0]) * float(rate), allowed) for run in runs)


def _is_on_grid(place_N: np.ndarray, allowed: float) -> bool:
  """Whether places, in frames, are whole numbers but for one phase and `allowed` to either side."""
  nearest_N = np.round(place_N)
  is_together = np.ptp(place_N - nearest_N) <= allowed
  is_apart = (np.diff(nearest_N) >= 1).all()
  return bool(is_together and is_apart and len(place_N) >= _FEWEST_IN_PLACE * (nearest_N[-1] + 1))
