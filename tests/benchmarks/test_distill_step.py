"""The cost of teachers: every row is timed at every size, and bad flags are refused."""

import json

import pytest

from vsumjax.benchmarks import distill_step
from vsumjax.types import InputError


@pytest.fixture
def config(config_values, tmp_path):
  """A config file that takes the name of a stage; the stages differ in depth."""
  stages = {
    name: config_values(**{"model.llm.depth": depth, "model.exits.layers": (depth,)})
    for name, depth in {"student": 1, "mentor": 2, "teacher": 3}.items()
  }
  for values in stages.values():
    values["objective"]["exit_weights"] = (1.0,)
  path = tmp_path / "stages.py"
  path.write_text(
    "import json\nfrom ml_collections import ConfigDict\n"
    f"STAGES = json.loads({json.dumps(stages)!r})\n"
    "def get_config(arg):\n  return ConfigDict(STAGES[arg])\n"
  )
  return str(path)


def test_every_row_is_timed(config, monkeypatch, tmp_path, capsys):
  build_sizes = distill_step._build_sizes
  monkeypatch.setattr(
    distill_step, "_build_sizes", lambda configs: {"stages": build_sizes(configs)["stages"]}
  )
  out = tmp_path / "report.json"
  report = distill_step.benchmark_distill_step(config, rounds=1, steps=1, out=out)
  assert json.loads(out.read_text()) == report
  for found in report["sizes"].values():
    assert {row: len(values) for row, values in found["seconds"].items()} == dict.fromkeys(
      distill_step.ROWS, 1
    )
    assert found["times_without"]["without teachers"] == 1
    sizes = [found["num_params"][stage] for stage in distill_step.STAGES]
    assert sizes == sorted(set(sizes))
  assert "times without" in capsys.readouterr().out


def test_sizes_are_those_of_the_stages_and_1_3_9(config):
  configs = [distill_step.load_config(f"{config}:{stage}") for stage in distill_step.STAGES]
  sizes = distill_step._build_sizes(configs)
  assert [model.llm.depth for model in sizes["stages"]] == [1, 2, 3]
  assert [model.llm.depth for model in sizes["1:3:9"]] == [2, 6, 18]
  assert [model.img.depth for model in sizes["1:3:9"]] == [2, 6, 18]


@pytest.mark.parametrize("flag", ["rounds", "steps"])
def test_nothing_to_time_is_refused(flag, config):
  with pytest.raises(InputError, match=f"--{flag}: 0 must be 1 or more"):
    distill_step.benchmark_distill_step(config, **{flag: 0})
