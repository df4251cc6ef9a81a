"""Which steps are traced, and that there is a trace."""

import jax.numpy as jnp
import pytest

from vsumjax.training.profiling import Profiler, parse_window
from vsumjax.types import InputError


def test_a_window_is_from_start_to_before_stop():
  assert list(parse_window("10:13")) == [10, 11, 12]


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "3:3", "4:3", "0:2", "-1:2", "a:b", "1:2:3"])
def test_what_holds_no_step_is_refused(text):
  with pytest.raises(InputError, match=r"--profile: .* is not START:STOP"):
    parse_window(text)


def test_the_steps_of_the_window_are_traced(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
  monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
  profiler = Profiler(tmp_path, range(2, 4))
  for step in range(1, 6):
    profiler.before(step)
    calls.append(step)
    if profiler.ends_with(step):
      profiler.close()
  assert calls == [1, "start", 2, 3, "stop", 4, 5]


def test_a_trace_that_is_cut_short_is_written(tmp_path):
  profiler = Profiler(tmp_path / "profile", range(1, 9))
  profiler.before(1)
  jnp.ones(3).block_until_ready()
  profiler.close()
  profiler.close()
  (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
  assert trace.stat().st_size > 0
