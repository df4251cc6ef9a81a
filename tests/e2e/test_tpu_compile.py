"""The stages of the paper compile for a real TPU topology, with a plan of their memory, on a CPU.

It needs libtpu (`pip install '.[tpu]'`), and minutes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("libtpu")
ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from vsumjax import sharding
from vsumjax.experiment import run
from vsumjax.experiment.config import load_config
from vsumjax.experiment.experiment import build_experiment
from vsumjax.training import optimizer, step

name, tokenizer, topology = sys.argv[1:]
config = load_config(f"configs/deevisum/{name}.py", {"tokenizer": tokenizer})
devices = topologies.get_topology_desc(topology, "tpu").devices
experiment = build_experiment(config, devices)
tx = optimizer.build_optimizer(config.optimizer, config.train.num_steps)
abstract, _ = run._wire_state(experiment, tx)
shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
batch = sharding.batch_sharding(experiment.mesh, experiment.rules)
made = step.make_train_step(experiment.task.learner, tx, num_steps=config.train.num_steps)
replicated = NamedSharding(experiment.mesh, PartitionSpec())
jitted = jax.jit(
  made,
  in_shardings=(shardings, batch),
  out_shardings=(shardings, replicated),
  donate_argnums=0,
)
with sharding.use_mesh(experiment.mesh, experiment.rules):
  lowered = jitted.lower(abstract, experiment.task.batch_spec(config.train.batch_size))
memory = lowered.compile().memory_analysis()
fields = ("argument_size_in_bytes", "temp_size_in_bytes", "alias_size_in_bytes")
print(json.dumps({field: getattr(memory, field) for field in fields}))
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", ["student_3b", "mentor_10b", "teacher_28b"])
def test_a_step_fits_a_v5e_slice_of_16_chips(stage, corpus):
  command = [sys.executable, "-c", SCRIPT, stage, corpus / "tokenizer.model", "v5e:4x4"]
  done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  memory = json.loads(done.stdout.splitlines()[-1])
  needed = memory["argument_size_in_bytes"] + memory["temp_size_in_bytes"]
  print(f"{stage}: {needed / 1e9:.2f} GB a chip")
  assert 0.1e9 < needed < 16e9  # of a v5e chip
