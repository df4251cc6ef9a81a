"""The losses over a vocabulary: values, gradients, extremes, padding, precision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vsumjax.ops import reference, vocab_losses
from vsumjax.types import TokenTargets

V, D, W, J = 101, 8, 6, 7
CHUNK = 16  # seven chunks, the last of them padded
NAMES = ("ce", "topk", "sampled", "full")


@dataclasses.dataclass(frozen=True)
class Case:
  """A student's and a teacher's hidden states at 2 x 4 positions, and records of the teacher."""

  hidden: np.ndarray
  embedding: np.ndarray
  teacher_hidden: np.ndarray
  teacher_embedding: np.ndarray
  ids: np.ndarray
  topk: TokenTargets
  sampled: TokenTargets
  weight: np.ndarray
  cap: float
  temperature: float

  def loss(self, name, hidden, embedding, weight=None):
    """(sum, weight) of the loss of this name; its targets are those of the case."""
    weight = jnp.asarray(self.weight if weight is None else weight)
    options = {"cap": self.cap, "chunk": CHUNK}
    if name == "ce":
      ids = jnp.asarray(self.ids)
      return vocab_losses.token_cross_entropy_loss(hidden, embedding, ids, weight, **options)
    options["temperature"] = self.temperature
    if name == "full":
      teacher = jnp.asarray(self.teacher_hidden), jnp.asarray(self.teacher_embedding)
      options["teacher_cap"] = self.cap
      return vocab_losses.full_kl_loss(hidden, embedding, *teacher, weight, **options)
    function = {"topk": vocab_losses.topk_kl_loss, "sampled": vocab_losses.sampled_kl_loss}[name]
    targets = jax.tree.map(jnp.asarray, getattr(self, name))
    return function(hidden, embedding, targets, weight, **options)

  def expected(self, name):
    """The same by the slow reference."""
    temperature = 1.0 if name == "ce" else self.temperature
    logq = reference.vocab_log_probs(self.hidden, self.embedding, self.cap, temperature)
    if name == "ce":
      return reference.token_cross_entropy(logq, self.ids, self.weight)
    rest = (self.weight, self.temperature)
    if name == "full":
      return reference.full_kl(logq, self.teacher_log_probs(), *rest)
    if name == "topk":
      return reference.topk_kl(logq, self.topk.ids, self.topk.values, *rest)
    sampled = self.sampled
    return reference.sampled_kl(logq, sampled.ids, sampled.values, sampled.entropy, *rest)

  def teacher_log_probs(self):
    return reference.vocab_log_probs(
      self.teacher_hidden, self.teacher_embedding, self.cap, self.temperature
    )

  def value_and_grads(self, name):
    """The sum, and its gradients of the student's hidden states and embedding."""
    run = jax.value_and_grad(lambda *arrays: self.loss(name, *arrays)[0], (0, 1))
    return jax.jit(run)(*self.arrays())

  def arrays(self):
    return jnp.asarray(self.hidden), jnp.asarray(self.embedding)


def _topk(logp, num_entries=J):
  ids = np.argsort(-logp, axis=-1)[..., :num_entries]
  values = np.take_along_axis(logp, ids, axis=-1)
  return _targets(ids, values, logp)


def _sampled(logp, rng, num_draws=J):
  """Draws as distinct ids with their shares; unused entries have id 0 and share 0."""
  p = np.exp(logp)
  ids, values = np.zeros((*p.shape[:-1], num_draws)), np.zeros((*p.shape[:-1], num_draws))
  for i in np.ndindex(p.shape[:-1]):
    drawn, counts = np.unique(rng.choice(p.shape[-1], num_draws, p=p[i]), return_counts=True)
    ids[i][: len(drawn)], values[i][: len(drawn)] = drawn, counts / num_draws
  return _targets(ids, values, logp)


def _targets(ids, values, logp):
  entropy = -np.sum(np.exp(logp) * logp, axis=-1)
  nothing = np.full(entropy.shape, np.nan, np.float32)  # no loss needs it
  return TokenTargets(
    ids.astype(np.int32), values.astype(np.float32), nothing, entropy.astype(np.float32)
  )


def _case(cap=5.0, temperature=2.0, scale=1.0):
  rng = np.random.default_rng(0)
  sizes = {
    "hidden": (2, 4, D), "embedding": (V, D), "teacher_hidden": (2, 4, W),
    "teacher_embedding": (V, W),
  }  # fmt: skip
  arrays = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
  arrays["hidden"] *= scale
  arrays["teacher_hidden"] *= scale
  weight = np.array([[1, 0.5, 0, 2], [0, 1, 1, 0]], np.float32)
  ids = rng.integers(0, V, weight.shape).astype(np.int32)
  case = Case(**arrays, ids=ids, topk=None, sampled=None, weight=weight, cap=cap,
              temperature=temperature)  # fmt: skip
  logp = case.teacher_log_probs()
  return dataclasses.replace(case, topk=_topk(logp), sampled=_sampled(logp, rng))


def _dense(case, name):
  """The loss's sum as autodiff of plain jnp over [n, V], to take gradients of."""

  def loss(hidden, embedding):
    temperature = 1.0 if name == "ce" else case.temperature
    logits = hidden @ embedding.T
    logits = (case.cap * jnp.tanh(logits / case.cap) if case.cap else logits) / temperature
    logq = jax.nn.log_softmax(logits)
    logp = jnp.asarray(case.teacher_log_probs(), jnp.float32)
    if name == "ce":
      p = jax.nn.one_hot(case.ids, V)
    elif name == "sampled":
      p = (jax.nn.one_hot(case.sampled.ids, V) * case.sampled.values[..., None]).sum(axis=-2)
    else:
      p = jnp.exp(logp)
    terms = -p * logq
    if name == "topk":
      chosen = jax.nn.one_hot(case.topk.ids, V).sum(axis=-2)
      tail_q = jax.nn.logsumexp(jnp.where(chosen > 0, -1e9, logq), axis=-1)
      terms = chosen * terms
      terms = terms.at[..., 0].add(-jnp.sum((1 - chosen) * p, axis=-1) * tail_q)
    return temperature**2 * jnp.sum(case.weight[..., None] * terms)

  return loss


@pytest.mark.parametrize(("cap", "temperature"), [(0.0, 1.0), (0.0, 3.0), (5.0, 3.0)])
@pytest.mark.parametrize("name", NAMES)
def test_values_equal_those_of_the_reference(name, cap, temperature):
  case = _case(cap, temperature)
  got = jax.jit(functools.partial(case.loss, name))(*case.arrays())
  np.testing.assert_allclose(got, case.expected(name), rtol=2e-5)


@pytest.mark.parametrize(("cap", "temperature"), [(0.0, 1.0), (0.0, 3.0), (5.0, 3.0)])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_of_a_dense_loss(name, cap, temperature):
  case = _case(cap, temperature)
  expected = jax.jit(jax.grad(_dense(case, name), (0, 1)))(*case.arrays())
  for a, b in zip(case.value_and_grads(name)[1], expected, strict=True):
    assert jnp.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_differences(name):
  case = _case()
  loss = jax.jit(lambda *arrays: case.loss(name, *arrays)[0])
  check_grads(loss, case.arrays(), 1, ["rev"], rtol=0.02, atol=0.02, eps=1e-2)


@pytest.mark.parametrize("chunk", [1, 5248])
@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_a_chunk_changes_nothing(name, chunk, monkeypatch):
  case = _case()
  expected = case.value_and_grads(name)
  monkeypatch.setattr(f"{__name__}.CHUNK", chunk)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    case.value_and_grads(name),
    expected,
  )


@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits(name, cap):
  """Products up to 1e4 and beyond; the cap makes most of them ±30."""
  case = _case(cap, 1.0, scale=3000.0)
  largest = np.abs(case.hidden @ case.embedding.T).max()
  assert largest > 1e4
  value, grads = case.value_and_grads(name)
  np.testing.assert_allclose(value, case.expected(name)[0], rtol=1e-5)
  assert all(jnp.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_weight_zero_hides_garbage(name, garbage):
  case = _case()
  absent = case.weight == 0

  def dirty(x, value=garbage):
    x = np.array(x)
    x[absent] = value
    return x

  def dirty_targets(targets):
    ids, values = dirty(targets.ids, 2**30), dirty(targets.values)
    return targets.replace(ids=ids, values=values, entropy=dirty(targets.entropy))

  other = dataclasses.replace(
    case,
    hidden=dirty(case.hidden),
    teacher_hidden=dirty(case.teacher_hidden),
    ids=dirty(case.ids, -(2**30)),
    topk=dirty_targets(case.topk),
    sampled=dirty_targets(case.sampled),
  )
  jax.tree.map(
    np.testing.assert_array_equal, other.value_and_grads(name), case.value_and_grads(name)
  )


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_hidden_is_summed_up_in_float32(name):
  case = _case()
  low = [np.asarray(x).astype(jnp.bfloat16) for x in case.arrays()]
  rounded = dataclasses.replace(case, hidden=low[0], embedding=low[1])
  exact = dataclasses.replace(
    case, hidden=low[0].astype(np.float32), embedding=low[1].astype(np.float32)
  )
  value, grads = rounded.value_and_grads(name)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, exact.expected(name)[0], rtol=2e-5)
  for got, expected in zip(grads, exact.value_and_grads(name)[1], strict=True):
    assert got.dtype == jnp.bfloat16
    scale = jnp.abs(expected).max()
    np.testing.assert_allclose(got.astype(jnp.float32) / scale, expected / scale, atol=0.01)


def test_float32_embedding_of_bfloat16_hidden_gets_a_float32_gradient():
  case = _case()
  mixed = dataclasses.replace(case, hidden=case.hidden.astype(jnp.bfloat16))
  grads = mixed.value_and_grads("topk")[1]
  assert [grad.dtype for grad in grads] == [jnp.bfloat16, jnp.float32]


def test_the_teacher_gets_no_gradient():
  case = _case()
  hidden, embedding = case.arrays()
  options = {"cap": 5.0, "temperature": 2.0}

  def full(teacher_hidden, teacher_embedding):
    return vocab_losses.full_kl_loss(
      hidden, embedding, teacher_hidden, teacher_embedding, jnp.ones((2, 4)), teacher_cap=5.0,
      **options,
    )[0]  # fmt: skip

  teacher = jnp.asarray(case.teacher_hidden), jnp.asarray(case.teacher_embedding)
  assert full(*teacher) > 0.1
  for grad in jax.jit(jax.grad(full, (0, 1)))(*teacher):
    assert jnp.all(grad == 0)
  for function, targets in (("topk", case.topk), ("sampled", case.sampled)):
    loss = getattr(vocab_losses, f"{function}_kl_loss")

    def sparse(values, loss=loss, targets=targets):
      targets = jax.tree.map(jnp.asarray, targets).replace(values=values)
      return loss(hidden, embedding, targets, jnp.ones((2, 4)), **options)[0]

    assert jnp.all(jax.jit(jax.grad(sparse))(jnp.asarray(targets.values)) == 0)


def test_a_small_tail_of_the_student_is_exact():
  """1 - sum of its likeliest is 0 in float32; the teacher's tail holds a third."""
  logits = np.zeros((1, 1000))
  logits[0, :2] = 30.0
  hidden, embedding = np.ones((1, 1), np.float32), logits.T.astype(np.float32)
  logq = reference.vocab_log_probs(hidden, embedding, 0.0, 1.0)
  assert 1 - np.exp(logq[0, :2].astype(np.float32)).sum() <= 1e-7
  values = np.log(np.array([[1 / 3, 1 / 3]], np.float32))
  targets = TokenTargets(jnp.array([[0, 1]]), jnp.asarray(values), None, jnp.zeros(1))
  weight = np.ones(1, np.float32)
  loss = functools.partial(vocab_losses.topk_kl_loss, cap=0.0, temperature=1.0, chunk=64)
  got = jax.jit(loss)(jnp.asarray(hidden), jnp.asarray(embedding), targets, jnp.asarray(weight))
  expected = reference.topk_kl(logq, np.array([[0, 1]]), values, weight, 1.0)
  assert expected[0] > 7
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_values_whose_sum_passes_one_have_no_tail():
  hidden, embedding = _case().arrays()
  values = jnp.log(jnp.full((2, 4, 2), 0.5005))
  ids = jnp.tile(jnp.array([3, 4]), (2, 4, 1))
  targets = TokenTargets(ids, values, None, jnp.zeros((2, 4)))

  def loss(hidden):
    return vocab_losses.topk_kl_loss(
      hidden, embedding, targets, jnp.ones((2, 4)), cap=5.0, temperature=1.0, chunk=CHUNK
    )[0]

  value, grad = jax.jit(jax.value_and_grad(loss))(hidden)
  logq = jax.nn.log_softmax(5 * jnp.tanh(hidden @ embedding.T / 5))[..., 3:5]
  np.testing.assert_allclose(value, jnp.sum(jnp.exp(values) * (values - logq)), rtol=1e-5)
  assert jnp.isfinite(grad).all()


def test_topk_is_below_full_and_meets_it_with_all_tokens():
  case = _case()
  full = case.expected("full")[0]
  values = []
  for num_entries in (1, J, 50, V):
    topk = _topk(case.teacher_log_probs(), num_entries)
    values.append(dataclasses.replace(case, topk=topk).value_and_grads("topk")[0])
  assert values[0] < values[1] < values[2] < full
  np.testing.assert_allclose(values[3], full, rtol=1e-4)


def test_losses_of_equals_vanish():
  case = _case()
  same = dataclasses.replace(case, teacher_hidden=case.hidden, teacher_embedding=case.embedding)
  same = dataclasses.replace(same, topk=_topk(same.teacher_log_probs()))
  for name in ("topk", "full"):
    value, grads = same.value_and_grads(name)
    assert abs(value) < 1e-4
    assert max(jnp.abs(grad).max() for grad in grads) < 1e-5
