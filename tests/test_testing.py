"""The helpers that tests trust."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsumjax import testing


@pytest.mark.parametrize(("window", "frames"), [(1, 1), (3, 2)])
def test_random_batch_is_what_the_pipeline_makes(window, frames):
  batch = testing.random_batch(rows=3, window=window, frames=frames, teachers=2)
  assert batch.frames.shape == (3, window, frames, 16, 16, 3)
  slots = (batch.tokens == testing.IMAGE_ID).sum(axis=1)
  assert set(slots.tolist()) == {window * frames * testing.TOKENS_PER_FRAME}
  np.testing.assert_allclose(batch.targets.sum(-1), 1, rtol=1e-6)
  read = np.take_along_axis(np.asarray(batch.input_mask), np.asarray(batch.score_pos), axis=1)
  assert read.all()  # no segment is read at padding
  assert not batch.input_mask.all()
  assert len(batch.teachers) == 2
  if window > 1:
    markers = np.take_along_axis(np.asarray(batch.tokens), np.asarray(batch.score_pos), axis=1)
    np.testing.assert_array_equal(markers, [[40 + n for n in range(window)]] * 3)


def test_random_batch_depends_on_the_seed_alone():
  same, again, other = (testing.random_batch(seed) for seed in (1, 1, 2))
  jax.tree.map(np.testing.assert_array_equal, same, again)
  assert (np.asarray(same.frames) != np.asarray(other.frames)).any()


def _step(state, batch):
  return {"w": state["w"] + batch}, {"loss": (jnp.sum(batch), jnp.ones(()))}


STATE, BATCH = {"w": jnp.zeros(3)}, jnp.ones(3)


def test_a_step_that_keeps_its_specs_passes():
  testing.assert_step_specs(_step, STATE, BATCH)


@pytest.mark.parametrize(
  "step",
  [
    lambda s, b: ({"w": s["w"].astype(jnp.bfloat16)}, {}),
    lambda s, b: ({"w": s["w"][:2]}, {}),
    lambda s, b: ({"v": s["w"]}, {}),
    lambda s, b: (s, {"loss": (b, jnp.ones(()))}),
  ],
  ids=["dtype", "shape", "tree", "metric"],
)
def test_a_step_that_does_not_is_caught(step):
  with pytest.raises(AssertionError):
    testing.assert_step_specs(step, STATE, BATCH)


def test_rounding_is_a_few_units_of_the_largest_value():
  x = jnp.array([1000.0, 1e-3])
  ulp = 1000 * np.finfo(np.float32).eps
  testing.assert_same_up_to_rounding({"a": x.at[1].add(30 * ulp)}, {"a": x})
  for other in (x.at[1].add(40 * ulp), x.astype(jnp.float16), x[:1], x.at[0].set(jnp.nan)):
    with pytest.raises(AssertionError):
      testing.assert_same_up_to_rounding({"a": other}, {"a": x})
