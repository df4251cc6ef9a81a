"""The examples of docs/score_files.md are read as it says."""

import pathlib
import re

import numpy as np
import pytest

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.score_files import load_scores
from vsumjax.evaluation.splits import load_splits

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "score_files.md").read_text()
SCORES, SPLITS = TEXT.split("## Benchmarks")[0], TEXT.split("## Splits")[1]
EXAMPLE = re.compile(r"```(?:json|text)\n(.*?)```", re.DOTALL)
VIDEOS = [AnnotatedVideo(f"video_{n}", 40, np.array([0, 15, 30]), 10.0) for n in (1, 2, 3)]


def test_there_are_examples():
  assert (len(EXAMPLE.findall(SCORES)), len(EXAMPLE.findall(SPLITS))) == (4, 4)


@pytest.mark.parametrize("example", EXAMPLE.findall(SCORES))
def test_examples_of_scores_are_read(tmp_path, example):
  path = tmp_path / "scores"
  path.write_text(example)
  score_P = load_scores(path, VIDEOS[:1])["video_1"].score_P
  assert score_P.tolist() in ([0.31, 0.28, 0.44], [3.1, 3.1, 2.4])


@pytest.mark.parametrize("example", EXAMPLE.findall(SPLITS))
def test_examples_of_splits_are_read(tmp_path, example):
  path = tmp_path / "splits"
  path.write_text(example)
  (fold,) = load_splits(path, videos=VIDEOS).folds
  assert (fold.train + fold.validation, fold.test) == (("video_1", "video_2"), ("video_3",))
