"""`vsumjax evaluate scores` with several files: joined, or one for each fold of a split."""

import json

import h5py
import numpy as np
import pytest

from vsumjax import cli

VIDEOS = ("video_1", "video_2", "video_3")
# video_2 is tested twice and video_4 never, as happens to published random draws.
FOLDS = [
  {"train": ["video_1", "video_4"], "test": ["video_2", "video_3"]},
  {"train": ["video_3", "video_4"], "test": ["video_1", "video_2"]},
]
PROTOCOL = ("--protocol", "gtscore-rank")
NUM_PICKS = 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A benchmark of four videos; scores.json of the tested ones, and preds/ with one a file."""
  generator = np.random.default_rng(0)
  scores = {name: generator.random(NUM_PICKS).tolist() for name in VIDEOS}
  with h5py.File(tmp_path / "bench.h5", "w") as file:
    for name in (*VIDEOS, "video_4"):
      file[f"{name}/n_frames"] = 15 * NUM_PICKS
      file[f"{name}/picks"] = np.arange(0, 15 * NUM_PICKS, 15)
      file[f"{name}/gtscore"] = generator.random(NUM_PICKS)
  (tmp_path / "scores.json").write_text(json.dumps(scores))
  (tmp_path / "preds").mkdir()
  for name, each in scores.items():
    (tmp_path / "preds" / f"{name}.json").write_text(json.dumps({name: each}))
  (tmp_path / "splits.json").write_text(json.dumps({"draws": FOLDS}))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def evaluate(*arguments):
  return cli.main(["evaluate", *arguments, "--benchmark", "bench.h5", *PROTOCOL])


def evaluation(out):
  return json.loads((out / "evaluation.json").read_text())


def add(path, **scores):
  """A file of scores that rise from pick to pick but for the first, which is given."""
  path.write_text(json.dumps({name: [value, *range(1, 8)] for name, value in scores.items()}))


SPLITS = ("--splits", "splits.json")


@pytest.mark.parametrize("spelling", [["scores"], ["--scores"]])
def test_joined_files_give_what_one_file_gives(folder, spelling):
  assert evaluate("scores", "scores.json", *SPLITS, "--out", "one") == 0
  with h5py.File("preds/video_2.h5", "w") as file:  # the forms may be mixed
    file["video_2"] = json.loads((folder / "preds" / "video_2.json").read_text())["video_2"]
  (folder / "preds" / "video_2.json").unlink()
  assert evaluate(*spelling, "preds/*.json", "preds/video_2.h5", *SPLITS, "--out", "all") == 0
  one, joined = evaluation(folder / "one"), evaluation(folder / "all")
  assert joined["scores"] == ["preds/video_1.json", "preds/video_3.json", "preds/video_2.h5"]
  assert joined["title"].startswith("3 files of scores on bench: 2 folds of splits.json, 3 videos")
  rows = [content["protocols"][0]["rows"] for content in (one, joined)]
  assert rows[0][0].pop("predictor") == rows[1][0].pop("predictor") == "scores"
  assert rows[0] == rows[1]
  assert joined["folds"]["means"] == one["folds"]["means"]
  assert joined["folds"]["by_fold"][0]["files"] == ["preds/video_3.json", "preds/video_2.h5"]


def test_one_file_a_fold_where_folds_overlap(folder, capsys):
  """Each fold is measured by its own file, and its means stand beside those over the videos."""
  (folder / "f").mkdir()
  add(folder / "f" / "split2.json", video_2=9, video_3=9)
  add(folder / "f" / "split10.json", video_1=9, video_2=0)
  assert evaluate("scores", "f/split*.json", *SPLITS, "--out", "out") == 0
  content = evaluation(folder / "out")
  files = [fold["files"] for fold in content["folds"]["by_fold"]]
  assert files == [["f/split2.json"], ["f/split10.json"]]
  own = []
  for fold, (path,) in enumerate(files):
    assert evaluate("scores", path, *SPLITS, "--fold", str(fold), "--out", "fold") == 0
    own.append(evaluation(folder / "fold")["protocols"][0]["rows"][0]["by_video"]["tau"])
  assert own[0]["video_2"] != own[1]["video_2"]
  tau = content["protocols"][0]["rows"][0]["by_video"]["tau"]
  assert tau["video_2"] == pytest.approx((own[0]["video_2"] + own[1]["video_2"]) / 2)
  assert (tau["video_3"], tau["video_1"]) == (own[0]["video_3"], own[1]["video_1"])
  over_folds = np.mean([np.mean(list(each.values())) for each in own])
  assert content["folds"]["means"]["gtscore-rank"]["tau"] == pytest.approx(over_folds)
  printed = capsys.readouterr().out
  assert f"gtscore-rank tau {over_folds + 0.0:.3f}" in printed
  assert "1 videos are tested by several of them and 1 by none" in printed


def test_splits_may_be_one_file_a_fold_too(folder):
  for number, fold in enumerate(FOLDS):
    (folder / f"fold_{number}.json").write_text(json.dumps([fold]))
  assert evaluate("scores", "scores.json", *SPLITS, "--out", "one") == 0
  assert evaluate("scores", "scores.json", "--splits", "fold_*.json", "--out", "two") == 0
  one, two = (evaluation(folder / name) for name in ("one", "two"))
  assert two["folds"].pop("split") == "fold_0 to fold_1"
  one["folds"].pop("split")
  assert two["folds"] == one["folds"]
  assert two["protocols"] == one["protocols"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["none/*.json"], "none/*.json: matches no file"),
    (["scores.json", "preds/video_9.json"], "preds/video_9.json: cannot be read: No such file"),
    (["preds/*.json", "bad.json"], "bad.json: neither JSON nor .npz nor HDF5"),
    (["preds/*.json", "nan.json"], "nan.json: video_4: score 0 is nan"),
    (["preds/*.json", "preds/video_1.json"], "preds/video_1.json: is given twice"),
    (
      ["scores.json", "preds/*.json"],
      "video_1: is in two files, scores.json and preds/video_1.json; if they are of folds",
    ),
    (
      ["scores.json", "preds/video_1.json", "preds/video_2.json", *SPLITS],
      "video_1: is in two files, scores.json and preds/video_1.json; of folds that overlap, give"
      " one file for each fold, in their order: there are 2 folds and 3 files",
    ),
    (
      ["preds/*.json"],
      "preds/video_1.json, preds/video_2.json and preds/video_3.json: have no scores of video_4",
    ),
    (["preds/video_1.json"], "preds/video_1.json: has no scores of video_2 and of 2 more"),
    (
      ["preds/video_1.json", "preds/video_2.json", *SPLITS],
      "preds/video_1.json and preds/video_2.json: fold 0: have no scores of video_3",
    ),
    (["preds/video_[12].json", *SPLITS, "--fold", "2"], "splits.json: has folds 0 to 1, not 2"),
    (["scores.json", "--splits", "none_*.json"], "none_*.json: matches no file"),
  ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(folder, run_cli, arguments, message):
  (folder / "bad.json").write_text("{")
  (folder / "nan.json").write_text(json.dumps({"video_4": [float("nan")] * NUM_PICKS}))
  status, out, err = run_cli(
    "evaluate", "scores", *arguments, "--benchmark", "bench.h5", "--out", "out"
  )
  assert (status, out) == (2, "")
  assert err.startswith(f"vsumjax evaluate: {message}")
  assert err.count("\n") == 1
  assert not (folder / "out").exists()
