"""The benchmark of the data path at tiny size: each row reads everything once."""

import json

import numpy as np
import pytest

from vsumjax.benchmarks import loader
from vsumjax.data.made import corpora
from vsumjax.data.order import GlobalOrder
from vsumjax.data.prompt import PromptConfig
from vsumjax.types import InputError

PROMPT = PromptConfig(
  window=1,
  segment_s=2.0,
  frames_per_segment=1,
  tokens_per_frame=4,
  image_size=16,
  text_tokens=40,
  title_tokens=8,
  score_tokens=("1", "2", "3", "4", "5"),
)
CORPUS = corpora.CorpusConfig(
  num_train=3, num_validation=0, num_test=0, min_s=4, max_s=6, height=32, width=48, fps=5,
)  # fmt: skip


def test_every_row_reads_every_video_once(tmp_path, capsys):
  out = tmp_path / "loader.json"
  report = loader.benchmark_loader(
    tmp_path / "root", num_workers=1, rounds=1, prompt=PROMPT, corpus=CORPUS, out=out
  )
  assert json.loads(out.read_text()) == json.loads(json.dumps(report))
  assert report["num_frames"] == 10 * report["num_windows"] > 0  # 2 s at 5 frames a second
  assert {name: len(values) for name, values in report["seconds"].items()} == dict.fromkeys(
    loader.ROWS, 1
  )
  median = report["median_s"]
  assert report["share_of_bare"] == pytest.approx(median["bare PyAV"] / median["pipeline, media"])
  assert "prepared shards it is" in " ".join(capsys.readouterr().out.split())


def test_padding_comes_first_and_then_one_epoch():
  order = GlobalOrder(10, 0)
  batches = [loader._after_padding(order, 3, 4, index).tolist() for index in range(6)]
  assert batches[:3] == [[-1]] * 3
  examples = np.concatenate(batches[3:])
  assert sorted(examples.tolist()) == [-1, -1, *range(10)]
  assert examples[-2:].tolist() == [-1, -1]


@pytest.mark.parametrize(
  ("wrong", "told"),
  [
    ({"rounds": 0}, "--rounds"),
    ({"num_workers": 0}, "--num-workers"),
    ({"manifest": "m.jsonl"}, "--tokenizer go together"),
  ],
)
def test_impossible_requests_are_refused(tmp_path, wrong, told):
  with pytest.raises(InputError, match=told):
    loader.benchmark_loader(tmp_path, **wrong)
  assert not list(tmp_path.iterdir())
