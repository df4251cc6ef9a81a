"""Predicted times beside rooflines by hand, and what libtpu says beside what `topologies` says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vsumjax.tpu import topologies

pytest.importorskip("libtpu", reason="libtpu is not installed")
WITHIN = 0.25


@pytest.fixture(scope="module")
def predicted():
  """Seconds of small programs: {"matmul v5e:2x2": {"seconds", "core_s", "waited_s"}, ...}."""
  script = Path(__file__).parent / "compiled_programs.py"
  # The suite's own choices slow down what is compiled, or are no flags of libtpu's.
  dropped = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
  environment = {name: value for name, value in os.environ.items() if name not in dropped}
  environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
  done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("topology", ["v4:2x2x2", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_a_product_takes_its_flops_at_the_peak(predicted, topology):
  roofline = 2 * 4096**3 / topologies.parse(topology).chip.peak_flops
  assert predicted[f"matmul {topology}"]["core_s"] == pytest.approx(roofline, rel=WITHIN)


def test_attention_takes_its_flops_at_the_peak(predicted):
  roofline = 4 * 64 * 1024**2 * 256 / topologies.CHIPS["v5e"].peak_flops
  assert predicted["attention"]["seconds"] == pytest.approx(roofline, rel=WITHIN)


def gathered_s(num_bytes):
  """What 16 chips of v5e take: 15 of 16 bytes come in, over one link of each of two axes."""
  return num_bytes * 15 / 16 / (2 * 4.5e10)


def test_an_all_gather_takes_what_comes_in_over_the_links(predicted):
  assert predicted["all-gather"]["waited_s"] == pytest.approx(gathered_s(8192**2 * 2), rel=WITHIN)


def test_a_reduce_scatter_in_permutes_takes_as_long(predicted):
  roofline = gathered_s(8192**2 * 2)
  assert predicted["reduce-scatter"]["waited_s"] == pytest.approx(roofline, rel=WITHIN)


def test_the_compilers_own_reduce_scatter_is_an_all_reduce(predicted):
  """Which is why `ring_reduce_scatter` is written."""
  roofline = 2 * gathered_s(8192**2 * 2)
  assert predicted["psum_scatter"]["waited_s"] == pytest.approx(roofline, rel=WITHIN)


def test_an_fsdp_layer_takes_its_products_and_what_nothing_hides(predicted):
  """Two products; nothing runs beside the gather before them and the ring behind them."""
  products = 2 * 2 * 8192 * 4096 * 16384 / topologies.CHIPS["v5e"].peak_flops
  links = 2 * gathered_s(4096 * 16384 * 2)
  found = predicted["fsdp layer"]
  assert found["seconds"] == pytest.approx(products + links, rel=WITHIN)
