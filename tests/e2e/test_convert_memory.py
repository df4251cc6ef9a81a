"""A checkpoint of more than 4 GB in shards converts in the memory of its largest leaf."""

import dataclasses
import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vsumjax.convert import formats, tensors, weights
from vsumjax.convert.tensors import LazyTensor
from vsumjax.convert.weights import Facts, Weights
from vsumjax.models import families

ROOT = Path(__file__).parents[2]
_MIN_BYTES = 4 * 10**9


def _config():
  """The vision tower and vocabulary of PaliGemma 2, and a decoder of 40 narrow layers."""
  config = families.paligemma("paligemma2_3b_224")
  shape = {"width": 1024, "depth": 40, "mlp_dim": 4096, "num_heads": 16, "num_kv_heads": 8}
  llm = dataclasses.replace(config.llm, **shape, head_size=128, query_scale=128.0)
  exits = dataclasses.replace(config.exits, layers=(llm.depth,))
  return dataclasses.replace(config, llm=llm, exits=exits)


def _pattern(name, shape):
  """A tensor of no file, each of its rows another stretch of the same noise."""
  noise = np.random.default_rng(0).normal(0, 0.02, 1_000_003).astype(np.float32)
  start = int(hashlib.blake2b(name.encode(), digest_size=4).hexdigest(), 16)

  def read(region):
    rows, *inner = tensors.full(region, shape)
    array = np.stack(
      [
        np.resize(np.roll(noise, -(start + 7919 * row)), shape[1:])
        for row in range(*rows.indices(shape[0]))
      ]
    )
    return array[(slice(None), *inner)]

  return LazyTensor(name, shape, np.dtype(np.float32), "pattern", read, 1)


def _make(path):
  config = _config()
  leaves = {name: _pattern(name, shape) for name, shape in weights.leaf_shapes(config, 1).items()}
  # A row of the embedding is short: its noise is drawn whole.
  name = "llm/embedder/input_embedding"
  flat = _pattern(name, (64, leaves[name].size // 64))
  leaves[name] = tensors.mapped(flat, lambda a: a.reshape(leaves[name].shape), leaves[name].shape)
  facts = Facts(image_token_id=families.VOCAB_SIZE)
  source = weights.check(Weights(config, leaves, facts, {}, "pattern"))
  formats.write_weights(path, formats.HUGGINGFACE, source, 10**9, lambda count: None)
  return source


# The kernel's own peak of the process, and not `ru_maxrss`: that starts from the parent's memory.
_RUN = """
import sys
from pathlib import Path
from vsumjax import cli
status = cli.main(sys.argv[1:])
(line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:")]
print("peak", int(line.split()[1]) * 1024)
sys.exit(status)
"""


def _convert(source, target, kind):
  """Converts in a process of its own; (its peak resident bytes, seconds)."""
  command = [sys.executable, "-c", _RUN, "convert", "--from", source, "--to", target]
  command += ["--format", kind, "--max-shard-bytes", 10**9, "--no-check"]
  started = time.monotonic()
  result = subprocess.run(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert result.returncode == 0
  return int(result.stdout.split("peak ")[1]), time.monotonic() - started


def _digests(folder):
  found = {}
  for name, tensor in formats.open_weights(folder).tensors.items():
    digest = hashlib.blake2b()
    for region in tensors.blocks(tensor):
      digest.update(np.ascontiguousarray(tensor.read(region)).data)
    found[name] = digest.digest()
  return found


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.timeout(1800)
def test_peak_memory(tmp_path, capsys):
  source = _make(tmp_path / "hf")
  files = list((tmp_path / "hf").glob("model-*.safetensors"))
  assert len(files) > 1
  assert sum(file.stat().st_size for file in files) >= _MIN_BYTES
  largest = max(tensor.nbytes for tensor in source.tensors.values())
  limit = 1.5 * largest + 2**30
  assert limit < source.num_bytes
  for start, end, kind in (("hf", "ours", formats.NATIVE), ("ours", "back", formats.HUGGINGFACE)):
    peak, seconds = _convert(tmp_path / start, tmp_path / end, kind)
    with capsys.disabled():
      print(
        f"\n{start} -> {end}: {source.num_bytes / 1e9:.2f} GB, largest leaf "
        f"{largest / 1e9:.2f} GB, "
        f"peak {peak / 1e9:.2f} GB of {limit / 1e9:.2f} GB allowed, {seconds:.0f} s"
      )
    assert peak <= limit
  assert _digests(tmp_path / "hf") == _digests(tmp_path / "back")
