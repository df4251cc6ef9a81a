import dataclasses
import pathlib
import re

import numpy as np
import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.evaluation import benchmark_files, context, protocols, report_page
from vsumjax.evaluation.benchmark import AnnotatedVideo, uniform_segments
from vsumjax.evaluation.predictions import Prediction
from vsumjax.evaluation.protocols import BY_NAME, Result
from vsumjax.evaluation.report import Part, Report, as_json, show

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"
NASTY = "<script>alert('\"&')</script>"


def make_video(number, **changes):
  """Two minutes of 6 segments, with the levels of four annotators."""
  generator = np.random.default_rng(number)
  fields = {
    "id": f"video_{number}",
    "num_frames": 600,
    "picks_P": np.arange(0, 600, 15),
    "fps": 5.0,
    "title": f"Film {number}",
    "levels_AF": np.repeat(generator.integers(1, 6, (4, 60)), 10, axis=1).astype(np.uint8),
    "gtscore_P": generator.random(40),
    "segments_K2": uniform_segments(600, 60),
  }
  return AnnotatedVideo(**{**fields, **changes})


def summaries(number, num_annotators=3):
  generator = np.random.default_rng(number)
  return np.repeat(generator.random((num_annotators, 10)) < 0.3, 60, axis=1)


def make_report(videos, *names, **changes):
  generator = np.random.default_rng(0)
  predictions = {
    video.id: Prediction.from_picks(video, generator.random(video.num_picks)) for video in videos
  }
  parts = tuple(
    Part(
      BY_NAME[name],
      protocols.evaluate(videos, predictions, BY_NAME[name], "student"),
      context.context(videos, BY_NAME[name]),
    )
    for name in names
  )
  return Report(
    **{"title": "A report", "videos": videos, "predictions": predictions}
    | changes
    | {"parts": changes.get("parts", parts)}
  )


def constant(video):
  return Prediction.from_picks(video, np.full(video.num_picks, 0.3))


@pytest.fixture
def saved(tmp_path):
  def save(report):
    report_page.save_report_page(tmp_path / "out" / "report.html", report)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    return Page((tmp_path / "out" / "report.html").read_text())

  return save


@pytest.fixture(scope="module")
def report():
  return make_report([make_video(n) for n in range(1, 5)], "tvsum-rank", "keyshot-f1")


def texts(content, tag, css_class=None):
  return [text for _, text in content.find(tag, css_class)]


def shares(cells):
  return ["–" if share is None else f"{round(share, 2) + 0.0:.0%}" for share in cells]


def percent(text):
  assert text.endswith("%")
  return float(text[:-1])


def test_the_page_refers_to_nothing_outside(tmp_path, saved, report):
  content = saved(report)
  assert not any(content.find(tag) for tag in ("link", "img", "iframe"))
  assert all(not attributes for attributes, _ in content.find("script"))
  text = (tmp_path / "out" / "report.html").read_text()
  assert "http" not in text and "url(" not in text and "@import" not in text
  ids = {attributes.get("id") for _, attributes, _ in content.elements}
  links = {attributes["href"] for _, attributes, _ in content.elements if "href" in attributes}
  assert {"#protocol-tvsum-rank", "#predictor", "#ceiling", "#human", "#random"} <= links
  assert {link.removeprefix("#") for link in links} <= ids


def test_the_tables_show_every_mean_interval_and_share(saved, report):
  rows = iter(texts(saved(report), "tr"))
  expected = as_json(report)["protocols"]
  overview = [next(rows) for _ in range(5)][1:]
  for part, told in zip(report.parts, expected, strict=True):
    for measure, share in told["rows"][0]["share_of_ceiling"].items():
      name, shown = part.protocol.name, show(part.result, measure)
      assert overview.pop(0) == f"{name} {measure} {shown} {shares([share])[0]}"
  for part, told in zip(report.parts, expected, strict=True):
    measures = [measure.name for measure in part.protocol.measures]
    assert next(rows) == " ".join(f"{measure} Of ceiling" for measure in measures)
    for result, row in zip((part.result, *part.context), told["rows"], strict=True):
      cells = [row["predictor"]]
      for measure in measures:
        share = row["share_of_ceiling"].get(measure)
        cells += [show(result, measure) or "–", *shares([share])]
      assert next(rows) == " ".join(cells)
    for _ in range(1 + len(report.videos)):
      next(rows)
  assert next(rows, None) is None


def test_only_the_measured_predictor_stands_out(saved, report):
  own = texts(saved(report), "tr", "own")
  assert [row.split()[0] for row in own] == ["student"] * 2
  namesake = make_report(report.videos, "tvsum-rank")
  part = namesake.parts[0]
  named = dataclasses.replace(part.result, predictor=context.CENTRE)
  parts = (dataclasses.replace(part, result=named),)
  content = saved(dataclasses.replace(namesake, parts=parts))
  assert len(content.find("tr", "own")) == 1


def test_a_chart_places_every_row_where_its_mean_is(saved, report):
  content = saved(report)
  charts = content.find("figure", "places")
  measures = [(part, m.name) for part in report.parts for m in part.protocol.measures]
  assert len(charts) == len(measures) == 4
  labels = [a["aria-label"] for a, _ in content.find("svg") if a.get("role") == "img"]
  for (part, measure), label in zip(measures, labels, strict=False):
    rows = [row for row in (part.result, *part.context) if measure in row.by_video]
    rows.sort(key=lambda row: -row.mean(measure))
    told = ", ".join(f"{row.predictor} {show(row, measure)}" for row in rows)
    assert label == f"{measure}: {told}"


@given(
  st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=1),
)
def test_an_axis_holds_its_values_and_zero_and_has_few_ticks(values):
  axis = report_page._Axis.over("tau", values)
  places = [axis.percent(value) for value in (*values, 0.0)]
  assert all(0 < place < 100 for place in places)
  assert np.all(np.diff([axis.percent(value) for value in sorted(values)]) >= 0)
  assert 2 <= len(axis.ticks) <= 7 and 0.0 in axis.ticks


def test_marks_lie_on_the_axis_of_the_ticks(saved):
  video = make_video(1)
  values = {"tau": {"video_1": 0.25}}
  rows = [
    Result(context.RANDOM, "tvsum-rank", {"tau": {"video_1": 0.0}}, {"tau": (-0.05, 0.05)}),
    Result(context.ORACLE, "tvsum-rank", {"tau": {"video_1": 0.5}}),
  ]
  part = Part(BY_NAME["tvsum-rank"], Result("student", "tvsum-rank", values), tuple(rows))
  content = saved(make_report([video], parts=(part,)))
  ticks = [
    (text, float(re.search(r"left: ([\d.]+)%", attributes["style"])[1]))
    for attributes, text in content.find("span")
    if "left" in attributes.get("style", "")
  ]
  marks = [(a["href"], percent(a["x"])) for a, _ in content.find("use") if "x" in a]
  chart, dots = dict(reversed(ticks)), dict(ticks)
  for axis, places in ((chart, dict(marks[:3])), (dots, dict(marks[3:]))):
    zero, per_unit = axis["0.000"], (axis["0.400"] - axis["0.000"]) / 0.4
    expected = {"#random": 0, "#predictor": 0.25, "#ceiling": 0.5}
    expected = {name: zero + value * per_unit for name, value in expected.items()}
    assert places == pytest.approx(expected, abs=0.03)
  zero, per_unit = chart["0.000"], (chart["0.400"] - chart["0.000"]) / 0.4
  span = content.find("rect", "span")[0][0]
  assert percent(span["x"]) == pytest.approx(zero, abs=0.03)
  assert percent(span["width"]) == pytest.approx(0.5 * per_unit, abs=0.03)
  whiskers = [(percent(a["x1"]), percent(a["x2"])) for a, _ in content.find("line", "whisker")]
  assert [low == high for low, high in whiskers] == [True, True, False]
  assert whiskers[-1] == pytest.approx((zero - 0.05 * per_unit, zero + 0.05 * per_unit), abs=0.03)


def test_each_video_has_a_row_the_best_first(saved, report):
  content = saved(report)
  part = report.parts[0]
  tau = part.result.by_video["tau"]
  rows = {row.predictor: row.by_video["tau"] for row in part.context if "tau" in row.by_video}
  ranked = sorted(report.videos, key=lambda video: -tau[video.id])
  body = content.find("table", "videos")[0][1]
  for video in ranked:
    beside = [rows[name][video.id] for name in (context.RANDOM, context.HUMAN, context.CEILING)]
    numbers = " ".join(f"{value:.3f}" for value in (tau[video.id], *beside))
    assert f"{video.id} {video.title}" in body and numbers in body
  places = [body.index(f"{video.id} {video.title}") for video in ranked]
  assert places == sorted(places)
  figures = [text.split()[0] for text in texts(content, "figure", "video")]
  assert figures == [video.id for video in ranked]


def test_many_videos_are_sorted_lines_not_marks(saved, monkeypatch):
  monkeypatch.setattr(report_page, "MAX_DOTS", 3)
  report = make_report([make_video(n) for n in range(1, 5)], "tvsum-rank")
  content = saved(report)
  assert content.find("table", "videos") == []
  lines = [a["d"] for a, _ in content.find("path", "sorted") if a["d"] != "M0 8H16"]
  assert len(lines) == 4
  for line in lines:
    heights = [int(y) for y in re.findall(r"(?:^M0 |V)(\d+)", line)]
    assert heights == sorted(heights, reverse=True)
  low, middle, high = np.quantile(
    list(report.parts[0].result.by_video["tau"].values()), (0, 0.5, 1)
  )
  assert f"student {low:.3f} · {middle:.3f} · {high:.3f}" in texts(content, "span")


def test_of_many_videos_some_have_curves_and_the_page_says_which(saved, monkeypatch):
  monkeypatch.setattr(report_page, "MAX_CURVES", 6)
  report = make_report([make_video(n) for n in range(1, 13)], "tvsum-rank")
  content = saved(report)
  tau = report.parts[0].result.by_video["tau"]
  ranked = sorted(tau, key=lambda id: -tau[id])
  figures = [text.split()[0] for text in texts(content, "figure", "video")]
  assert figures == ranked[:2] + ranked[5:7] + ranked[-2:]
  assert texts(content, "h3") == ["The 2 best", "The 2 around the median", "The 2 worst"]
  assert any("shown, 6 of 12." in text for text in texts(content, "p"))


def test_text_is_text(saved):
  video = make_video(1, id=NASTY, title=NASTY, category=NASTY)
  report = make_report([video], "tvsum-rank", title=NASTY, notes=(NASTY,), skipped={NASTY: NASTY})
  part = report.parts[0]
  result = dataclasses.replace(part.result, predictor=NASTY)
  report = dataclasses.replace(report, parts=(dataclasses.replace(part, result=result),))
  content = saved(report)
  assert len(content.find("script")) == 1
  assert texts(content, "h1") == texts(content, "li", "note") == [NASTY]
  assert texts(content, "li", "skipped") == [f"{NASTY} : {NASTY}"]
  assert texts(content, "tr", "own")[0].startswith(NASTY)
  assert texts(content, "figure", "video")[0].startswith(f"{NASTY} {NASTY} · {NASTY} · tau")


def test_nothing_measured(saved):
  video = make_video(1)
  content = saved(make_report([video]))
  assert "Nothing was measured." in texts(content, "p")
  part = Part(BY_NAME["tvsum-rank"], Result("student", "tvsum-rank", {}), ())
  content = saved(make_report([video], parts=(part,)))
  assert "Nothing was measured." in texts(content, "p")
  assert content.find("figure") == content.find("table") == []


def test_without_context_rows_there_are_no_shares_and_no_shade(saved):
  report = make_report([make_video(1)], "tvsum-rank")
  bare = dataclasses.replace(report.parts[0], context=())
  content = saved(dataclasses.replace(report, parts=(bare,)))
  tau, rho = (show(bare.result, measure) for measure in ("tau", "rho"))
  assert texts(content, "tr", "own") == [f"student {tau} – {rho} –"]
  assert content.find("rect", "span") == content.find("dt") == []


def test_a_video_without_a_prediction_has_no_curve(saved):
  videos = [make_video(1), make_video(2)]
  report = make_report(videos, "tvsum-rank")
  one = {"video_2": report.predictions["video_2"]}
  content = saved(dataclasses.replace(report, predictions=one))
  assert [text.split()[0] for text in texts(content, "figure", "video")] == ["video_2"]
  content = saved(dataclasses.replace(report, predictions={}))
  assert content.find("figure", "video") == []


def paths(content, css_class):
  figure = content.find("figure", "video")
  assert len(figure) == 1
  return [
    attributes["d"]
    for attributes, _ in content.find("path", css_class)
    if "sorted" not in attributes["class"].split()
  ]


def test_constant_scores_are_a_line_in_the_middle(saved):
  video = make_video(1, levels_AF=np.full((2, 600), 3, np.uint8))
  report = make_report([video], "tvsum-rank")
  content = saved(dataclasses.replace(report, predictions={video.id: constant(video)}))
  assert set(paths(content, "line")) == {"M0 100H1000"}


def test_curves_are_stretched_and_the_band_is_the_middle_half(saved):
  levels_AF = np.repeat([[1, 1], [2, 2], [2, 4], [3, 5], [5, 5]], 300, axis=1).astype(np.uint8)
  video = make_video(1, levels_AF=levels_AF)
  score_F = np.repeat([7.0, 9.0], 300)
  report = make_report([video], "tvsum-rank")
  rising = {video.id: Prediction.from_frames(video, score_F)}
  content = saved(dataclasses.replace(report, predictions=rising))
  assert paths(content, "predictor")[0] == "M0 200H500V0H1000"
  # Means 2.6 and 3.4, quartiles 2 to 3 and 2 to 5: from 2 at the bottom to 5 at the top.
  assert paths(content, "human")[0] == "M0 160H500V107H1000"
  assert paths(content, "band") == ["M0 133H500V0H1000L1000 200H0Z"]
  assert texts(content, "figure", "video")[0].endswith("0:00 1:00 2:00")


def test_strips_show_the_summaries(saved):
  video = make_video(1, levels_AF=None, summary_AF=summaries(1))
  report = make_report([video], "summe-rank")
  kept_F = np.arange(600) < 60
  prediction = dataclasses.replace(report.predictions[video.id], summary_F=kept_F)
  content = saved(dataclasses.replace(report, predictions={video.id: prediction}))
  assert paths(content, "predictor")[1] == "M0 0H100V200H1000L1000 200H0Z"
  share_10 = video.summary_AF[:, ::60].mean(axis=0)
  heights = [round(200 * (1 - share)) for share in share_10]
  first = re.match(r"M0 (\d+)", paths(content, "human")[1])
  assert int(first[1]) == heights[0]
  assert any("the share of annotators who kept the frame" in text for text in texts(content, "p"))
  assert paths(content, "band") == []


def test_without_segments_there_are_no_strips(saved):
  content = saved(make_report([make_video(1, segments_K2=None)], "tvsum-rank"))
  assert len(paths(content, "predictor")) == len(paths(content, "human")) == 1
  assert content.find("svg", "own") == content.find("svg", "others") == []


@pytest.mark.parametrize("summary_AF", [None, summaries(1, num_annotators=1)])
def test_gtscore_stands_for_fewer_than_two_annotators(saved, summary_AF):
  gtscore_P = np.repeat([0.0, 1.0], 20)
  video = make_video(1, levels_AF=None, summary_AF=summary_AF, gtscore_P=gtscore_P, fps=0)
  content = saved(make_report([video], "gtscore-rank"))
  assert paths(content, "human")[0] == "M0 200H500V0H1000"
  assert len(content.find("svg", "others")) == (summary_AF is not None)
  assert any("annotators' curve is gtscore." in text for text in texts(content, "p"))
  assert texts(content, "figure", "video")[0].endswith("frame 0 frame 300 frame 600")


def test_a_video_of_one_frame(saved):
  video = make_video(
    1,
    num_frames=1,
    picks_P=np.array([0]),
    levels_AF=np.ones((2, 1), np.uint8),
    gtscore_P=None,
    segments_K2=None,
  )
  content = saved(make_report([video], "tvsum-rank"))
  assert set(paths(content, "line")) == {"M0 100H1000"}


@given(st.integers(1, 5000))
def test_bins_keep_the_mean_and_are_few(num_frames):
  values_F = np.arange(num_frames) % 7
  means_B = report_page._bin_means(values_F)
  assert len(means_B) == min(num_frames, 400)
  length_B = np.diff(np.arange(len(means_B) + 1) * num_frames // len(means_B))
  assert np.average(means_B, weights=length_B) == pytest.approx(values_F.mean())
  assert length_B.max() - length_B.min() <= 1


def test_all_of_tvsum_is_a_small_page(tmp_path, saved):
  path = SHARED / "tvsum.h5"
  if not path.is_file():
    pytest.skip("the real annotations of ../shared/data are not here")
  videos = benchmark_files.load_benchmark(path, segments="kts_vidsummethods/googlenet_5")
  predictions = {video.id: context.centre_prior(video) for video in videos}
  protocol = BY_NAME["gtscore-rank"]
  result = protocols.evaluate(videos, predictions, protocol, "centre")
  part = Part(protocol, result, context.context(videos, protocol))
  content = saved(Report("TVSum", videos, predictions, (part,)))
  assert len(content.find("figure", "video")) == 50
  assert len(content.find("path", "band")) == len(content.find("svg", "others")) == 50
  assert (tmp_path / "out" / "report.html").stat().st_size < 1_000_000
