import pytest
from launched import NUM_STEPS, OPTIONS, STEPS, Training, result


@pytest.fixture(scope="session")
def undisturbed(once, write_config, config_values):
  """(config, what a training with options gives that nobody disturbs), for one device."""
  values = config_values(**STEPS, **OPTIONS, **{"train.checkpoint_every": 5})

  def make(root):
    config = write_config(root / "tiny.py", values)
    assert Training(config, root / "run").finish() == 1

  root = once("undisturbed", make)
  finished, lines = result(root / "run")
  assert len(lines) == NUM_STEPS + 5
  assert "metric" in finished
  return root / "tiny.py", (finished, lines)
