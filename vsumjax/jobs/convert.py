"""Convert a checkpoint from any format to any other, and compare the numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsumjax.convert import check, formats, resize, sidecar, weights
from vsumjax.convert.weights import Weights
from vsumjax.host.files import staging
from vsumjax.host.progress import progress
from vsumjax.models import families
from vsumjax.models.student import StudentConfig
from vsumjax.types import InputError

REPORT = "conversion.json"
# The same bits give logits that differ by rounding alone, some 1e-9 nats apart.
_MAX_KL = 1e-4


@dataclasses.dataclass(frozen=True)
class Changes:
  """What to change on the way; 0 or "" leaves it as it is.

  image_size: pixels; the position embeddings are resized.
  vocab_size: rows of the embedding; more are added.
  dtype: "float32", "bfloat16" or "float16".
  """

  image_size: int = 0
  vocab_size: int = 0
  dtype: str = ""

  def apply(self, source: Weights) -> Weights:
    """The weights, changed; nothing of size is read yet."""
    changed = source
    if self.image_size:
      changed = resize.with_image_size(changed, self.image_size)
    if self.vocab_size:
      changed = resize.with_vocab_size(changed, self.vocab_size)
    if self.dtype:
      changed = weights.with_dtype(changed, self.dtype)
    return changed


def convert(
  source: Path,
  target: Path,
  *,
  kind: str = "",
  model: str = "",
  model_json: Path | None = None,
  changes: Changes = Changes(),
  max_shard_bytes: int = 5 * 10**9,
  check_numbers: bool = True,
) -> check.Comparison:
  """Writes `target`, whole or not at all.

  Args:
    source: a checkpoint of any format, or a finished training workdir.
    target: what to make; must not exist.
    kind: format of the target, one of `formats.FORMATS`; "" is npz for *.npz and ours otherwise.
    model: named size of an npz.
    model_json: a StudentConfig in JSON, for an npz of no named size.
    changes: see `Changes`.
    max_shard_bytes: of a safetensors file.
    check_numbers: compare logits with the library of the other format.

  Returns:
    What the comparison found.

  Raises:
    InputError: the source is broken or cannot be converted like this, or the target exists.
    FloatingPointError: the other library's model answers otherwise than ours.
  """
  kind = kind or (formats.NPZ if target.suffix == ".npz" else formats.NATIVE)
  _check_target(target, kind)
  started = time.monotonic()
  opened = formats.open_weights(source, _named_config(model, model_json))
  changed = weights.check(changes.apply(opened))
  formats.check_tokenizer(changed)
  _check_space(target, changed)
  with staging(target) as folder:
    made = folder / target.name
    with progress("convert") as update:
      counted = _in_megabytes(update, changed.num_bytes)
      formats.write_weights(made, kind, changed, max_shard_bytes, counted)
    print(_summary(target, kind, changed, time.monotonic() - started))
    if kind == formats.HUGGINGFACE:
      _warn_of_pooling(changed)
    compared = _compare(source, opened, made, kind, changed) if check_numbers else None
    comparison = compared or check.Comparison(reason="it was not asked for")
    print(comparison.table())
    _refuse_other_numbers(comparison, changed, opened)
    report = made / REPORT if made.is_dir() else made.with_name(f"{made.name}.{REPORT}")
    report.write_text(json.dumps(_report(source, kind, changes, comparison), indent=2) + "\n")
  return comparison


def _named_config(model: str, model_json: Path | None) -> StudentConfig | None:
  if model and model_json:
    raise InputError("give --model or --model-json, not both")
  if model:
    return families.paligemma(model)
  if model_json:
    return weights.config_from_dict(sidecar.read_json(model_json), str(model_json))
  return None


def _check_target(target: Path, kind: str) -> None:
  if (kind == formats.NPZ) != (target.suffix == ".npz"):
    raise InputError(f"{target}: a file of format npz, and no other, is named *.npz")
  beside = sidecar.paths(target) if kind == formats.NPZ else ()
  for path in (target, *beside):
    if path.exists():
      raise InputError(f"{path}: exists; give another --to, or take it away")


def _check_space(target: Path, changed: Weights) -> None:
  folder = next(path for path in target.absolute().parents if path.exists())
  free = shutil.disk_usage(folder).free
  if changed.num_bytes > free:
    raise InputError(
      f"{target}: takes {changed.num_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there"
    )


def _in_megabytes(update: Callable[..., None], total_bytes: int) -> Callable[[int], None]:
  """Shows bytes written as whole megabytes begun, each once."""
  done, shown, total = 0, 0, math.ceil(total_bytes / 1e6)

  def on_bytes(count: int) -> None:
    nonlocal done, shown
    done += count
    megabytes = min(math.ceil(done / 1e6), total)  # a tied head is written beside what is counted
    if megabytes > shown:
      shown = megabytes
      update(shown, total, "MB")

  return on_bytes


def _summary(target: Path, kind: str, changed: Weights, seconds: float) -> str:
  dtypes = ", ".join(sorted({tensor.dtype.name for tensor in changed.tensors.values()}))
  return (
    f"{target}: {kind}, {len(changed.tensors)} tensors in {dtypes}, "
    f"{changed.num_bytes / 1e6:,.1f} MB in {seconds:.0f} s"
  )


def _warn_of_pooling(changed: Weights) -> None:
  pooled = changed.facts.prompt.get("tokens_per_frame", changed.config.img.num_patches)
  if pooled != changed.config.img.num_patches:
    print(
      f"  note: this model reads {pooled} tokens a frame, pooled from "
      f"{changed.config.img.num_patches}; Hugging Face's PaliGemma does not pool, and answers "
      "otherwise"
    )


def _compare(
  source: Path, opened: Weights, made: Path, kind: str, changed: Weights
) -> check.Comparison:
  """The other library reads the target, or else the source; we read the other of the two."""
  if kind != formats.NATIVE:
    return check.compare(made, kind, changed)
  source_kind = formats.format_of(source)
  if source_kind == formats.NATIVE:
    return check.Comparison(reason="both sides are ours")
  is_same_model = changed.config == opened.config
  return check.compare(source, source_kind, formats.open_weights(made) if is_same_model else opened)


def _refuse_other_numbers(comparison: check.Comparison, changed: Weights, opened: Weights) -> None:
  is_rounded = any(t.dtype != opened.tensors[path].dtype for path, t in changed.tensors.items())
  if comparison.mean_kl > _MAX_KL and not is_rounded:
    raise FloatingPointError(
      f"{changed.source}: our logits differ from those of {comparison.library}: mean KL "
      f"{comparison.mean_kl:.3g}, max difference {comparison.max_difference:.3g}; "
      "nothing is written"
    )


def _report(
  source: Path, kind: str, changes: Changes, comparison: check.Comparison
) -> dict[str, Any]:
  return {
    "source": str(source),
    "format": kind,
    "changes": dataclasses.asdict(changes),
    "check": check.as_json(comparison),
  }
