"""The cost of teachers: every row is timed at every size, and bad flags are refused."""

import json

import pytest

from vsumjax.jobs import distill_step
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


def test_every_row_is_timed_at_every_size(config, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(distill_step, "_RATIOS", (1, 2, 3))
  out = tmp_path / "report.json"
  report = distill_step.benchmark_distill_step(config, rounds=2, steps=1, out=out)
  assert json.loads(out.read_text()) == report
  for found in report["sizes"].values():
    assert {row: len(values) for row, values in found["seconds"].items()} == dict.fromkeys(
      distill_step.ROWS, 2
    )
    assert found["times_without"]["without teachers"] == 1
    sizes = [found["num_params"][stage] for stage in distill_step.STAGES]
    assert sizes == sorted(set(sizes))
  assert "online, all three trained" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["rounds", "steps"])
def test_nothing_to_time_is_refused(flag, config):
  with pytest.raises(InputError, match=f"--{flag}: 0 must be 1 or more"):
    distill_step.benchmark_distill_step(config, **{flag: 0})
