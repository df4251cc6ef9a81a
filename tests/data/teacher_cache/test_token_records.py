"""Texts in few bytes: what is coded comes back, what is drawn is unbiased, sums are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.teacher_cache import token_records
from vsumjax.data.teacher_cache.token_records import (
  SAMPLED,
  TOPK,
  AnswerForm,
  CachedAnswer,
  CachedText,
  decode_answer,
  draw_rng,
  encode_answer,
  sample_entries,
  top_entries,
)

V = 257_152
KEY = b"example1"


def made_logits(num_tokens, vocab_size, seed=0, scale=3.0):
  rng = np.random.default_rng(seed)
  return (scale * rng.normal(size=(num_tokens, vocab_size))).astype(np.float32)


def exact_of(logits_yV, temperature):
  """Log probabilities, logsumexp and entropy, in float64."""
  scaled = logits_yV.astype(np.float64) / temperature
  logsumexp = np.logaddexp.reduce(scaled, axis=1)
  log_probs = scaled - logsumexp[:, None]
  return log_probs, logsumexp, -(np.exp(log_probs) * log_probs).sum(axis=1)


def text_of(entries, seed=0, vocab_size=V):
  rng = np.random.default_rng(seed)
  tokens = rng.integers(vocab_size, size=len(entries.ids)).astype(np.int32)
  return CachedText(tokens, *entries)


def assert_same(text, expected, *, values_are_float16=False):
  for name, value in text._asdict().items():
    other = getattr(expected, name)
    assert value.dtype == other.dtype and value.shape == other.shape, name
    rtol, atol = (2**-11, 2**-24) if values_are_float16 and name == "values" else (0, 0)
    np.testing.assert_allclose(value, other, rtol=rtol, atol=atol, err_msg=name)


SCORES = np.array([[0.5, -2.0]], np.float32)


def encode(text, kind, num_entries, vocab_size):
  """The bytes of a text, without those of the scores before it."""
  form = AnswerForm(SCORES.shape, kind, 40, num_entries, vocab_size)
  return encode_answer(CachedAnswer(SCORES, text), form)[SCORES.nbytes :]


def decode(data, kind, num_entries, vocab_size):
  form = AnswerForm(SCORES.shape, kind, 40, num_entries, vocab_size)
  answer = decode_answer(SCORES.tobytes() + data, form)
  assert np.array_equal(answer.score_logits, SCORES)
  return answer.text


@st.composite
def draws(draw):
  """Any text of kind `sampled`: compositions of J in any order, any ids."""
  J = draw(st.integers(1, 20))
  y = draw(st.integers(0, 5))
  vocab_size = draw(st.sampled_from([J, 4096, V, 1 << 18]))
  rng = np.random.default_rng(draw(st.integers(0, 2**32)))
  ids, values = np.zeros((y, J), np.int32), np.zeros((y, J), np.float32)
  for row in range(y):
    num_distinct = draw(st.integers(1, J))
    bars = np.sort(rng.choice(J - 1, num_distinct - 1, replace=False)) + 1
    ids[row, :num_distinct] = np.sort(rng.choice(vocab_size, num_distinct, replace=False))
    values[row, :num_distinct] = np.diff([0, *bars, J]) / J
  exact = rng.normal(size=(2, y)).astype(np.float32)
  tokens = rng.integers(vocab_size, size=y).astype(np.int32)
  return vocab_size, CachedText(tokens, ids, values, *exact)


@given(draws())
def test_draws_come_back_exactly(made):
  vocab_size, text = made
  num_entries = text.ids.shape[1]
  coding = (SAMPLED, num_entries, vocab_size)
  assert_same(decode(encode(text, *coding), *coding), text)


@given(st.integers(0, 5), st.integers(1, 40), st.sampled_from([40, 1000, V]), st.integers(0, 2**32))
def test_the_likeliest_come_back_as_float16_keeps_them(y, J, vocab_size, seed):
  rng = np.random.default_rng(seed)
  text = CachedText(
    rng.integers(vocab_size, size=y).astype(np.int32),
    rng.integers(vocab_size, size=(y, J)).astype(np.int32),
    -rng.exponential(10, size=(y, J)).astype(np.float32),
    *rng.normal(size=(2, y)).astype(np.float32),
  )
  back = decode(encode(text, TOPK, J, vocab_size), TOPK, J, vocab_size)
  assert_same(back, text, values_are_float16=True)


@given(
  st.integers(1, 1500), st.integers(1, 30), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 99)
)
def test_the_likeliest_are_those_of_a_full_sort(vocab_size, J, temperature, seed):
  J = min(J, vocab_size)
  logits = np.round(made_logits(2, vocab_size, seed))  # many are equal
  found = top_entries(logits, J, temperature)
  log_probs, logsumexp, entropy = exact_of(logits, temperature)
  assert np.array_equal(found.ids, np.argsort(-logits, axis=1, kind="stable")[:, :J])
  np.testing.assert_allclose(
    found.values, np.take_along_axis(log_probs, found.ids, axis=1), atol=1e-5
  )
  np.testing.assert_allclose(found.logsumexp, logsumexp, rtol=1e-5)
  np.testing.assert_allclose(found.entropy, entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_sums_are_exact_over_the_whole_vocabulary(temperature):
  logits = made_logits(3, V) + np.array([[0], [200], [-300]], np.float32)
  _, logsumexp, entropy = exact_of(logits, temperature)
  for found in (
    top_entries(logits, 128, temperature),
    sample_entries(logits, 12, temperature, draw_rng(KEY)),
  ):
    assert found.logsumexp.dtype == found.entropy.dtype == np.float32
    np.testing.assert_allclose(found.logsumexp, logsumexp, rtol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)


def test_the_tail_is_what_the_likeliest_leave_of_1():
  logits = made_logits(2, V)
  log_probs, _, _ = exact_of(logits, 1.0)
  kept = np.exp(np.sort(log_probs, axis=1)[:, -128:]).sum(axis=1)
  assert (kept < 0.9).all()  # renormalising would show
  found = top_entries(logits, 128, 1.0)
  np.testing.assert_allclose(np.exp(found.values).sum(axis=1), kept, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_mean_of_many_draws_is_the_distribution(temperature):
  """Each token's share lies within 3 standard errors for as many tokens as chance allows."""
  num_tokens, J, vocab_size = 4000, 12, 1100  # more than one block and not a multiple
  logits = np.repeat(made_logits(1, vocab_size, scale=2.0), num_tokens, axis=0)
  found = sample_entries(logits, J, temperature, draw_rng(KEY))
  share = np.zeros(vocab_size)
  np.add.at(share, found.ids, found.values / num_tokens)
  probs = np.exp(exact_of(logits[:1], temperature)[0][0])
  standard_error = np.sqrt(probs * (1 - probs) / (num_tokens * J))
  error = np.abs(share - probs) / standard_error
  assert (error[probs > 1e-3] <= 3).mean() > 0.97
  assert np.sqrt((error**2).mean()) == pytest.approx(1, abs=0.1)
  function = np.sin(np.arange(vocab_size))  # any function's mean, too
  variance = probs @ function**2 - (probs @ function) ** 2
  assert abs(share @ function - probs @ function) <= 3 * np.sqrt(variance / (num_tokens * J))


@given(st.integers(1, 700), st.integers(1, 30), st.integers(0, 99))
def test_draws_are_shares_of_distinct_possible_ids(vocab_size, J, seed):
  logits = made_logits(2, vocab_size, seed, scale=60.0)  # most weights are 0 in float32
  found = sample_entries(logits, J, 1.0, draw_rng(KEY))
  is_used = found.values > 0
  assert (found.ids[~is_used] == 0).all()
  assert (is_used[:, :-1] >= is_used[:, 1:]).all()
  for ids, used, row in zip(found.ids, is_used, logits, strict=True):
    assert (np.diff(ids[used]) > 0).all()
    assert (np.exp(row[ids[used]] - row.max()) > 0).all()
  np.testing.assert_allclose(found.values.sum(axis=1), 1, rtol=1e-6)


def test_a_target_at_the_very_end_draws_a_possible_id():
  weights = np.zeros(1200, np.float32)
  weights[:600] = np.float32(0.1)
  drawn = token_records._draw(weights, np.array([0.0, np.nextafter(1.0, 0.0)]))
  assert drawn.tolist() == [0, 599]


def test_the_same_example_draws_the_same():
  logits = made_logits(3, 2000)
  first, again, other = (
    sample_entries(logits, 12, 1.0, draw_rng(key)) for key in (KEY, KEY, b"example2")
  )
  assert_same(text_of(again), text_of(first))
  assert not np.array_equal(first.ids, other.ids)


def test_bytes_of_a_token():
  """12 draws that are all different, the most expensive there are: 38.6 bytes."""
  y = 32
  flat = sample_entries(np.zeros((y, V), np.float32), 12, 1.0, draw_rng(KEY))
  assert (flat.values > 0).all()
  sampled = encode(text_of(flat), SAMPLED, 12, V)
  assert len(sampled) == 2 + y * (8 + 2.25 + 12 * 2.25 + 11 / 8)
  top = encode(text_of(top_entries(made_logits(y, V), 128, 1.0)), TOPK, 128, V)
  assert len(top) == 2 + y * (8 + 2.25 + 128 * 4.25)


@pytest.mark.parametrize("kind", [TOPK, SAMPLED])
@given(st.data())
def test_damaged_bytes_are_told(kind, data):
  logits = made_logits(3, 600)
  made = (
    top_entries(logits, 8, 1.0) if kind == TOPK else sample_entries(logits, 8, 1.0, draw_rng(KEY))
  )
  content = encode(text_of(made, vocab_size=600), kind, 8, 600)
  cut = data.draw(st.integers(0, len(content) - 1))
  for damaged in (content[:cut], content + b"x"):
    with pytest.raises(ValueError):
      decode(damaged, kind, 8, 600)
  with pytest.raises(ValueError, match="where the vocabulary has 9"):
    decode(content, kind, 8, 9)
  noise = data.draw(st.binary(max_size=200))
  try:
    decode(noise, kind, 8, 600)
  except ValueError as error:
    assert str(error)


def _text(**changes):
  made = sample_entries(made_logits(2, 600), 4, 1.0, draw_rng(KEY))
  return text_of(made, vocab_size=600)._replace(**changes)


@pytest.mark.parametrize(
  ("kind", "changes", "message"),
  [
    (SAMPLED, {"tokens": np.array([5, 600])}, "ids from 0 to 600"),
    (SAMPLED, {"tokens": np.array([-1, 5])}, "ids from -1"),
    (SAMPLED, {"tokens": np.array([5])}, "its text has arrays"),
    (SAMPLED, {"ids": np.zeros((2, 5), int)}, "and J is 4"),
    (SAMPLED, {"entropy": np.array([1.0, np.nan])}, "not finite"),
    (SAMPLED, {"values": np.full((2, 4), 0.3)}, "shares of 4 draws"),
    (SAMPLED, {"values": np.tile([1.25, -0.25, 0, 0], (2, 1))}, "shares of 4 draws"),
    (SAMPLED, {"values": np.tile([0.5, 0, 0.5, 0], (2, 1))}, "those used first"),
    (SAMPLED, {"values": np.full((2, 4), np.nan)}, "shares of 4 draws"),
    (TOPK, {"values": np.full((2, 4), 0.5)}, "above 0"),
    (TOPK, {"values": np.full((2, 4), np.nan)}, "above 0"),
  ],
)
def test_what_cannot_be_kept_is_refused(kind, changes, message):
  with pytest.raises(ValueError, match=message):
    encode(_text(**changes), kind, 4, 600)


def test_a_very_unlikely_entry_stays_finite():
  text = _text(values=np.full((2, 4), -1e6, np.float32))
  back = decode(encode(text, TOPK, 4, 600), TOPK, 4, 600)
  assert (back.values == -65504).all()


def test_scores_alone_are_their_own_bytes():
  form = AnswerForm((1, 2), "", 0, 0, 0)
  data = encode_answer(CachedAnswer(SCORES), form)
  assert data == SCORES.tobytes()
  answer = decode_answer(data, form)
  assert np.array_equal(answer.score_logits, SCORES) and answer.text is None
  for damaged in (data[:-1], data[:-4], data + b"x", b""):
    with pytest.raises(ValueError):
      decode_answer(damaged, form)


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(logit):
  logits = made_logits(1, 600)
  logits[0, 7] = logit
  with pytest.raises(ValueError, match="not finite"):
    top_entries(logits, 4, 1.0)
  with pytest.raises(ValueError, match="not finite"):
    sample_entries(logits, 4, 1.0, draw_rng(KEY))


def test_impossible_requests_are_refused():
  logits = made_logits(1, 10)
  for num_entries in (0, 11):
    with pytest.raises(ValueError, match="entries"):
      top_entries(logits, num_entries, 1.0)
  with pytest.raises(ValueError, match="0 draws"):
    sample_entries(logits, 0, 1.0, draw_rng(KEY))
  with pytest.raises(ValueError, match="temperature"):
    top_entries(logits, 2, 0.0)
