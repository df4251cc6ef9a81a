"""Are the numbers the same? Logits of our model and of the other library's, on a fixed batch.

Two images and a short text each: half of it read in both directions with the image, half causal.
Only the text's logits are compared; the image reaches them through every layer.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vsumjax import sharding
from vsumjax.convert import big_vision, formats, weights
from vsumjax.convert.load import load_params
from vsumjax.convert.weights import Weights
from vsumjax.models.exits import ExitsConfig
from vsumjax.models.student import VideoSummaryStudent
from vsumjax.types import Prompt

_ROWS, _PREFIX, _SUFFIX = 2, 8, 8
_TEXT = _PREFIX + _SUFFIX
_LIBRARIES = {formats.HUGGINGFACE: "transformers", formats.NPZ: "big_vision"}
# A model in float32 takes its size, what loads it and its activations some more.
_OVERHEAD, _BASE_BYTES = 1.3, 2**30


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What was found; `reason` says why nothing was compared, and is empty otherwise.

  Attributes:
    library: whose model was compared with ours.
    max_difference: largest absolute difference of a logit.
    mean_kl: mean KL divergence of our distribution from theirs over the text positions, nats.
  """

  library: str = ""
  reason: str = ""
  max_difference: float = math.nan
  mean_kl: float = math.nan

  def table(self) -> str:
    """For people."""
    if self.reason:
      return f"numbers not checked: {self.reason}"
    return (
      f"logits against {self.library}\n"
      f"  max difference  {self.max_difference:.3g}\n"
      f"  mean KL         {self.mean_kl:.3g} nats"
    )


def compare(path: Path, kind: str, ours: Weights) -> Comparison:
  """Compares the other library's reading of `path` with our reading of `ours`, in float32.

  Args:
    path: a checkpoint in the other library's format.
    kind: that format, one of `formats.FORMATS`.
    ours: the same weights, opened anywhere.
  """
  library = _LIBRARIES[kind]
  if reason := _why_not(library, ours):
    return Comparison(library, reason)
  prompt, image_id = make_prompt(ours)
  if kind == formats.HUGGINGFACE:
    reference_BTV = _huggingface_logits(path, prompt)
  else:
    # It has no sliding window; what is compared here is weights.
    llm = dataclasses.replace(ours.config.llm, sliding_window=0)
    ours = dataclasses.replace(ours, config=dataclasses.replace(ours.config, llm=llm))
    reference_BTV = _big_vision_logits(path, ours, prompt)
  gc.collect()  # one model at a time in memory
  answer_BTV = our_logits(ours, prompt, image_id)
  difference, kl = _distance(reference_BTV, answer_BTV)
  return Comparison(library, "", difference, kl)


def _why_not(library: str, ours: Weights) -> str:
  if library == "big_vision":
    try:
      big_vision.build_model(ours.config)
    except (ImportError, ValueError) as error:
      return str(error)
  else:
    for name in ("transformers", "torch"):
      if importlib.util.find_spec(name) is None:
        return f"{name} is not installed"
  needed = sum(t.size for t in ours.tower().values()) * 4 * _OVERHEAD + _BASE_BYTES
  available = _available_bytes()
  if available < needed:
    return (
      f"a model takes {needed / 1e9:.1f} GB of memory in float32, and {available / 1e9:.1f} GB are "
      "available"
    )
  return ""


def _available_bytes() -> float:
  """Memory that can be had without swapping; infinite where the system doesn't say."""
  try:
    lines = Path("/proc/meminfo").read_text().splitlines()
  except OSError:
    return math.inf
  table = dict(line.split(":", 1) for line in lines)
  return int(table["MemAvailable"].split()[0]) * 1024


def make_prompt(ours: Weights) -> tuple[Prompt, int]:
  """The fixed batch for a model, in NumPy, and the id of its image slots."""
  config, rng = ours.config, np.random.default_rng(0)
  P, size, vocab_size = config.img.num_patches, config.img.image_size, config.llm.vocab_size
  image_id = ours.facts.image_token_id if ours.facts.image_token_id >= 0 else vocab_size
  text_BT = rng.integers(3, min(image_id, vocab_size), (_ROWS, _TEXT))
  mask_ar_T = np.arange(P + _TEXT) >= P + _PREFIX
  prompt = Prompt(
    frames=rng.integers(0, 256, (_ROWS, 1, 1, size, size, 3), np.uint8),
    tokens=np.concatenate([np.full((_ROWS, P), image_id), text_BT], axis=1).astype(np.int32),
    mask_ar=np.tile(mask_ar_T.astype(np.int32), (_ROWS, 1)),
    input_mask=np.ones((_ROWS, P + _TEXT), bool),
  )
  return prompt, image_id


def our_logits(ours: Weights, prompt: Prompt, image_id: int) -> np.ndarray:
  """Our model's logits of the text, f32[B, T, V]."""
  depth = ours.config.llm.depth
  config = dataclasses.replace(ours.config, dtype="float32", exits=ExitsConfig((depth,)))
  model = VideoSummaryStudent(config, config.img.num_patches, image_id, (0,))
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.local_devices(backend="cpu")[:1])
  params = _float32_params(dataclasses.replace(ours, config=config, tensors=ours.tower()), mesh)

  @jax.jit
  def run(params: Any, prompt: Prompt) -> jax.Array:
    with sharding.use_mesh(mesh):
      return model.apply(
        {"params": params}, prompt, method=lambda m, p: m.llm.logits(m.hidden(p)[:, -_TEXT:])
      )

  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return np.asarray(run(params, jax.device_put(prompt, place)))


def _float32_params(ours: Weights, mesh: jax.sharding.Mesh) -> Any:
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  shapes = {path: tensor.shape for path, tensor in ours.tensors.items()}
  abstract = {
    path: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place) for path, shape in shapes.items()
  }
  return load_params(ours, weights.nested(abstract)).params


def _huggingface_logits(path: Path, prompt: Prompt) -> np.ndarray:
  import torch
  import transformers

  transformers.utils.logging.disable_progress_bar()
  transformers.utils.logging.set_verbosity_error()
  model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
    path, dtype=torch.float32, attn_implementation="eager", local_files_only=True
  ).eval()
  pixels_BchW = np.moveaxis(prompt.frames[:, 0, 0], -1, 1).astype(np.float32) / 127.5 - 1
  with torch.no_grad():
    answer = model(
      input_ids=torch.tensor(prompt.tokens, dtype=torch.long),
      pixel_values=torch.tensor(pixels_BchW),
      attention_mask=torch.tensor(prompt.input_mask, dtype=torch.long),
      token_type_ids=torch.tensor(prompt.mask_ar, dtype=torch.long),
      logits_to_keep=_TEXT,
    )
  return answer.logits.numpy()


def _big_vision_logits(path: Path, ours: Weights, prompt: Prompt) -> np.ndarray:
  model = big_vision.build_model(ours.config)
  theirs = formats.open_weights(path, ours.config).tower()
  params = weights.nested({name: t.array().astype(np.float32) for name, t in theirs.items()})
  pixels_BhwC = prompt.frames[:, 0, 0].astype(np.float32) / 127.5 - 1
  text_BT, mask_ar_BT = prompt.tokens[:, -_TEXT:], prompt.mask_ar[:, -_TEXT:]
  return np.asarray(model.apply({"params": params}, pixels_BhwC, text_BT, mask_ar_BT)[0])


def _distance(reference_BTV: np.ndarray, answer_BTV: np.ndarray) -> tuple[float, float]:
  """(max |difference|, mean over positions of KL(reference || answer))."""
  kl_BT = [
    [_kl(reference_V, answer_V) for reference_V, answer_V in zip(*rows, strict=True)]
    for rows in zip(reference_BTV, answer_BTV, strict=True)
  ]
  return float(np.abs(reference_BTV - answer_BTV).max()), float(np.mean(kl_BT))


def _kl(reference_V: np.ndarray, answer_V: np.ndarray) -> float:
  p_V, q_V = (_log_softmax(x_V.astype(np.float64)) for x_V in (reference_V, answer_V))
  return float((np.exp(p_V) * (p_V - q_V)).sum())


def _log_softmax(x_V: np.ndarray) -> np.ndarray:
  shifted_V = x_V - x_V.max()
  return shifted_V - np.log(np.exp(shifted_V).sum())


def as_json(comparison: Comparison) -> Mapping[str, Any]:
  """For conversion.json; no NaN, which JSON has not."""
  if comparison.reason:
    return {"library": comparison.library, "not_checked": comparison.reason}
  fields = dataclasses.asdict(comparison)
  return {name: value for name, value in fields.items() if name != "reason"}
