"""The student on one GPU: attention beside cuDNN's, train step and scoring at full size.

Beside it, on demand, the train step of big_vision's PaliGemma.

It needs neither data nor weights, and runs at tiny size on a CPU, where only its mechanics say
anything.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

from vsumjax import sharding
from vsumjax.benchmarks import big_vision_step
from vsumjax.models import exits, families, student
from vsumjax.ops import attention
from vsumjax.sharding import LogicalRules, MeshConfig
from vsumjax.tasks.score.learner import ScoreLearner
from vsumjax.tasks.score.objective import ObjectiveConfig
from vsumjax.tpu import flops
from vsumjax.training import optimizer, state, step
from vsumjax.types import Batch

_WARM_UP = 2
_OPTIMIZER = optimizer.OptimizerConfig(1e-4, 0.0, 0.01, 1.0, schedule="constant")


@dataclasses.dataclass(frozen=True)
class Sizes:
  """config: of the model. rows: of a batch. text_tokens: of a row, beside one image's."""

  config: student.StudentConfig
  rows: int
  text_tokens: int = 256
  matrix: int = 8192

  @property
  def tokens(self) -> int:
    return self.config.img.num_patches + self.text_tokens


def full_size(rows: int, *, remat: bool) -> Sizes:
  """PaliGemma 2 3B at 224 px, as `configs/tpu/student_3b.py` has it, without early exits."""
  config = families.paligemma("paligemma2_3b_224")
  depth = config.llm.depth
  changes = {"dtype": "bfloat16", "remat": remat, "exits": exits.ExitsConfig((depth,))}
  return Sizes(dataclasses.replace(config, **changes), rows)


def benchmark_gpu(
  sizes: Sizes, *, rounds: int = 5, out: Path | None = None, source: Path | None = None
) -> dict[str, Any]:
  """Measures, prints a table and writes `out`; times are medians of `rounds`, after warming up.

  Args:
    source: a checkout of big_vision, whose train step is to be timed, too.

  Raises:
    InputError: `source` is no checkout.
  """
  if source:
    big_vision_step.require_checkout(source)
  say = _progress()
  say("the peak of a matrix product")
  peak = _peak_flops(sizes.matrix, rounds)
  say("attention")
  report = {
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
    "rows": sizes.rows,
    "tokens": sizes.tokens,
    "remat": sizes.config.remat,
    "peak_flops": peak,
    "attention": _attention(sizes, rounds),
  }
  mesh = sharding.build_mesh(MeshConfig(), jax.devices()[:1])
  with sharding.use_mesh(mesh, LogicalRules()):
    say("parameters and the train step")
    report |= _steps(sizes, mesh, rounds, peak, say)
  if source:
    say("compiling and timing the train step of big_vision")
    report["big_vision"] = {
      dtype: _big_vision_step(sizes, source, dtype, rounds, peak)
      for dtype in ("float32", "bfloat16")
    }
  if out:
    out.write_text(json.dumps(report, indent=1))
  _print(report)
  return report


def _progress() -> Callable[[str], None]:
  """Prints what is measured next, with the seconds since the start."""
  started = time.monotonic()
  return lambda what: print(f"{time.monotonic() - started:5.0f} s  {what}", file=sys.stderr)


def _median_s(function: Callable[[], Any], rounds: int) -> float:
  """Seconds of a call, its result waited for."""
  for _ in range(_WARM_UP):
    jax.block_until_ready(function())
  times = []
  for _ in range(rounds):
    started = time.perf_counter()
    jax.block_until_ready(function())
    times.append(time.perf_counter() - started)
  return statistics.median(times)


def _peak_flops(n: int, rounds: int) -> float:
  """FLOP/s of a bf16 product of n x n matrices, ten in a row."""
  x = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)

  @jax.jit
  def ten(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 10, lambda _, y: (y @ x) * (1 / n), x)

  return 10 * 2 * n**3 / _median_s(lambda: ten(x), rounds)


def _attention(sizes: Sizes, rounds: int) -> dict[str, dict[str, float]]:
  """Forward and backward of both towers' attention in bf16: error against float32, and seconds."""
  img, llm = sizes.config.img, sizes.config.llm
  towers = {
    "vision": (img.num_patches, img.num_heads, img.num_heads, img.width // img.num_heads, 0.0),
    "decoder": (sizes.tokens, llm.num_heads, llm.num_kv_heads, llm.head_size, llm.attention_cap),
  }
  found = {}
  for name, (T, H, K, S, cap) in towers.items():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(sizes.rows, T, heads, S) for heads in (H, K, K, H)]
    q, k, v, dout = (
      jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)
    )
    q *= S**-0.5
    kernels = {"xla": lambda q, k, v, cap=cap: attention.attend(q, k, v, cap=cap)}
    if not cap and jax.default_backend() == "gpu":
      kernels["cudnn"] = _cudnn
    exact = _value_and_gradients(kernels["xla"], *(x.astype(jnp.float32) for x in (q, k, v, dout)))
    for kernel, function in kernels.items():
      run = jax.jit(lambda q, k, v, dout, f=function: _value_and_gradients(f, q, k, v, dout))
      got = run(q, k, v, dout)
      error = max(_relative_error(a, b) for a, b in zip(got, exact, strict=True))
      seconds = _median_s(lambda run=run, args=(q, k, v, dout): run(*args), rounds)
      found[f"{name}, {kernel}"] = {"relative_error": error, "ms": seconds * 1e3}
  return found


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  return jax.nn.dot_product_attention(q, k, v, scale=1.0, implementation="cudnn")


def _value_and_gradients(
  function: Callable[..., jax.Array], q: jax.Array, k: jax.Array, v: jax.Array, dout: jax.Array
) -> tuple[jax.Array, ...]:
  out, pull = jax.vjp(function, q, k, v)
  return out, *pull(dout)


def _relative_error(got: jax.Array, want: jax.Array) -> float:
  """Norm of the difference over the norm."""
  difference = jnp.linalg.norm((got.astype(jnp.float32) - want).ravel())
  return float(difference / jnp.linalg.norm(want.ravel()))


def _steps(
  sizes: Sizes, mesh: Any, rounds: int, peak: float, say: Callable[[str], None]
) -> dict[str, Any]:
  """Seconds, MFU of the measured peak and segments a second, of a train step and of scoring."""
  batch = _batch(sizes)
  model = student.VideoSummaryStudent(
    sizes.config, sizes.config.img.num_patches, sizes.config.llm.vocab_size, tuple(range(5, 10))
  )
  learner = ScoreLearner(model, ObjectiveConfig(1.0, (1.0,), ()))
  tx = optimizer.build_optimizer(_OPTIMIZER, 100)
  place = NamedSharding(mesh, PartitionSpec())
  init = jax.jit(
    lambda: sharding.unbox(state.init_state(learner, tx, _spec(batch), 0)), out_shardings=place
  )
  current = init()
  shapes = {path: leaf.shape for path, leaf in sharding.by_path(current.params).items()}
  needed = flops.Sizes(sizes.rows, sizes.tokens, sizes.rows, sizes.config.img.num_patches, 1)
  found = {"parameters": sum(leaf.size for leaf in jax.tree.leaves(current.params))}

  say("compiling and timing the train step")
  train = jax.jit(step.make_train_step(learner, tx, num_steps=100), donate_argnums=0)

  def one_step() -> Any:
    nonlocal current
    current, metrics = train(current, batch)
    return metrics

  seconds = _median_s(one_step, rounds)
  used = flops.train_flops(sizes.config, needed, shapes, frozenset(shapes))
  found["train"] = _speed(seconds, used, peak, sizes.rows)
  found["train"]["loss"] = float(np.divide(*map(float, one_step()["loss"])))

  say("compiling and timing scoring")
  params = current.params
  current = current.replace(opt_state=None)
  score = jax.jit(lambda params, batch: model.apply({"params": params}, batch).logits)
  seconds = _median_s(lambda: score(params, batch), rounds)
  used = flops.forward_flops(sizes.config, needed, shapes)
  found["score"] = _speed(seconds, used, peak, sizes.rows)
  return found


def _big_vision_step(
  sizes: Sizes, source: Path, dtype: str, rounds: int, peak: float
) -> dict[str, float] | None:
  """Its own loss, whose FLOPs have a vocabulary that ours has not; None without enough memory."""
  theirs = big_vision_step.build(
    sizes.config, sizes.rows, sizes.text_tokens, source=source, dtype=dtype
  )
  with jax.set_mesh(big_vision_step.build_mesh(theirs, jax.devices()[:1])):
    try:
      current = jax.jit(theirs.init)(jax.random.key(0))
      batch = jax.device_put(theirs.random_batch())
      update = jax.jit(theirs.update, donate_argnums=0)

      def one_step() -> Any:
        nonlocal current
        current, loss = update(current, batch)
        return loss

      seconds = _median_s(one_step, rounds)
      loss = float(one_step())
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      return None
  used = big_vision_step.model_flops(theirs, vocabulary=True)
  return _speed(seconds, used, peak, sizes.rows) | {"loss": loss}


def _speed(seconds: float, used: float, peak: float, rows: int) -> dict[str, float]:
  return {
    "ms": seconds * 1e3,
    "tflops": used / seconds / 1e12,
    "mfu_of_measured_peak": used / seconds / peak,
    "segments_per_s": rows / seconds,
  }


def _batch(sizes: Sizes) -> Batch:
  """Random frames and words: one image and `text_tokens` tokens a row, read at the last one."""
  rng = np.random.default_rng(0)
  rows, size, patches = sizes.rows, sizes.config.img.image_size, sizes.config.img.num_patches
  vocab_size = sizes.config.llm.vocab_size
  slots = np.full((rows, patches), vocab_size, np.int32)
  words = rng.integers(10, vocab_size, (rows, sizes.text_tokens)).astype(np.int32)
  targets = rng.dirichlet(np.ones(5), (rows, 1)).astype(np.float32)
  return Batch(
    frames=rng.integers(0, 256, (rows, 1, 1, size, size, 3)).astype(np.uint8),
    tokens=np.concatenate([slots, words], axis=1),
    mask_ar=np.zeros((rows, sizes.tokens), np.int32),
    input_mask=np.ones((rows, sizes.tokens), bool),
    score_pos=np.full((rows, 1), sizes.tokens - 1, np.int32),
    targets=targets,
    weight=np.ones((rows, 1), np.float32),
    teachers=(),
    example=np.arange(rows, dtype=np.int32),
    text=None,
  )


def _spec(batch: Batch) -> Batch:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch)


def _print(report: dict[str, Any]) -> None:
  table = Table(title=f"{report['device']}, {report['rows']} rows of {report['tokens']} tokens")
  for column in ("", "ms", "TFLOP/s", "MFU of the measured peak", "segments a second"):
    table.add_column(column, justify="left" if not column else "right")
  table.add_row("bf16 matrix product", "", f"{report['peak_flops'] / 1e12:.0f}", "100 %", "")
  for name in ("train", "score"):
    table.add_row(name, *_cells(report[name]))
  for dtype, row in report.get("big_vision", {}).items():
    name = f"train, big_vision in {dtype}, its loss"
    table.add_row(name, *_cells(row) if row else ("does not fit",))
  for name, row in report["attention"].items():
    table.add_row(f"attention: {name}, error {row['relative_error']:.1e}", f"{row['ms']:.2f}")
  Console().print(table)


def _cells(row: dict[str, float]) -> tuple[str, ...]:
  shares = f"{100 * row['mfu_of_measured_peak']:.1f} %", f"{row['segments_per_s']:.1f}"
  return f"{row['ms']:.1f}", f"{row['tflops']:.0f}", *shares
