"""Eight CPU devices, executed shape annotations, no silent rank promotion; a tiny trained model."""

import dataclasses
import fcntl
import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook


def _xla_takes(flags):
  """Whether the installed XLA knows these flags. It ends a process that gives it another one."""
  environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-c", "import jax; jax.devices()"]
  return subprocess.run(command, env=environment, capture_output=True).returncode == 0


# How long one example takes says more of the machine than of the code.
hypothesis.settings.register_profile("vsumjax", deadline=None)
hypothesis.settings.load_profile("vsumjax")
# Most of the suite's time is XLA's; for the scripts that tests start, too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Where libtpu is installed, scripts would look for a TPU, and say that there is none.
os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_disable_most_optimizations", True)
# Together they compile in a quarter of the time what runs once. JAX 0.12 knows the first no more,
# and without it the second makes compiling slower. Workers and scripts inherit them.
_QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=4"
_XLA_FLAGS = os.environ.get("XLA_FLAGS", "")
if _QUICK not in _XLA_FLAGS and _xla_takes(f"{_XLA_FLAGS} {_QUICK}"):
  os.environ["XLA_FLAGS"] = f"{_XLA_FLAGS} {_QUICK}"
# Set for all workers, and removed in the end, by the process that set it.
_OWN_CACHE = "" if os.environ.get("JAX_COMPILATION_CACHE_DIR") else tempfile.mkdtemp(prefix="xla-")
if _OWN_CACHE:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _OWN_CACHE
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
# A job in a shell's background ignores Ctrl-C, and so would the scripts that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
install_import_hook(["vsumjax.ops", "vsumjax.models"], "beartype.beartype")
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from vsumjax import cli, sharding, testing  # noqa: E402  (after the hook)
from vsumjax.data import prompt, tokenizer  # noqa: E402
from vsumjax.data.made import corpora  # noqa: E402
from vsumjax.experiment import config  # noqa: E402
from vsumjax.jobs.train import train  # noqa: E402
from vsumjax.media import audio  # noqa: E402
from vsumjax.summary import scores  # noqa: E402
from vsumjax.types import SegmentScores  # noqa: E402

CORPUS = corpora.CorpusConfig(
  seed=1, num_train=3, num_validation=1, num_test=2, num_annotators=3, min_s=8, max_s=12, height=32,
  width=48, fps=5,
)  # fmt: skip


CLIPS = Path(__file__).parents[2] / "shared" / "data" / "clips"


def pytest_collection_finish():
  """What was imported stays: the garbage collector need not look at it again and again."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 50)


def pytest_unconfigure():
  if _OWN_CACHE:
    shutil.rmtree(_OWN_CACHE)


@pytest.fixture
def clips():
  """The folder of real clips."""
  if not CLIPS.is_dir():
    pytest.skip("the real clips of ../shared/data/clips are not here")
  return CLIPS


@pytest.fixture
def one_device():
  """Within it, `constrain` acts on a mesh of one device."""
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])) as mesh:
    yield mesh


@pytest.fixture(scope="session")
def once(tmp_path_factory):
  """`once(name, make)`: a folder that `make(folder)` fills, once for all workers; don't change."""
  root = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    root = root.parent  # of the folders of all workers

  def fill(name, make):
    folder, made = root / f"once-{name}", root / f"once-{name}.made"
    with (root / f"once-{name}.lock").open("w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not made.exists():
        folder.mkdir()
        make(folder)
        made.touch()
    return folder

  return fill


@pytest.fixture(scope="session")
def corpus(once):
  """A folder with manifest.jsonl, six short videos in media/ and tokenizer.model; don't change."""

  def make(root):
    corpora.make_corpus(root, CORPUS)
    texts = [prompt.TEMPLATE, *audio.PHRASES, "the quick farmer smashes a golden record"]
    tokenizer.train_tokenizer(texts, root / "tokenizer.model", vocab_size=360, num_markers=4)

  return once("corpus", make)


@pytest.fixture(scope="session")
def config_values(corpus):
  """`config_values(**changes)`: a tiny config as nested dicts; keys as "train.seed"."""

  def build(**changes):
    values = {
      "tokenizer": str(corpus / "tokenizer.model"),
      "model": dataclasses.asdict(testing.tiny_config()),
      "prompt": {
        "window": 2,
        "segment_s": 2.0,
        "frames_per_segment": 1,
        "tokens_per_frame": 4,
        "image_size": 16,
        "text_tokens": 64,
        "title_tokens": 8,
        "score_tokens": ("1", "2", "3", "4", "5"),
      },
      "data": {"sets": ({"manifest": str(corpus / "manifest.jsonl")},), "num_threads": 2},
      "train": {
        "num_steps": 6,
        "batch_size": 8,
        "seed": 0,
        "checkpoint_every": 4,  # so that a run can go on from a step before its last
        "eval_every": 3,
        "log_every": 1,
      },
      "optimizer": {
        "learning_rate": 3e-3,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "clip_norm": 1.0,
      },
      "objective": {"ce_weight": 1.0, "exit_weights": (1.0, 0.5, 2.0), "teachers": ()},
    }
    values["model"]["llm"]["vocab_size"] = 512
    for key, value in changes.items():
      *groups, name = key.split(".")
      group = values
      for part in groups:
        group = group.setdefault(part, {})
      group[name] = value
    return values

  return build


@pytest.fixture(scope="session")
def make_config(config_values):
  """`make_config(**{"train.seed": 3})`: the tiny ExperimentConfig, changed."""
  return lambda **changes: config.build_config(config_values(**changes))


@pytest.fixture(scope="session")
def trained(make_config, once):
  """The finished workdir of a tiny model; don't change it."""
  return once("trained", lambda root: train(make_config(), root / "teacher")) / "teacher"


@pytest.fixture(scope="session")
def write_config():
  """`write_config(path, values)`: a config file whose get_config returns these values."""

  def write(path, values):
    path.write_text(
      "import json\nfrom ml_collections import ConfigDict\n"
      f"def get_config():\n  return ConfigDict(json.loads({json.dumps(values)!r}))\n"
    )
    return path

  return write


@pytest.fixture(scope="session")
def write_small_demo():
  """`write_small_demo(path, *lines)`: configs/demo.py, its `config` changed by lines of Python."""
  demo = Path(__file__).parents[1] / "configs" / "demo.py"

  def write(path, *lines):
    path.write_text(
      f"""
import runpy, sys
sys.path.append({str(demo.parents[1])!r})
demo = runpy.run_path({str(demo)!r})

def get_config(arg):
  config = demo["get_config"](arg)
  {"; ".join(lines)}
  return config

def get_chain(arg):
  chain = demo["get_chain"](arg)
  for stage in chain.stages:
    stage["config"] = stage["config"].replace({str(demo)!r}, {str(path)!r})
  return chain
"""
    )
    return path

  return write


@pytest.fixture
def make_summary():
  """Four segments of 2 s and one of 3.5 s, the second and the last two chosen, or as changed."""

  def build(**changes):
    fields = {
      "media": "talk.mp4",
      "title": "A talk",
      "duration_s": 11.5,
      "share": 0.7,
      "scores": SegmentScores(
        np.array([1.5, 4.31, 2.0, 3.0, 4.9], np.float32),
        np.array([0, 1, 2, 0, 1], np.int32),
        np.array([[0, 2], [2, 4], [4, 6], [6, 8], [8, 11.5]], np.float64),
      ),
      "selected_N": np.array([False, True, False, True, True]),
      "said": ("", "good morning", "", "so", "thank you"),
      "heard": ("silence", "loud tone", "silence", "quiet noise", "silence"),
      "model": {"parameters_digest": "9f0c"},
    }
    return scores.Summary(**{**fields, **changes})

  return build


@pytest.fixture
def run_cli(capfd):
  """`run_cli("train", "--config", ...)` -> (exit status, standard output, standard error)."""

  def run(*argv):
    capfd.readouterr()
    try:
      with warnings.catch_warnings():
        status = cli.main([str(arg) for arg in argv])
    finally:
      logging.disable(logging.NOTSET)
    return (status, *capfd.readouterr())

  return run
