"""`vsumjax evaluate scores`: anybody's scores under every protocol."""

import dataclasses
import json
import re

import h5py
import numpy as np
import pytest

from vsumjax import cli
from vsumjax.evaluation import context, protocols
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.experiment.annotations import open_benchmark
from vsumjax.jobs.rescore import choose_protocols, rescore
from vsumjax.types import InputError

NUM_FRAMES = {"video_1": 600, "video_2": 960, "video_3": 720}


@pytest.fixture
def folder(tmp_path):
  """A benchmark of three videos in the usual form, and scores of them."""
  generator = np.random.default_rng(0)
  scores = {}
  with h5py.File(tmp_path / "bench.h5", "w") as file:
    for video_id, num_frames in NUM_FRAMES.items():
      group = file.create_group(video_id)
      picks = np.arange(0, num_frames, 15)
      taste_F = np.repeat(generator.random(num_frames // 30), 30)
      levels_AF = np.clip(np.rint(1 + 4 * taste_F + generator.normal(0, 1, (5, num_frames))), 1, 5)
      ends = np.arange(14, num_frames, 15)
      group["n_frames"], group["n_steps"], group["fps"] = num_frames, len(picks), 30.0
      group["picks"], group["gtscore"] = picks, taste_F[picks]
      group["user_anno"] = levels_AF.astype(np.uint8)
      group["user_summary"] = (levels_AF >= 4).astype(np.float32)
      group["change_points"] = np.stack([ends - 14, ends], axis=1)
      scores[video_id] = np.abs(taste_F[picks] + generator.normal(0, 0.05, len(picks))).tolist()
  (tmp_path / "scores.json").write_text(json.dumps(scores))
  return tmp_path


def edit(folder, change):
  scores = json.loads((folder / "scores.json").read_text())
  change(scores)
  (folder / "scores.json").write_text(json.dumps(scores))


def evaluate(folder, *more):
  scores, bench = str(folder / "scores.json"), str(folder / "bench.h5")
  return cli.main(["evaluate", "scores", scores, "--benchmark", bench, *more])


def test_all_protocols_side_by_side(folder, capsys):
  assert evaluate(folder, "--protocol", "all", "--out", str(folder / "out")) == 0
  printed = capsys.readouterr().out
  content = json.loads((folder / "out" / "evaluation.json").read_text())
  assert [part["name"] for part in content["protocols"]] == list(protocols.BY_NAME)
  assert (content["num_videos"], content["skipped"]) == (3, {})
  # However narrow the screen, no column is lost: the last of the first line is the binary oracle.
  line = next(line for line in printed.splitlines() if line.split()[:2] == ["tvsum-rank", "tau"])
  binary = content["protocols"][0]["rows"][-1]
  assert binary["predictor"] == "binary oracle"
  assert line.split()[-1] == f"{binary['means']['tau']:.3f}"
  for part in content["protocols"]:
    assert part["name"] in printed
    measured, *rows = part["rows"]
    assert measured["predictor"] == "scores"
    assert {row["predictor"] for row in rows} >= {"random", "centre prior", "oracle"}
    for measure, mean in measured["means"].items():
      by_video = measured["by_video"][measure]
      assert list(by_video) == list(NUM_FRAMES)
      assert mean == pytest.approx(np.mean(list(by_video.values())))
      assert mean > rows[0]["means"][measure]  # of random scores
  page = (folder / "out" / "evaluation.html").read_text()
  assert "tvsum-rank" in page


def test_the_rows_are_those_of_the_library(folder):
  videos = load_benchmark(folder / "bench.h5")
  report = rescore([folder / "scores.json"], videos, None, protocol="keyshot-f1,tvsum-rank")
  assert [part.protocol.name for part in report.parts] == ["keyshot-f1", "tvsum-rank"]
  for part in report.parts:
    assert (
      part.context
      == context.context_of_all(videos, [p.protocol for p in report.parts])[
        report.parts.index(part)
      ]
    )
    assert part.result == protocols.evaluate(videos, report.predictions, part.protocol, "scores")


def test_the_files_own_summary_is_measured_apart(folder):
  with h5py.File(folder / "own.h5", "w") as file:
    for video_id, scores in json.loads((folder / "scores.json").read_text()).items():
      group = file.create_group(video_id)
      group["score"], group["fm"] = scores, 0.5
      group["machine_summary"] = np.zeros(NUM_FRAMES[video_id])
  videos = load_benchmark(folder / "bench.h5")
  own = rescore([folder / "own.h5"], videos, None, protocol="keyshot-f1")
  plain = rescore([folder / "scores.json"], videos, None, protocol="keyshot-f1")
  assert own.parts[0].result.by_video == plain.parts[0].result.by_video
  assert any("machine_summary" in note and " 0.0 " in note for note in own.notes)
  assert any("states an F1 of 3 videos, 0.5 on average" in note for note in own.notes)


def test_scores_below_0_are_told(folder):
  edit(folder, lambda scores: scores.update(video_2=[-1.0] * 64))
  videos = load_benchmark(folder / "bench.h5")
  report = rescore([folder / "scores.json"], videos, None, protocol="keyshot-f1")
  assert report.notes[0].startswith("1 videos, as video_2, have scores below 0")
  assert report.parts[0].result.by_video["F1 mean"]["video_2"] == 0.0


def test_one_fold(folder, capsys):
  fold = {"train_keys": ["x/video_1"], "test_keys": ["x/video_3", "x/video_2"]}
  (folder / "splits.json").write_text(json.dumps([fold]))
  edit(folder, lambda scores: scores.pop("video_1"))
  split = ["--splits", str(folder / "splits.json"), "--fold"]
  out = folder / "out"
  assert evaluate(folder, *split, "0", "--protocol", "tvsum-rank", "--out", str(out)) == 0
  rows = json.loads((out / "evaluation.json").read_text())["protocols"][0]["rows"]
  assert list(rows[0]["by_video"]["tau"]) == ["video_2", "video_3"]
  assert evaluate(folder, *split, "1") == 2
  assert "has folds 0 to 0, not 1" in capsys.readouterr().err


def test_a_split_of_unknown_videos_is_refused(folder, capsys):
  fold = {"train_keys": ["video_1"], "test_keys": ["video_7"]}
  (folder / "splits.json").write_text(json.dumps([fold]))
  assert evaluate(folder, "--splits", str(folder / "splits.json"), "--fold", "0") == 2
  error = capsys.readouterr().err
  assert "fold 0" in error and "test_keys" in error and "video_7" in error


def test_what_a_benchmark_lacks(folder, capsys):
  with h5py.File(folder / "bench.h5", "a") as file:
    for group in file.values():
      del group["change_points"]
  assert evaluate(folder, "--protocol", "keyshot-f1") == 2
  assert "video_1: has no segments" in capsys.readouterr().err
  assert evaluate(folder, "--out", str(folder / "out")) == 0
  skipped = json.loads((folder / "out" / "evaluation.json").read_text())["skipped"]
  assert set(skipped) == {"summe-rank", "keyshot-f1", "keyshot-f1-frames", "mrhisum"}
  assert "keyshot-f1 left out: the benchmark has no segments" in capsys.readouterr().out


def test_what_one_video_lacks_is_an_error_even_of_all_protocols(folder):
  videos = load_benchmark(folder / "bench.h5")
  videos = (videos[0], dataclasses.replace(videos[1], levels_AF=None), videos[2])
  with pytest.raises(InputError, match=r"^video_2: has no levels"):
    choose_protocols("all", videos)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda scores: scores.update(video_2=[1.0] * 7), "video_2: 7 scores, but it has 64 picks"),
    (lambda scores: scores.pop("video_3"), "has no scores of video_3"),
    (lambda scores: scores["video_1"].__setitem__(4, float("nan")), "video_1: .*nan"),
    (lambda scores: scores.update(video_9=[1.0]), "video_9"),
  ],
)
def test_bad_scores_name_the_video(folder, capsys, change, message):
  edit(folder, change)
  out = folder / "out"
  assert evaluate(folder, "--out", str(out)) == 2
  assert not out.exists()
  assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
  ("more", "message"),
  [
    (["--protocol", "f1"], "there is no protocol 'f1'; there are all, tvsum-rank"),
    (["--segments", "kts"], "no video has the segments 'kts'"),
    (["--fold", "0"], "--fold needs --splits"),
  ],
)
def test_bad_flags(folder, capsys, more, message):
  assert evaluate(folder, *more) == 2
  assert message in capsys.readouterr().err


def test_benchmarks_that_are_not_there(tmp_path):
  with pytest.raises(InputError, match=r"tvsum: is not built; run `vsumjax build-dataset tvsum"):
    open_benchmark("tvsum", data_dir=tmp_path)
  with pytest.raises(
    InputError, match=r"nothing.h5: is not a file; --benchmark takes an HDF5 file"
  ):
    open_benchmark(str(tmp_path / "nothing.h5"))
  with pytest.raises(InputError, match="--segments and --annotations go with an HDF5 file"):
    open_benchmark("tvsum", segments="kts", data_dir=tmp_path)
