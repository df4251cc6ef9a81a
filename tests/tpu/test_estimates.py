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
CHIPS = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
V5E = topologies.CHIPS["v5e"]
BIG = 8192**2 * 2  # bytes of what the collectives move
LAYER = 2 * 8192 * 4096 * 16384  # FLOPs of a product of the layers, on one device
WEIGHT = 4096 * 16384 * 2  # its bytes


@pytest.fixture(scope="module")
def predicted():
  """`Prediction`s of small programs as dicts, by name; see compiled_programs.py."""
  script = Path(__file__).parent / "compiled_programs.py"
  # The suite's own choices slow down what is compiled, or are no flags of libtpu's.
  dropped = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
  environment = {name: value for name, value in os.environ.items() if name not in dropped}
  environment |= {"JAX_PLATFORMS": "cpu"}
  root = str(Path(__file__).parents[2])
  environment["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
  done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("topology", CHIPS)
def test_a_product_takes_its_flops_at_the_peak(predicted, topology):
  found = predicted[f"matmul {topology}"]
  roofline = 2 * 4096**3 / topologies.parse(topology).chip.peak_flops
  assert found["core_s"] == pytest.approx(roofline, rel=WITHIN)
  assert found["flops"] == 2 * 4096**3


@pytest.mark.parametrize("topology", CHIPS)
def test_memory_is_what_the_compiler_has(predicted, topology):
  """Releases of libtpu differ by some megabytes."""
  told = predicted[f"HBM {topology}"]
  assert topologies.parse(topology).chip.hbm_bytes == pytest.approx(told, rel=1e-3)


def test_attention_takes_its_flops_at_the_peak(predicted):
  needed = 4 * 64 * 1024**2 * 256
  found = predicted["attention"]
  assert found["flops"] == needed
  assert found["predicted_s"] == pytest.approx(needed / V5E.peak_flops, rel=WITHIN)


def test_elementwise_work_lies_between_the_bandwidth_and_the_compilers_estimate(predicted):
  """Which is about three times as much for a sum of bf16: why there is a floor."""
  roofline = 3 * 16384 * 8192 * 2 / V5E.hbm_bandwidth
  found = predicted["sum"]
  assert found["floor_s"] == pytest.approx(roofline, rel=0.01)
  assert 2 * roofline < found["predicted_s"] < 4 * roofline


def test_a_sort_is_named_as_not_estimated(predicted):
  assert predicted["sort"]["assumed"] == {"sort: its bytes in HBM, once": 1}


def gathered_s(num_bytes):
  """What 16 chips of v5e take: 15 of 16 bytes come in, over one link of each of two axes."""
  return num_bytes * 15 / 16 / (2 * V5E.link_bandwidth)


@pytest.mark.parametrize(
  ("name", "roofline"),
  [
    ("all-gather", gathered_s(BIG)),
    # Eight chips send a sixteenth to each of eight over four links in the middle.
    ("exchange", BIG / V5E.link_bandwidth),
    # The compiler makes an all-reduce of it, which is why `exchange_reduce_scatter` is written.
    ("psum_scatter", 2 * gathered_s(BIG)),
    # On four chips it does not.
    ("reduce-scatter", BIG * 3 / 4 / (2 * V5E.link_bandwidth)),
    # Eight chips exchange a sixteenth with each of eight over four links in the middle.
    ("all-to-all", BIG / 16 / V5E.link_bandwidth),
    # Half of what a device gathers comes from the other slice, by its part of the network.
    ("between slices", BIG / 16 / 2 / V5E.dcn_bandwidth + gathered_s(BIG)),
  ],
)
def test_a_collective_alone_takes_its_bytes_over_the_links(predicted, name, roofline):
  assert predicted[name]["exposed_collective_s"] == pytest.approx(roofline, rel=WITHIN)


def test_only_four_chips_scatter_a_sum(predicted):
  assert "all-reduce" in predicted["psum_scatter"]["collective_bytes"]
  assert "reduce-scatter" in predicted["reduce-scatter"]["collective_bytes"]


def test_an_fsdp_layer_takes_its_products_and_what_nothing_hides(predicted):
  """Two products; nothing runs beside the gather before them and the exchange behind them."""
  products = 2 * LAYER / V5E.peak_flops
  found = predicted["fsdp layer"]
  assert found["predicted_s"] == pytest.approx(
    products + gathered_s(WEIGHT) + WEIGHT / V5E.link_bandwidth, rel=WITHIN
  )


def test_a_gradient_takes_its_products_a_gather_and_an_all_reduce(predicted):
  """Left to the compiler: it gathers the weight and sums the gradient on every device."""
  products = 2 * LAYER / V5E.peak_flops
  found = predicted["gradient"]
  assert (found["flops"], found["loops"]) == (2 * LAYER, 0)
  assert found["predicted_s"] == pytest.approx(products + 3 * gathered_s(WEIGHT), rel=WITHIN)


def test_loops_over_parts_of_products_run_as_often_as_the_flops_say(predicted):
  """Their conditions compare with twice as much as they take turns."""
  found = predicted["gradient in loops"]
  assert found["loops"] > 0
  assert found["flops"] == 2 * LAYER
