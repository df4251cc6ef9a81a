"""Attention of a model: the TPU's kernels where they serve, the reference everywhere else.

Both give the same but for rounding (tests/ops/test_flash.py). The kernels take whole prompts on a
TPU whose devices share no heads; decoding one token at a time always takes the reference.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from vsumjax.models import rows
from vsumjax.ops import attention
from vsumjax.ops.attention import Visibility
from vsumjax.types import InputError

CHOICES = ("auto", "reference", "flash")
# Tokens of a row from which `auto` takes the kernels. A step of PaliGemma 2 3B is predicted to take
# 0.81 of the reference's time at 4,352 tokens, 0.91 at 1,280 and 0.97 at 512 (docs/tpu.md).
FROM_TOKENS = 512
_LOG = logging.getLogger(__name__)


def uses_flash(choice: str, num_rows: int, num_tokens: int) -> bool:
  """Whether attention of `num_rows` rows of `num_tokens` tokens runs in the TPU's kernels.

  Args:
    choice: one of `CHOICES`; `auto` takes the kernels where they can run and pay.

  Raises:
    InputError: `flash` where the kernels cannot run, with the reason.
  """
  why = rows.why_not_by_rows(num_rows)
  if choice == "flash" and why:
    raise InputError(f"model.attention: 'flash' cannot run: {why}; set it to 'auto'")
  pays = choice == "flash" or num_tokens >= FROM_TOKENS
  flash = choice != "reference" and pays and not why
  name = "flash" if flash else "reference"
  _LOG.info("attention of %d rows of %d tokens: %s", num_rows, num_tokens, name)
  return flash


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def flash(
  q_BTHS: jax.Array, k_BUKS: jax.Array, v_BUKS: jax.Array, seen: Visibility | None, cap: float
) -> jax.Array:
  """`attention.attend` in the TPU's kernels, each device for its own rows."""
  return _forward(q_BTHS, k_BUKS, v_BUKS, seen, cap)[0]


def _forward(
  q_BTHS: jax.Array, k_BUKS: jax.Array, v_BUKS: jax.Array, seen: Visibility | None, cap: float
) -> tuple[jax.Array, tuple]:
  from vsumjax.ops import flash as kernels  # Pallas takes a while to import

  function = functools.partial(kernels.flash_forward, cap=cap)
  result = rows.map_rows(function, q_BTHS, k_BUKS, v_BUKS, seen)
  out_BTHS, logsumexp_BTH = checkpoint_name(result, attention.KEPT)
  return out_BTHS, (q_BTHS, k_BUKS, v_BUKS, seen, out_BTHS, logsumexp_BTH)


def _backward(cap: float, saved: tuple, dout_BTHS: jax.Array) -> tuple[Any, ...]:
  from vsumjax.ops import flash as kernels

  function = functools.partial(kernels.flash_backward, cap=cap)
  return *rows.map_rows(function, *saved, dout_BTHS), None


flash.defvjp(_forward, _backward)
