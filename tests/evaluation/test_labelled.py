import math
import pathlib
import time

import numpy as np
import pytest
from scipy import stats

from vsumjax.evaluation import labelled, metrics
from vsumjax.summary import select
from vsumjax.types import InputError, SegmentScores

UNIT_S = 2.0


def unit_spans(num_units, unit_s=UNIT_S):
  starts = unit_s * np.arange(num_units)
  return np.stack([starts, starts + unit_s], axis=1)


def predict(scores, unit_s=UNIT_S):
  scores = np.asarray(scores, np.float32)
  return SegmentScores(scores, np.zeros(len(scores), np.int32), unit_spans(len(scores), unit_s))


@pytest.fixture
def labels():
  """Two videos of unlike length whose annotators follow one taste with noise."""
  generator = np.random.default_rng(0)
  result = {}
  for video_id, num_units in (("a", 20), ("b", 33)):
    taste = generator.normal(3, 1, num_units)
    noisy = taste + generator.normal(0, 0.8, (6, num_units))
    result[video_id] = (UNIT_S, np.clip(np.rint(noisy), 1, 5).astype(np.int8))
  return result


def mean_levels(labels):
  return {video_id: predict(levels.mean(axis=0)) for video_id, (_, levels) in labels.items()}


def test_a_row_is_the_mean_over_annotators_then_videos(labels):
  generator = np.random.default_rng(1)
  scores = {video_id: generator.random(levels.shape[1]) for video_id, (_, levels) in labels.items()}
  row = labelled.evaluate_scores({k: predict(v) for k, v in scores.items()}, labels, "net")
  taus, rhos, f1s = [], [], []
  for video_id, (_, levels) in labels.items():
    score, spans = scores[video_id].astype(np.float32), unit_spans(levels.shape[1])
    taus.append(np.mean([stats.kendalltau(score, user)[0] for user in levels]))
    rhos.append(np.mean([stats.spearmanr(score, user)[0] for user in levels]))
    summary = select.select_summary(score, spans, 0.15)
    users = np.stack([select.select_summary(user, spans, 0.15) for user in levels])
    f1s.append(metrics.f1(summary, users, np.ones(len(spans))).mean())
  assert row.name == "net"
  assert row.tau == pytest.approx(np.mean(taus))
  assert row.rho == pytest.approx(np.mean(rhos))
  assert row.f1 == pytest.approx(np.mean(f1s))


def test_unsigned_levels_measure_the_same(labels):
  unsigned = {k: (unit_s, levels.astype(np.uint8)) for k, (unit_s, levels) in labels.items()}
  predictions = mean_levels(labels)
  assert labelled.evaluate_scores(predictions, unsigned, "x") == labelled.evaluate_scores(
    predictions, labels, "x"
  )
  assert labelled.context_rows(unsigned) == labelled.context_rows(labels)


def test_context_rows_are_ordered_as_they_should_be(labels):
  rows = labelled.context_rows(labels)
  assert [row.name for row in rows] == [
    labelled.RANDOM,
    labelled.CENTRE,
    labelled.HUMAN,
    labelled.CEILING,
  ]
  random, _, human, ceiling = rows
  oracle = labelled.evaluate_scores(mean_levels(labels), labels, "oracle")
  assert abs(random.tau) < 0.05
  assert random.tau + 0.2 < human.tau < ceiling.tau < oracle.tau
  assert random.f1 < human.f1 < ceiling.f1 < oracle.f1
  assert labelled.share_of_ceiling(oracle, rows) == oracle.tau / ceiling.tau


def test_human_rows_by_hand(labels):
  levels = labels["a"][1]
  _, _, human, ceiling = labelled.context_rows({"a": labels["a"]})
  pairs = [stats.kendalltau(levels[i], levels[j])[0] for i in range(6) for j in range(6) if i != j]
  held_out = [
    stats.kendalltau(np.delete(levels, i, axis=0).mean(axis=0), levels[i])[0] for i in range(6)
  ]
  assert human.tau == pytest.approx(np.mean(pairs))
  assert ceiling.tau == pytest.approx(np.mean(held_out))


def test_centre_prior_prefers_the_middle():
  levels = np.array([[1, 2, 3, 3, 2, 1]] * 2, np.int8)
  centre = labelled.context_rows({"v": (UNIT_S, levels)})[1]
  assert centre.tau == pytest.approx(1.0)
  assert centre.rho == pytest.approx(1.0)


def test_random_rows_repeat_with_their_seed(labels):
  first = labelled.context_rows(labels)[0]
  assert first == labelled.context_rows(labels)[0]
  assert first != labelled.context_rows(labels, seed=1)[0]


def test_a_single_annotator_has_no_human_rows():
  labels = {"v": (UNIT_S, np.array([[1, 2, 3, 4]], np.int8))}
  rows = labelled.context_rows(labels)
  assert [row.name for row in rows] == [labelled.RANDOM, labelled.CENTRE]
  assert math.isnan(labelled.share_of_ceiling(rows[0], rows))


def test_scores_on_longer_segments_tie_within_them():
  """4-second segments against 2-second labels: as if each score were given twice."""
  labels = {"v": (UNIT_S, np.array([[1, 2, 5, 4, 3, 2], [2, 2, 4, 5, 1, 1]], np.int8))}
  scores = np.array([0.1, 0.7, 1 / 3], np.float32)
  on_segments = labelled.evaluate_scores({"v": predict(scores, 4.0)}, labels, "x")
  on_units = labelled.evaluate_scores({"v": predict(np.repeat(scores, 2))}, labels, "x")
  assert on_segments == on_units


def test_segments_across_units_are_weighted_by_overlap():
  labels = {"v": (UNIT_S, np.array([[1, 2]], np.int8))}
  spans = np.array([[0.0, 1.5], [1.5, 2.5], [2.5, 4.0]])
  # Units get 0.75 * 3 + 0.25 * 9 = 4.5 and 0.25 * 9 + 0.75 * 4 = 5.25.
  scores = SegmentScores(np.array([3.0, 9.0, 4.0], np.float32), np.zeros(3, np.int32), spans)
  assert labelled.evaluate_scores({"v": scores}, labels, "x").tau == 1.0
  # And 4.5, 4.125 with a lower last segment.
  scores = scores.replace(score=np.array([3.0, 9.0, 2.5], np.float32))
  assert labelled.evaluate_scores({"v": scores}, labels, "x").tau == -1.0


def test_bad_input_names_the_video(labels):
  predictions = mean_levels(labels)
  with pytest.raises(InputError, match="video b has no predicted scores"):
    labelled.evaluate_scores({"a": predictions["a"]}, labels, "x")
  with pytest.raises(InputError, match="video b has no labels"):
    labelled.evaluate_scores(predictions, {"a": labels["a"]}, "x")
  with pytest.raises(InputError, match="video a: a predicted score is NaN"):
    labelled.evaluate_scores({**predictions, "a": predict([np.nan] * 20)}, labels, "x")
  with pytest.raises(InputError, match=r"video a: no segment covers .* 36\.0 s"):
    labelled.evaluate_scores({**predictions, "a": predict([1.0] * 18)}, labels, "x")
  with pytest.raises(InputError, match="no labelled video"):
    labelled.context_rows({})
  with pytest.raises(InputError, match="video a: labels need"):
    labelled.context_rows({"a": (UNIT_S, np.zeros((0, 5)))})


def test_a_test_set_is_measured_in_seconds():
  generator = np.random.default_rng(0)
  labels = {f"v{i}": (UNIT_S, generator.integers(1, 6, (20, 30))) for i in range(14)}
  begin = time.process_time()
  labelled.context_rows(labels)
  for exit_index in range(5):
    labelled.evaluate_scores(mean_levels(labels), labels, f"exit {exit_index}")
  assert time.process_time() - begin < 5.0


def test_rows_of_tvsum_are_the_published_ones():
  """One human 0.177 / 0.204 is the figure of the notebook of Otani et al. (CVPR 2019)."""
  path = pathlib.Path(__file__).parents[2] / "../shared/data/tvsum.h5"
  h5py = pytest.importorskip("h5py", reason="h5py is not installed")
  if not path.exists():
    pytest.skip("../shared/data/tvsum.h5 is absent")
  with h5py.File(path) as file:
    # Levels are constant over 2-second shots of 60 frames.
    labels = {key: (UNIT_S, group["user_anno"][:, 30::60]) for key, group in file.items()}
  _, centre, human, ceiling = labelled.context_rows(labels)
  assert (human.tau, human.rho) == (pytest.approx(0.177, abs=2e-3), pytest.approx(0.204, abs=2e-3))
  assert ceiling.tau == pytest.approx(0.314, abs=2e-3)
  assert centre.tau == pytest.approx(0.100, abs=3e-3)
