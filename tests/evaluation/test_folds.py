"""Means and intervals over folds, seeds and videos, by hand."""

import json

import pytest
from scipy import stats

from vsumjax.evaluation import context, protocols
from vsumjax.evaluation.folds import CrossValidation, Interval, Trained
from vsumjax.evaluation.protocols import Result
from vsumjax.evaluation.splits import Fold, Split

PROTOCOL = protocols.BY_NAME["tvsum-rank"]


def result(name, **tau_of):
  rho_of = {video: 2 * tau for video, tau in tau_of.items()}
  return Result(name, PROTOCOL.name, {"tau": tau_of, "rho": rho_of})


def train_of(fold, seed, validation=0.5, **tau_of):
  test = result("student", **tau_of)
  return Trained(fold, seed, test, result("student", v=validation), {"step": 7})


FOLDS = (Fold(("c", "d"), ("a", "b"), ("v",)), Fold(("a", "b", "d"), ("c",), ("v",)))
CROSS = CrossValidation(
  split=Split("drawn", FOLDS),
  selection="the last",
  protocol=PROTOCOL,
  trained=(
    train_of(0, 0, a=0.1, b=0.3),
    train_of(1, 0, c=0.6),
    train_of(0, 1, a=0.3, b=0.3),
    train_of(1, 1, validation=0.1, c=0.8),
  ),
  context=(result(context.CENTRE, a=0.1, b=0.1, c=0.1),),
)


def test_an_interval_is_students():
  values = [0.4, 0.5, 0.7]
  interval = Interval.of(values)
  low, high = stats.t.interval(0.95, 2, interval.mean, stats.sem(values))
  assert (interval.mean - interval.half, interval.mean + interval.half) == pytest.approx(
    (low, high)
  )
  assert f"{Interval.of([0.4, 0.5, 0.6])}" == "0.500 ± 0.248"
  assert f"{Interval.of([0.4, 0.5, 0.6]):+}" == "+0.500 ± 0.248"


def test_one_value_has_no_interval():
  assert Interval.of([0.5]) == Interval(0.5, None)
  assert f"{Interval.of([0.5]):+}" == "+0.500"


def test_folds_count_alike_and_the_interval_is_of_the_seeds():
  # Seed 0: mean of 0.2 and 0.6; seed 1: mean of 0.3 and 0.8.
  assert CROSS.over_seeds("tau") == Interval.of([0.4, 0.55])
  assert CROSS.over_seeds("rho").mean == pytest.approx(2 * 0.475)
  assert CROSS.over_seeds("tau", "validation").mean == pytest.approx((0.5 + 0.3) / 2)


def test_the_gain_is_paired_by_video():
  gain = CROSS.more_than(context.CENTRE, "tau")
  expected = Interval.of([0.1, 0.2, 0.6])  # means over seeds, less 0.1
  assert (gain.mean, gain.half) == pytest.approx((expected.mean, expected.half))


def test_the_report_is_json_and_flags_what_is_not_tested():
  report = json.loads(json.dumps(CROSS.as_json(), allow_nan=False))
  assert report["split"]["tests_each_video_once"] is False
  assert report["split"]["never_tested"] == 2  # d and v
  assert report["measures"]["tau"]["by_video"]["a"] == {
    "student": [0.1, 0.3],
    context.CENTRE: 0.1,
  }
  assert [t["validation"]["tau"] for t in report["trainings"]] == [0.5, 0.5, 0.5, 0.1]
  assert report["trainings"][0]["step"] == 7
