"""The train step of big_vision's PaliGemma, as its trainer makes it of its own config.

Optimizer, mesh and rule of sharding are those of its config for fine-tuning on one's own data,
configs/proj/paligemma/transfers/forkme.py, and so is the model, at the sizes that are asked for.
The step follows trainers/proj/paligemma/train.py, whose own cannot be imported: it is a closure of
the program's `main`. The norms that it logs are left out.

What was adapted, when it is called and not in its files, to the JAX and Flax of today:

- TensorFlow, which it imports for access to files, is stood in for (`convert.big_vision`).
- `update` is to be traced under `jax.set_mesh`. In `with mesh:`, as its trainer has it, Flax 0.12
  sees no mesh any more and drops the constraints on activations without a word; XLA then splits
  these along their width, and exchanges them in every layer.
- Its decoder has float32 activations alone. In bfloat16, which its tower knows, parameters are cast
  as the step begins, and what its rotary embedding makes is cast back.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsumjax.convert import big_vision
from vsumjax.models.student import StudentConfig
from vsumjax.tpu import flops
from vsumjax.types import InputError

LOSSES = ("text", "scores")
_NUM_SCORES = 5
_MODEL = "big_vision/models/proj/paligemma/paligemma.py"
# Of the learning rate alone, on which no time depends.
_SCHEDULE = {"total_steps": 1000, "data_size": 100_000}


@dataclasses.dataclass(frozen=True)
class TrainStep:
  """Functions of a state {"params", "opt"} and of a batch, and where both lie on a mesh.

  config: sizes of the model. rows, text_tokens: of a batch, beside one image a row.
  dtype: of activations, "float32" (its own) or "bfloat16"; parameters are float32.
  loss: "text", its own: next-token cross entropy over its whole vocabulary at every token of the
    text; or "scores", what our student learns: over five tokens at the last one.
  recipe: its config. infer_sharding: its function of that name.
  """

  config: StudentConfig
  rows: int
  text_tokens: int
  dtype: str
  loss: str
  recipe: Any
  tx: optax.GradientTransformation
  infer_sharding: Any

  def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """image f32[B, h, w, 3] in [-1, 1]; text, mask_ar, mask_loss i32[B, text_tokens + 1]."""
    size = self.config.img.image_size
    words = jax.ShapeDtypeStruct((self.rows, self.text_tokens + 1), jnp.int32)
    image = jax.ShapeDtypeStruct((self.rows, size, size, 3), jnp.float32)
    return {"image": image, "text": words, "mask_ar": words, "mask_loss": words}

  def random_batch(self) -> dict[str, np.ndarray]:
    """Random pixels and words, all of which are learned; nothing in front is a prefix."""
    rng, spec = np.random.default_rng(0), self.batch_spec()
    shape = spec["text"].shape
    return {
      "image": rng.uniform(-1, 1, spec["image"].shape).astype(np.float32),
      "text": rng.integers(10, self.config.llm.vocab_size, shape).astype(np.int32),
      "mask_ar": np.ones(shape, np.int32),
      "mask_loss": np.ones(shape, np.int32),
    }

  def init(self, key: jax.Array) -> dict[str, Any]:
    params = _init_params(self.config, key)
    return {"params": params, "opt": self.tx.init(params)}

  def update(self, state: dict[str, Any], batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The next state, and the loss f32[]."""
    # Its rules name one axis of the mesh for the rows of all activations, and none for the rest.
    with nn.logical_axis_rules(self.recipe.sharding_rules):
      value, gradient = jax.value_and_grad(self._loss)(state["params"], batch)
    updates, opt = self.tx.update(gradient, state["opt"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, value

  def abstract(self, mesh: Mesh) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and batch as ShapeDtypeStructs, laid on a mesh by its rule and its input pipeline."""
    state = jax.eval_shape(self.init, jax.random.key(0))
    placed = self.infer_sharding(state, strategy=self.recipe.sharding_strategy, mesh=mesh)
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    batch = self.batch_spec()
    return _laid(state, placed), _laid(batch, jax.tree.map(lambda _: rows, batch))

  def _loss(self, params: Any, batch: dict[str, Any]) -> jax.Array:
    model = big_vision.build_model(self.config, dtype=self.dtype)
    if self.dtype != "float32":
      params = jax.tree.map(lambda leaf: leaf.astype(self.dtype), params)
    inputs = batch["image"], batch["text"][:, :-1], batch["mask_ar"][:, :-1]
    logits_BTV, out = model.apply({"params": params}, *inputs, train=True)
    if self.loss == "text":
      return _text_loss(logits_BTV, batch["text"][:, 1:], batch["mask_loss"][:, 1:])
    words_SD = params["llm"]["embedder"]["input_embedding"][:_NUM_SCORES]
    logits_BS = out["llm/pre_logits"][:, -1] @ words_SD.T
    return -jax.nn.log_softmax(logits_BS.astype(jnp.float32))[:, 0].mean()


def build(
  config: StudentConfig,
  rows: int,
  text_tokens: int,
  *,
  source: Path,
  dtype: str = "float32",
  loss: str = "text",
) -> TrainStep:
  """The step of the big_vision whose checkout is `source`; arguments as of `TrainStep`.

  Raises:
    InputError: `source` is no checkout, or lacks something that it needs.
  """
  require_checkout(source)
  try:
    forkme, bv_optax, bv_sharding = big_vision.import_modules(
      "configs.proj.paligemma.transfers.forkme", "optax", "sharding", checkout=source
    )
    params = jax.eval_shape(lambda key: _init_params(config, key), jax.random.key(0))
  except ImportError as error:
    raise InputError(f"big_vision: {source}: {error}") from error
  recipe = forkme.get_config(f"size=3b,batch_size={rows},text_len={text_tokens}")
  tx, _ = bv_optax.make(recipe, params, sched_kw=_SCHEDULE | {"batch_size": rows})
  infer_sharding = bv_sharding.infer_sharding
  return TrainStep(config, rows, text_tokens, dtype, loss, recipe, tx, infer_sharding)


def require_checkout(source: Path) -> None:
  """Raises InputError where there is no checkout."""
  if not (source / _MODEL).is_file():
    raise InputError(
      f"big_vision: {source} holds no {_MODEL}; give the folder of a checkout: "
      "git clone https://github.com/google-research/big_vision"
    )


def build_mesh(step: TrainStep, devices: list[Any]) -> Mesh:
  """The mesh of its config, which has one axis over all devices."""
  names, sizes = zip(*step.recipe.mesh, strict=True)
  shape = np.array(devices).reshape(sizes).shape
  return Mesh(mesh_utils.create_device_mesh(shape, devices=devices), names)


def model_flops(step: TrainStep, *, vocabulary: bool) -> float:
  """FLOPs that a train step needs on all devices, see `tpu.flops`.

  vocabulary: with the product that makes logits of the whole vocabulary at every token of the text,
    which our student's loss does not need.
  """
  shapes = jax.eval_shape(lambda key: _init_params(step.config, key), jax.random.key(0))
  by_path = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }
  patches = step.config.img.num_patches
  texts = step.text_tokens if vocabulary else 0
  sizes = flops.Sizes(step.rows, patches + step.text_tokens, step.rows, patches, 1, texts)
  return flops.train_flops(step.config, sizes, by_path, frozenset(by_path))


def _init_params(config: StudentConfig, key: jax.Array) -> Any:
  size = config.img.image_size
  # Sizes of a batch are none of the parameters'.
  image, words = jnp.zeros((1, size, size, 3)), jnp.zeros((1, 1), jnp.int32)
  model = big_vision.build_model(config)
  return nn.unbox(model.init(key, image, words, words)["params"])


def _text_loss(logits_BTV: jax.Array, next_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
  """Its loss: one-hot targets, the mean of each row, then that of the rows."""
  logp_BTV = jax.nn.log_softmax(logits_BTV.astype(jnp.float32))
  chosen_BT = jnp.sum(logp_BTV * jax.nn.one_hot(next_BT, logits_BTV.shape[-1]), axis=-1)
  sum_B = jnp.sum(chosen_BT * mask_BT, axis=-1)
  return -jnp.mean(sum_B / jnp.clip(jnp.sum(mask_BT, axis=-1), 1))


def _laid(tree: Any, placed: Any) -> Any:
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree, placed
  )
