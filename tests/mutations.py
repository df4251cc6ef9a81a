"""Deliberate faults, each of which a named test must catch: `make mutations`.

A suite that passes says little unless it fails where the code is wrong. Each mutation below is one
plausible fault in what matters: what attention sees, what a loss sums up, which example comes next,
what is refused. It is made in a copy of the tree, and the named test must then fail; on the copy as
it was, it must pass. Where code moves, `file` and `old` move with it (tests/test_mutations.py tells
which); a mutation goes only where its code goes.

The exit status is 1 if any is not caught.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
_COPIED = ("vsumjax", "tests", "configs", "launch", "pyproject.toml")
_PASSED, _FAILED = 0, 1  # exit statuses of pytest; others tell that it could not run a test


@dataclasses.dataclass(frozen=True)
class Mutation:
  """One fault.

  Attributes:
    name: what is wrong.
    file: where, under the root.
    old: what stands there; it must be there exactly once.
    new: what takes its place.
    test: node id of the test that must fail; of a parametrised one, any of its cases.
  """

  name: str
  file: str
  old: str
  new: str
  test: str


MUTATIONS = (
  Mutation(
    "causality: a query sees later blocks, not earlier ones",
    "vsumjax/ops/attention.py",
    "block_BT[:, None, :] <= block_BT[:, :, None]",
    "block_BT[:, None, :] >= block_BT[:, :, None]",
    "tests/ops/test_attention.py::test_mask_ar_makes_blocks",
  ),
  Mutation(
    "the sliding window acts on odd layers",
    "vsumjax/models/gemma.py",
    "index_L % 2 == 0",
    "index_L % 2 == 1",
    "tests/models/test_student.py"
    "::test_the_sliding_window_acts_on_even_layers_and_behind_the_prefix_only",
  ),
  Mutation(
    "forward KL is the reverse one",
    "vsumjax/ops/losses.py",
    "divergence = _kl(logp, logq)",
    "divergence = _kl(logq, logp)",
    "tests/ops/test_losses.py::test_kl_equals_reference",
  ),
  Mutation(
    "KL from draws grows with T, not with its square",
    "vsumjax/ops/vocab_losses.py",
    "temperature**2 * (cross_entropy - targets.entropy)",
    "temperature * (cross_entropy - targets.entropy)",
    "tests/ops/test_vocab_losses.py::test_values_equal_those_of_the_reference",
  ),
  Mutation(
    "logsumexp over chunks: the sum so far is not rescaled to the new maximum",
    "vsumjax/ops/vocab_head.py",
    "self.sum * jnp.exp(self.max - highest) + added",
    "self.sum + added",
    "tests/ops/test_vocab_head.py::test_logits_and_logsumexp",
  ),
  Mutation(
    "padding counts in the weight that a loss is divided by",
    "vsumjax/ops/losses.py",
    "value * weight, 0.0)), jnp.sum(weight)",
    "value * weight, 0.0)), jnp.sum(jnp.ones_like(weight))",
    "tests/ops/test_losses.py::test_cross_entropy_equals_reference",
  ),
  Mutation(
    "a pattern of parameters to freeze counts as their beginning",
    "vsumjax/training/partition.py",
    'any(re.fullmatch(pattern, "/".join(path)) for pattern in freeze)',
    'any(re.match(pattern, "/".join(path)) for pattern in freeze)',
    "tests/training/test_partition.py::test_every_leaf_is_in_one_part",
  ),
  Mutation(
    "every epoch has the order of the first",
    "vsumjax/data/order.py",
    "key_G = _mix(epoch_G + np.uint64(self._seed_key))",
    "key_G = _mix(0 * epoch_G + np.uint64(self._seed_key))",
    "tests/data/test_order.py::test_epochs_and_seeds_differ",
  ),
  Mutation(
    "segments are read one token behind their markers",
    "vsumjax/data/prompt.py",
    "dtype=np.int32) * stride - 1",
    "dtype=np.int32) * stride",
    "tests/data/test_prompt.py::test_a_longer_window_is_read_at_its_markers",
  ),
  Mutation(
    "the digest of a shard of a teacher cache is not compared",
    "vsumjax/data/teacher_cache/reader.py",
    "if found != digest:",
    "if len(found) != len(digest):",
    "tests/data/teacher_cache/test_teacher_cache.py::test_a_flipped_bit_is_named",
  ),
  Mutation(
    "of equally good summaries the knapsack takes the later one",
    "vsumjax/ops/knapsack.py",
    "is_better = with_item > best_R[first:]",
    "is_better = with_item >= best_R[first:]",
    "tests/evaluation/test_protocols.py::test_equal_segments_are_taken_from_the_start",
  ),
  Mutation(
    "times of frames count from the container's clock, not from the beginning of the file",
    "vsumjax/media/video.py",
    "if frame.time is None else frame.time - zero_s",
    "if frame.time is None else frame.time",
    "tests/media/test_seeking.py::test_times_of_frames_are_those_of_their_packets",
  ),
  Mutation(
    "a constraint on an activation's sharding does nothing",
    "vsumjax/sharding.py",
    "return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec_for(names, rules)))",
    "return x",
    "tests/test_sharding.py::test_constrain_is_in_the_jaxpr_and_acts",
  ),
  Mutation(
    "an exchange sums in bfloat16",
    "vsumjax/ops/collectives.py",
    "received.astype(jnp.float32).sum(axis=0)",
    "received.sum(axis=0).astype(jnp.float32)",
    "tests/ops/test_collectives.py::test_an_exchange_sums_bfloat16_in_float32",
  ),
  Mutation(
    "unlabelled segments take from what a label weighs",
    "vsumjax/tasks/score/objective.py",
    "scale = per_label if term.of_labels else 1.0",
    "scale = 1.0",
    "tests/tasks/score/test_objective.py"
    "::test_unlabelled_rows_leave_alone_what_a_labelled_one_weighs",
  ),
  Mutation(
    "the predicted time counts a loop once",
    "vsumjax/tpu/simulate.py",
    "self._turn(i, scale * (count - 1))",
    "self._turn(i, scale)",
    "tests/tpu/test_predict.py::test_a_loop_takes_its_body_as_often_as_it_runs",
  ),
)


def mutated(mutation: Mutation, text: str) -> str:
  """The text of the file with the fault in it; ValueError where `old` is not there once."""
  if (count := text.count(mutation.old)) != 1:
    raise ValueError(f"{mutation.file}: {mutation.old!r} is there {count} times, not once")
  return text.replace(mutation.old, mutation.new)


def copy_tree(to: Path) -> None:
  """Copies what tests need, so that no fault ever touches the tree itself."""
  for name in _COPIED:
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
      shutil.copy(ROOT / name, to / name)


@contextlib.contextmanager
def applied(mutation: Mutation, tree: Path) -> Iterator[None]:
  """Within it, the copy has the fault."""
  path = tree / mutation.file
  text = path.read_text()
  path.write_text(mutated(mutation, text))
  try:
    yield
  finally:
    path.write_text(text)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
  """Exit status and output of pytest in a tree. Compiled programs are kept from run to run."""
  environment = os.environ | {
    "PYTHONPATH": str(tree),
    "JAX_COMPILATION_CACHE_DIR": str(tree / "compiled"),
    # Two versions of a file may have the same size and, to the second, the same age.
    "PYTHONDONTWRITEBYTECODE": "1",
  }
  command = [sys.executable, "-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", "-x"]
  done = subprocess.run(
    [*command, *tests], cwd=tree, env=environment, capture_output=True, text=True, check=False
  )
  return done.returncode, done.stdout + done.stderr


def require(status: int, allowed: Sequence[int], output: str, what: str) -> None:
  """Ends the program, with pytest's output, where its exit status is not one of those allowed."""
  if status not in allowed:
    sys.exit(f"{output}\n{what}: pytest ended with status {status}")


def is_caught(mutation: Mutation, tree: Path) -> bool:
  with applied(mutation, tree):
    status, output = run_tests(tree, [mutation.test])
  require(status, (_PASSED, _FAILED), output, mutation.name)
  return status == _FAILED


def main() -> int:
  for mutation in MUTATIONS:
    mutated(mutation, (ROOT / mutation.file).read_text())
  num_caught = 0
  with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
    tree = Path(folder)
    copy_tree(tree)
    print(f"{len(MUTATIONS)} tests on the tree as it is ...", flush=True)
    status, output = run_tests(tree, [mutation.test for mutation in MUTATIONS])
    require(status, (_PASSED,), output, "without any mutation")
    for number, mutation in enumerate(MUTATIONS, 1):
      start_s = time.monotonic()
      caught = is_caught(mutation, tree)
      num_caught += caught
      print(f"{number:2}/{len(MUTATIONS)}  {mutation.name}  ({mutation.file})")
      verdict = "caught by" if caught else "NOT CAUGHT by"
      took_s = time.monotonic() - start_s
      print(f"       {verdict} {mutation.test}  {took_s:.0f} s", flush=True)
  print(f"{num_caught} of {len(MUTATIONS)} mutations caught")
  return int(num_caught < len(MUTATIONS))


if __name__ == "__main__":
  sys.exit(main())
