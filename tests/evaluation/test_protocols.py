"""Every protocol against an independent slow implementation, and against published figures."""

import dataclasses
import itertools
import math
import pathlib
import time

import h5py
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vsumjax.evaluation import comparisons, keyshots, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.evaluation.predictions import Prediction
from vsumjax.types import InputError

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"
MANY = hypothesis.settings(max_examples=1000, deadline=None)
SOME = hypothesis.settings(max_examples=200, deadline=None)


# --- the slow implementation: plain Python, from the conventions' texts


def slow_tau(x, y):
  concordant = untied_x = untied_y = 0
  for i, j in itertools.combinations(range(len(x)), 2):
    dx, dy = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
    concordant += dx * dy
    untied_x += dx != 0
    untied_y += dy != 0
  return concordant / math.sqrt(untied_x * untied_y) if untied_x and untied_y else 0.0


def slow_ranks(x):
  return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


def slow_rho(x, y):
  a, b = slow_ranks(x), slow_ranks(y)
  middle = (len(x) + 1) / 2
  product = sum((p - middle) * (q - middle) for p, q in zip(a, b, strict=True))
  norms = math.prod(sum((p - middle) ** 2 for p in ranks) for ranks in (a, b))
  return product / math.sqrt(norms) if norms else 0.0


def slow_knapsack(values, lengths, budget):
  """The best of all subsets; of equals the one that leaves out the last item they differ in."""
  fitting = [
    kept
    for kept in itertools.product((0, 1), repeat=len(values))
    if sum(n for n, k in zip(lengths, kept, strict=True) if k) <= budget
  ]
  return min(
    fitting,
    key=lambda kept: (
      -sum(v for v, k in zip(values, kept, strict=True) if k),
      tuple(reversed(kept)),
    ),
  )


def slow_summary(score_per_frame, segments, budget):
  means = [sum(score_per_frame[a : b + 1]) / (b - a + 1) for a, b in segments]
  kept = slow_knapsack(means, [b - a + 1 for a, b in segments], budget)
  return [
    any(k and a <= frame <= b for (a, b), k in zip(segments, kept, strict=True))
    for frame in range(len(score_per_frame))
  ]


def slow_f1(summary, reference):
  overlap = sum(a and b for a, b in zip(summary, reference, strict=True))
  if not overlap:
    return 0.0
  precision, recall = overlap / sum(summary), overlap / sum(reference)
  return 2 * precision * recall / (precision + recall)


def slow_frames(scores, picks, num_frames):
  return [scores[max(i for i, p in enumerate(picks) if p <= f)] for f in range(num_frames)]


def _bytes(length):
  return st.binary(min_size=length, max_size=length)


@st.composite
def cases(draw):
  """A video whose means are exact in binary, so that ties are ties however they are added up."""
  lengths = draw(st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=6))
  ends = list(itertools.accumulate(lengths))
  segments = [(end - length, end - 1) for end, length in zip(ends, lengths, strict=True)]
  num_frames = ends[-1] + draw(st.integers(0, 9))
  step = draw(st.sampled_from([1, 2, 3]))
  picks = list(range(0, num_frames, step))
  # Few different values. Bytes are drawn far quicker than lists.
  low, num_values = draw(st.sampled_from([(0, 4), (2, 1), (-1, 10)]))
  scores = [low + byte % num_values for byte in draw(_bytes(len(picks)))]
  users = range(draw(st.integers(1, 4)))
  num_levels = draw(st.sampled_from([1, 2, 5, 5]))
  levels = [[1 + byte % num_levels for byte in draw(_bytes(num_frames))] for _ in users]
  chosen = draw(st.sampled_from([0, 30, 128, 256]))  # of 256 frames; none, some or all
  summaries = [[byte < chosen for byte in draw(_bytes(num_frames))] for _ in users]
  return num_frames, picks, [s / 8 for s in scores], levels, summaries, segments


def video_of(case, *, with_levels=True, with_summaries=True):
  num_frames, picks, scores, levels, summaries, segments = case
  video = AnnotatedVideo(
    "v",
    num_frames,
    np.array(picks),
    1.0,
    levels_AF=np.array(levels, np.uint8) if with_levels else None,
    summary_AF=np.array(summaries, bool) if with_summaries else None,
    gtscore_P=np.array([levels[0][p] / 4 for p in picks]),
    segments_K2=np.array(segments),
  )
  return video, {"v": Prediction.from_picks(video, scores)}


def measured(case, name, **kinds):
  video, predictions = video_of(case, **kinds)
  result = protocols.evaluate([video], predictions, protocols.BY_NAME[name], "x")
  return [result.mean(measure) for measure in result.by_video]


def budgets(case):
  num_frames, *_, segments = case
  return {
    "keyshot-f1": int((segments[-1][1] + 1) * 0.15),
    "keyshot-f1-frames": math.floor(num_frames * 0.15),
  }


@MANY
@hypothesis.given(cases())
def test_ranks_of_levels(case):
  _, picks, scores, levels, _, _ = case
  at_picks = [[user[p] for p in picks] for user in levels]
  expected = [np.mean([slow(scores, user) for user in at_picks]) for slow in (slow_tau, slow_rho)]
  assert measured(case, "tvsum-rank") == pytest.approx(expected, abs=1e-12)
  gtscore = [level / 4 for level in at_picks[0]]
  expected = [slow_tau(scores, gtscore), slow_rho(scores, gtscore)]
  assert measured(case, "gtscore-rank") == pytest.approx(expected, abs=1e-12)


@MANY
@hypothesis.given(cases(), st.sampled_from(["keyshot-f1", "keyshot-f1-frames"]))
def test_f1_of_keyshots(case, name):
  num_frames, picks, scores, _, summaries, segments = case
  budget = budgets(case)[name]
  summary = slow_summary(slow_frames(scores, picks, num_frames), segments, budget)
  f1s = [slow_f1(summary, user) for user in summaries]
  assert measured(case, name) == pytest.approx([np.mean(f1s), max(f1s)], abs=1e-12)


@SOME
@hypothesis.given(cases())
def test_f1_with_summaries_made_of_levels(case):
  num_frames, picks, scores, levels, _, segments = case
  budget = budgets(case)["keyshot-f1"]
  summary = slow_summary(slow_frames(scores, picks, num_frames), segments, budget)
  f1s = [slow_f1(summary, slow_summary(user, segments, budget)) for user in levels]
  found = measured(case, "keyshot-f1", with_summaries=False)
  assert found == pytest.approx([np.mean(f1s), max(f1s)], abs=1e-12)


@MANY
@hypothesis.given(cases())
def test_ranks_of_summaries(case):
  num_frames, picks, scores, _, summaries, segments = case
  summary = slow_summary(
    slow_frames(scores, picks, num_frames), segments, budgets(case)["keyshot-f1"]
  )
  mean = [sum(user[f] for user in summaries) for f in range(num_frames)]
  expected = [slow_tau(summary, mean), slow_rho(summary, mean)]
  assert measured(case, "summe-rank") == pytest.approx(expected, abs=1e-9)


def slow_average_precision(scores, positive):
  """Precision at each distinct score, weighted by the recall it adds."""
  total, found_before = 0.0, 0
  for threshold in sorted(set(scores), reverse=True):
    taken = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
    total += sum(taken) / len(taken) * (sum(taken) - found_before)
    found_before = sum(taken)
  return total / sum(positive) if any(positive) else 0.0


def slow_clips(values, pad):
  clips = [values[i : i + 5] for i in range(0, len(values), 5)]
  return [sum(clip) / (5 if pad else len(clip)) for clip in clips]


@SOME
@hypothesis.given(cases())
def test_mean_average_precision(case):
  _, picks, scores, levels, _, _ = case
  reference = [levels[0][p] / 4 for p in picks]
  for name, pad, rounding in (
    ("mrhisum-map", False, math.floor),
    ("triplesumm-map", True, math.ceil),
  ):
    clips, wanted = slow_clips(scores, pad), slow_clips(reference, pad)
    clips, wanted = ([round(v, 9) for v in values] for values in (clips, wanted))
    expected = []
    for share in (0.5, 0.15):
      # Of equals MR.HiSum's selection begins with the first clip, TripleSumm's with the last.
      order = sorted(range(len(wanted)), key=lambda n: (-wanted[n], -n if pad else n))
      positive = [n in order[: rounding(len(wanted) * share)] for n in range(len(wanted))]
      expected.append(slow_average_precision(clips, positive))
    assert measured(case, name) == pytest.approx(expected, abs=1e-9)


# --- by hand


def test_one_segment_longer_than_the_budget_leaves_an_empty_summary():
  case = (10, list(range(10)), [1.0] * 10, [[3] * 10], [[True] + [False] * 9], [(0, 9)])
  assert measured(case, "keyshot-f1") == [0.0, 0.0]
  assert measured(case, "summe-rank") == [0.0, 0.0]


def test_equal_segments_are_taken_from_the_start():
  video, predictions = video_of(
    (
      40,
      list(range(40)),
      [0.1] * 40,
      [[1] * 40],
      [[True] * 40],
      [(n, n + 1) for n in range(0, 40, 2)],
    )
  )
  summary_F = keyshots.make_summary(video, predictions["v"].score_F, 6)
  assert np.flatnonzero(summary_F).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_two_budgets_differ_where_frames_follow_the_last_segment():
  video, _ = video_of((27, list(range(27)), [1.0] * 27, [[1] * 27], [[True] * 27], [(0, 19)]))
  assert keyshots.budget_of_segments(video) == 3
  assert keyshots.budget_of_frames(video) == 4


def test_means_of_constant_segments_are_exact_whatever_their_length():
  segments_K2 = np.array([[0, 2], [3, 9], [10, 10]])
  means_K = keyshots.segment_means(np.full(11, 0.1), segments_K2)
  assert means_K.tolist() == [0.1, 0.1, 0.1]
  assert (np.full(7, 0.1).mean(), np.full(3, 0.1).mean()) != (0.1, 0.1)  # what NumPy's would be


def test_kept_seconds():
  """20 frames at 2 a second: the best 15 % of 10 seconds, rounded up, are 2."""
  levels = np.ones((2, 20), np.uint8)
  levels[:, 4:6] = 5  # second 2
  levels[0, 10:12] = 4  # second 5
  video = AnnotatedVideo("v", 20, np.arange(20), 2.0, levels_AF=levels)
  score_F = np.zeros(20)
  score_F[4:6], score_F[18:] = 1.0, 2.0
  result = protocols.evaluate(
    [video], {"v": Prediction.from_frames(video, score_F)}, protocols.BY_NAME["keep-drop"], "x"
  )
  assert result.mean("F1") == 0.5


def test_mrhisum_counts_the_frame_behind_each_segment():
  """Its segments are stored with the next one's first frame as their end."""
  segments_K2, score_F = np.array([[0, 1], [2, 3]]), np.array([0.0, 0.0, 6.0, 0.0])
  assert keyshots.segment_means(score_F, segments_K2).tolist() == [0.0, 3.0]
  assert keyshots.segment_means(score_F, segments_K2, overlap=1).tolist() == [2.0, 3.0]


# --- bad input


def test_bad_input_names_the_video_and_the_key():
  case = (10, list(range(10)), [1.0] * 10, [[3] * 10], [[True] * 10], [(0, 9)])
  video, predictions = video_of(case, with_levels=False, with_summaries=False)
  rank = protocols.BY_NAME["tvsum-rank"]
  with pytest.raises(InputError, match=r"^v: has no levels .*user_anno.*'tvsum-rank'"):
    protocols.evaluate([video], predictions, rank, "x")
  video, predictions = video_of(case)
  with pytest.raises(InputError, match=r"^v: has no predicted scores"):
    protocols.evaluate([video], {}, rank, "x")
  with pytest.raises(InputError, match="no video"):
    protocols.evaluate([], predictions, rank, "x")
  with pytest.raises(InputError, match=r"v: .*nan"):
    Prediction.from_picks(video, [math.nan] * 10)
  bad = Prediction(np.full(10, np.nan), np.full(10, np.nan))
  for name in ("tvsum-rank", "keyshot-f1"):
    with pytest.raises(InputError, match="NaN"):
      protocols.evaluate([video], {"v": bad}, protocols.BY_NAME[name], "x")


def test_a_name_stands_for_one_protocol():
  assert len(protocols.BY_NAME) == len(protocols.PROTOCOLS)
  for protocol in protocols.PROTOCOLS:
    assert protocol.description and protocol.used_by and protocol.measures


# --- real annotations


def shared_benchmark(name, segments=None):
  if not (SHARED / f"{name}.h5").exists():
    pytest.skip(f"../shared/data/{name}.h5 is absent")
  return load_benchmark(SHARED / f"{name}.h5", segments=segments)


def test_annotators_summaries_are_the_canonical_ones():
  """Where all canonical borders are known, levels give the published summaries to the frame."""
  videos = shared_benchmark("tvsum")
  equal = 0
  with h5py.File(SHARED / "tvsum.h5") as file:
    for video in videos:
      if "canonical_kts_edges_partial" not in file[video.id]:
        continue
      # Only the borders that show in somebody's summary are known.
      first_K = np.concatenate([[0], file[video.id]["canonical_kts_edges_partial"][()]])
      last_K = np.append(first_K[1:], video.num_frames) - 1
      cut = dataclasses.replace(video, segments_K2=np.stack([first_K, last_K], axis=1))
      own = comparisons.with_summaries(cut, budget=keyshots.budget_of_frames).summary_AF
      count_F = file[video.id]["canonical_user_summary_count_partial"][()]
      equal += np.array_equal(own.sum(axis=0), count_F)
  assert equal >= 10


def test_all_of_tvsum_under_all_protocols_within_five_seconds():
  videos = shared_benchmark("tvsum", "kts_vidsummethods/googlenet_5")
  generator = np.random.default_rng(0)
  predictions = {v.id: Prediction.from_picks(v, generator.random(v.num_picks)) for v in videos}
  chosen = [each for each in protocols.PROTOCOLS if not each.missing(videos[0])]
  assert len(chosen) == 9
  begin = time.process_time()
  protocols.evaluate_all(videos, predictions, chosen, "random")
  assert time.process_time() - begin < 5.0
