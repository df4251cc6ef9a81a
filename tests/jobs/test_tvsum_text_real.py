"""The text-only student on the real annotations of TVSum, which are not part of the project."""

import pathlib

import pytest

from vsumjax.evaluation import context
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.evaluation.splits import true_folds
from vsumjax.jobs.cross_validate import cross_validate
from vsumjax.jobs.text_corpus import make_corpus

ROOT = pathlib.Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"


@pytest.mark.long
@pytest.mark.skipif(not (SHARED / "tvsum.h5").is_file(), reason="../shared/data is absent")
def test_a_student_without_eyes_learns_from_the_real_annotators(tmp_path):
  videos = load_benchmark(SHARED / "tvsum.h5", segments="kts_vidsummethods/densenet_5")
  manifest = make_corpus(videos, SHARED / "captions.json", tmp_path / "corpus")
  result = cross_validate(
    f"{ROOT / 'configs/tvsum_text.py'}:corpus={manifest.parent},steps=150",
    manifest,
    videos,
    true_folds(videos),
    tmp_path / "out",
    seeds=(0,),
  )
  rows = {row.predictor: row for row in result.context}
  assert f"{rows[context.CENTRE].mean('tau'):.3f}" == "0.100"
  assert f"{rows[context.CENTRE].mean('rho'):.3f}" == "0.130"
  _, by_chance = rows[context.RANDOM].interval["tau"]
  assert result.over_seeds("tau").mean > 0.05 > by_chance
  assert result.split.is_partition and len(result.by_video("tau")) == 50
