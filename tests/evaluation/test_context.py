"""The rows beside every result, by hand and against the published figures of real annotations."""

import math
import pathlib

import numpy as np
import pytest
from scipy import stats

from vsumjax.evaluation import comparisons, context, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.evaluation.predictions import Prediction
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"
RANK, F1 = protocols.BY_NAME["tvsum-rank"], protocols.BY_NAME["keyshot-f1"]


def make_video(video_id, num_frames, num_annotators=4, seed=0):
  generator = np.random.default_rng(seed)
  taste_F = np.repeat(generator.normal(3, 1, num_frames // 5), 5)
  levels_AF = np.clip(
    np.rint(taste_F + generator.normal(0, 0.7, (num_annotators, num_frames))), 1, 5
  )
  first_K = np.arange(0, num_frames, 5)
  return AnnotatedVideo(
    video_id,
    num_frames,
    np.arange(0, num_frames, 2),
    2.0,
    levels_AF=levels_AF.astype(np.uint8),
    segments_K2=np.stack([first_K, first_K + 4], axis=1),
  )


@pytest.fixture
def videos():
  return make_video("a", 60), make_video("b", 80, seed=1)


def rows_of(videos, protocol, **kinds):
  return {row.predictor: row for row in context.context(videos, protocol, **kinds)}


def test_annotators_by_hand(videos):
  rows = rows_of(videos[:1], RANK)
  said = videos[0].levels_AF[:, ::2].astype(int)
  pairs = [stats.kendalltau(said[i], said[j])[0] for i in range(4) for j in range(4) if i != j]
  assert rows[context.HUMAN].mean("tau") == pytest.approx(np.mean(pairs))
  held_out = [stats.spearmanr(said.sum(axis=0) - said[i], said[i])[0] for i in range(4)]
  assert rows[context.CEILING].mean("rho") == pytest.approx(np.mean(held_out))
  oracle = [stats.kendalltau(said.mean(axis=0), user)[0] for user in said]
  assert rows[context.ORACLE].mean("tau") == pytest.approx(np.mean(oracle))


def test_rows_are_ordered_as_they_should_be(videos):
  rows = rows_of(videos, RANK)
  assert list(rows) == list(context.DESCRIPTIONS)
  tau = {name: row.mean("tau") for name, row in rows.items()}
  assert abs(tau[context.RANDOM]) < 0.05
  assert 0.1 < tau[context.HUMAN] < tau[context.CEILING] < tau[context.ORACLE]
  assert tau[context.BINARY] < tau[context.ORACLE]


def test_one_human_is_measured_with_the_best_of_the_others(videos):
  prepared = F1.prepare(videos[0])
  own = prepared.summary_AF
  best = [
    max(comparisons.summary_f1(own[a], np.delete(own, a, axis=0))) for a in range(len(own))
  ]  # fmt: skip
  rows = rows_of(videos[:1], F1)
  assert rows[context.HUMAN].mean("F1 max") == pytest.approx(np.mean(best))
  # The one that is held out has no best.
  assert list(rows[context.CEILING].by_video) == ["F1 mean"]


def test_the_interval_holds_random_predictions(videos):
  random = rows_of(videos, RANK)[context.RANDOM]
  low, high = random.interval["tau"]
  assert low < random.mean("tau") < high
  generator = np.random.default_rng(7)
  draws = [
    protocols.evaluate(
      videos,
      {v.id: Prediction.from_picks(v, generator.random(v.num_picks)) for v in videos},
      RANK,
      "draw",
    ).mean("tau")
    for _ in range(200)
  ]
  assert 0.88 < np.mean([low <= tau <= high for tau in draws]) <= 1.0


def test_random_rows_repeat_with_their_seed(videos):
  first = rows_of(videos, RANK)[context.RANDOM]
  assert first == rows_of(videos, RANK)[context.RANDOM]
  assert first != rows_of(videos, RANK, seed=1)[context.RANDOM]


def test_the_centre_prior_is_symmetric():
  video = make_video("a", 60)
  score_P = context.centre_prior(video).score_P
  assert score_P.tolist() == score_P[::-1].tolist()
  assert len(set(score_P)) == 15
  assert score_P.argmax() in (14, 15)


def test_one_annotator_has_no_human_rows():
  rows = rows_of([make_video("a", 60, num_annotators=1)], RANK)
  assert context.HUMAN not in rows
  assert context.CEILING not in rows
  assert context.ORACLE in rows


def test_rows_that_some_videos_lack_are_left_out(videos):
  rows = rows_of([videos[0], make_video("c", 60, num_annotators=1)], RANK)
  assert context.HUMAN not in rows
  assert set(rows[context.RANDOM].by_video["tau"]) == {"a", "c"}


def test_share_of_the_ceiling(videos):
  results = context.context(videos, F1)
  rows = {row.predictor: row for row in results}
  human = rows[context.HUMAN]
  shares = [context.share_of_ceiling(human, measure, results) for measure in human.by_video]
  assert shares[0] == human.mean("F1 mean") / rows[context.CEILING].mean("F1 mean")
  assert shares[1] == human.mean("F1 max") / rows[context.ORACLE].mean("F1 max")
  assert math.isnan(context.share_of_ceiling(human, "F1 mean", results[:2]))


def test_bad_input():
  with pytest.raises(InputError, match="no video"):
    context.context((), RANK)
  with pytest.raises(InputError, match="a: has no gtscore"):
    context.context((make_video("a", 60),), protocols.BY_NAME["gtscore-rank"])


def shared_rows(name, protocol, segments=None):
  path = SHARED / f"{name}.h5"
  if not path.exists():
    pytest.skip(f"../shared/data/{name}.h5 is absent")
  return rows_of(load_benchmark(path, segments=segments), protocol)


# One human is the figure of the notebook of Otani et al., CVPR 2019. The others were computed by
# other code from the same annotations.
TVSUM = {
  context.HUMAN: (0.177, 0.204),
  context.CEILING: (0.314, 0.396),
  context.ORACLE: (0.378, 0.473),
  context.BINARY: (0.307, 0.331),
  context.CENTRE: (0.100, 0.130),
}


def test_rows_of_tvsum_to_three_decimals():
  rows = shared_rows("tvsum", RANK)
  for name, expected in TVSUM.items():
    found = tuple(round(rows[name].mean(measure), 3) for measure in ("tau", "rho"))
    assert found == expected, name
  assert rows[context.RANDOM].mean("tau") == pytest.approx(0, abs=0.005)


def test_one_human_of_summe():
  human = shared_rows("summe", F1)[context.HUMAN]
  assert round(100 * human.mean("F1 mean")) == 31
  assert round(100 * human.mean("F1 max")) == 54
