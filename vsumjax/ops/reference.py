"""Slow, plain NumPy versions of the ops, loop by loop, for tests to compare with."""

from __future__ import annotations

import numpy as np


def attention_mask(input_mask_BT: np.ndarray, mask_ar_BT: np.ndarray) -> np.ndarray:
  """Like `attention.make_attention_mask`: query t sees key u unless a block starts in (t, u]."""
  B, T = input_mask_BT.shape
  mask_BTT = np.zeros((B, T, T), bool)
  for b, t, u in np.ndindex(B, T, T):
    mask_BTT[b, t, u] = input_mask_BT[b, u] and not mask_ar_BT[b, t + 1 : u + 1].any()
  return mask_BTT


def attend(
  q_BTHS: np.ndarray, k_BUKS: np.ndarray, v_BUKS: np.ndarray, mask_BTU: np.ndarray, cap: float
) -> np.ndarray:
  """Like `attention.attend`, one query at a time; every row needs a visible key."""
  B, T, H, _ = q_BTHS.shape
  G = H // k_BUKS.shape[2]
  out_BTHS = np.zeros(q_BTHS.shape)
  for b, t, h in np.ndindex(B, T, H):
    seen = np.flatnonzero(mask_BTU[b, t])
    logits = np.array([q_BTHS[b, t, h] @ k_BUKS[b, u, h // G] for u in seen], np.float64)
    if cap:
      logits = cap * np.tanh(logits / cap)
    probs = np.exp(logits - logits.max())
    out_BTHS[b, t, h] = (probs / probs.sum()) @ v_BUKS[b, seen, h // G]
  return out_BTHS


def rope(x_BTHS: np.ndarray, position_BT: np.ndarray, base: float = 10_000.0) -> np.ndarray:
  """Like `rope.apply_rope`: each pair is a complex number turned by its angle."""
  S = x_BTHS.shape[-1]
  pairs = x_BTHS[..., : S // 2] + 1j * x_BTHS[..., S // 2 :]
  for i in range(S // 2):
    pairs[..., i] *= np.exp(1j * position_BT[:, :, None] * base ** (-2 * i / S))
  return np.concatenate([pairs.real, pairs.imag], axis=-1)


def pool_tokens(x_ITD: np.ndarray, num_tokens: int) -> np.ndarray:
  """Like `pooling.pool_tokens`."""
  I, T, D = x_ITD.shape
  side, pooled = round(T**0.5), round(num_tokens**0.5)
  w = side // pooled
  grid = x_ITD.reshape(I, side, side, D)
  windows = [
    grid[:, r * w : (r + 1) * w, c * w : (c + 1) * w].mean((1, 2))
    for r in range(pooled)
    for c in range(pooled)
  ]
  return np.stack(windows, axis=1)


def cross_entropy(logits: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> tuple:
  """Like `losses.cross_entropy_loss`."""
  total = 0.0
  for i in np.ndindex(weight.shape):
    if weight[i]:
      total -= weight[i] * sum(
        t * np.log(p) for t, p in zip(targets[i], _softmax(logits[i]), strict=True)
      )
  return total, weight.sum()


def kl(
  student: np.ndarray, teacher: np.ndarray, weight: np.ndarray, temperature: float, direction: str
) -> tuple:
  """Like `losses.kl_loss`."""
  total = 0.0
  for i in np.ndindex(weight.shape):
    if weight[i]:
      p, q = _softmax(teacher[i] / temperature), _softmax(student[i] / temperature)
      divergence = {
        "forward": _kl(p, q),
        "reverse": _kl(q, p),
        "js": (_kl(p, (p + q) / 2) + _kl(q, (p + q) / 2)) / 2,
      }[direction]
      total += weight[i] * temperature**2 * divergence
  return total, weight.sum()


def vocab_log_probs(
  hidden_nD: np.ndarray, embedding_VD: np.ndarray, cap: float, temperature: float
) -> np.ndarray:
  """float64[*n, V], what the head of `vocab_head` says of every token."""
  logits = np.asarray(hidden_nD, np.float64) @ np.asarray(embedding_VD, np.float64).T
  if cap:
    logits = cap * np.tanh(logits / cap)
  logits /= temperature
  shifted = logits - logits.max(axis=-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def token_cross_entropy(logq_nV: np.ndarray, ids: np.ndarray, weight: np.ndarray) -> tuple:
  """Like `vocab_losses.token_cross_entropy_loss`, of `vocab_log_probs` at temperature 1."""
  total = sum(-weight[i] * logq_nV[i][ids[i]] for i in np.ndindex(weight.shape) if weight[i])
  return total, weight.sum()


def topk_kl(
  logq_nV: np.ndarray, ids: np.ndarray, values: np.ndarray, weight: np.ndarray, temperature: float
) -> tuple:
  """Like `vocab_losses.topk_kl_loss`: the tails are sums over what is not among the ids."""
  total = 0.0
  for i in np.ndindex(weight.shape):
    if weight[i]:
      logp, logq = values[i].astype(np.float64), logq_nV[i]
      tail = max(1 - np.exp(logp).sum(), 0.0)
      kl = np.sum(np.exp(logp) * (logp - logq[ids[i]]))
      if tail:
        kl += tail * (np.log(tail) - np.logaddexp.reduce(np.delete(logq, ids[i])))
      total += weight[i] * temperature**2 * kl
  return total, weight.sum()


def sampled_kl(
  logq_nV: np.ndarray,
  ids: np.ndarray,
  values: np.ndarray,
  entropy: np.ndarray,
  weight: np.ndarray,
  temperature: float,
) -> tuple:
  """Like `vocab_losses.sampled_kl_loss`."""
  total = 0.0
  for i in np.ndindex(weight.shape):
    if weight[i]:
      cross_entropy = -sum(v * logq_nV[i][t] for t, v in zip(ids[i], values[i], strict=True))
      total += weight[i] * temperature**2 * (cross_entropy - entropy[i])
  return total, weight.sum()


def full_kl(
  logq_nV: np.ndarray, logp_nV: np.ndarray, weight: np.ndarray, temperature: float
) -> tuple:
  """Like `vocab_losses.full_kl_loss`."""
  total = 0.0
  for i in np.ndindex(weight.shape):
    if weight[i]:
      kl = np.sum(np.exp(logp_nV[i]) * (logp_nV[i] - logq_nV[i]))
      total += weight[i] * temperature**2 * kl
  return total, weight.sum()


def ranking(logits: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> tuple:
  """Like `losses.ranking_loss`."""
  levels = np.arange(logits.shape[-1])
  labelled = [i for i in np.ndindex(weight.shape) if weight[i] and targets[i].sum()]
  score = {i: _softmax(logits[i]) @ levels for i in labelled}
  label = {i: targets[i] @ levels for i in labelled}
  total = num_pairs = 0.0
  for i in labelled:
    for j in labelled:
      if label[i] > label[j]:
        total += weight[i] * weight[j] * np.log1p(np.exp(score[j] - score[i]))
        num_pairs += weight[i] * weight[j]
  sum_weight = sum(weight[i] for i in labelled)
  return (total / num_pairs * sum_weight if num_pairs else 0.0), sum_weight


def _softmax(x: np.ndarray) -> np.ndarray:
  e = np.exp(np.asarray(x, np.float64) - np.max(x))
  return e / e.sum()


def _kl(p: np.ndarray, q: np.ndarray) -> float:
  seen = p > 0
  with np.errstate(divide="ignore"):
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
