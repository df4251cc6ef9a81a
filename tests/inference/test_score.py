"""Scores of whole videos: in order, from the right rows, once compiled."""

import jax
import numpy as np
import pytest

from vsumjax import sharding
from vsumjax.data import pipeline
from vsumjax.experiment.workdir import load_student
from vsumjax.inference import score
from vsumjax.inference.score import Readout


@pytest.fixture(scope="module")
def student(trained):
  return load_student(trained)


@pytest.fixture(scope="module")
def source(student):
  return student.experiment.task.source("train")


@pytest.fixture(scope="module")
def readouts(student, source):
  return student.scorer(16).read(source, lambda done, total, note: None)


def test_every_segment_of_every_video_is_scored(student, source, readouts):
  assert len(readouts) == len(source.videos) == 3
  for index, readout in enumerate(readouts):
    num_segments = len(source.spans(index))
    assert readout.logits_ENC.shape == (3, num_segments, 5)
    assert readout.num_exits == 3
    np.testing.assert_array_equal(readout.span_s_N2, source.spans(index))
  # A window has 2 segments; one of the videos ends in half a window.
  assert any(len(readout.span_s_N2) % 2 for readout in readouts)


def test_a_segment_gets_the_logits_of_its_own_window(student, source, readouts):
  """Each window alone, on one device, straight through the model."""
  params = jax.device_get(student.params)
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])
  apply = jax.jit(
    lambda params, batch: student.experiment.task.model.apply({"params": params}, batch)
  )
  for batch in pipeline.sequential_batches(source, 1):
    with sharding.use_mesh(mesh):
      logits_ENC = apply(params, batch).logits[:, 0]
    video, first = source.window(int(batch.example[0]))
    expected = readouts[video].logits_ENC[:, first : first + 2]
    np.testing.assert_allclose(logits_ENC[:, : expected.shape[1]], expected, atol=1e-4)
  differences = np.ptp(np.concatenate([r.logits_ENC for r in readouts], axis=1), axis=1)
  assert differences.max() > 1e-2  # else any order would pass


@pytest.mark.parametrize("batch_size", [8, 24])
def test_neither_batch_size_nor_padding_rows_change_a_score(student, source, readouts, batch_size):
  seen = []
  again = student.scorer(batch_size).read(source, lambda *update: seen.append(update))
  for one, other in zip(readouts, again, strict=True):
    np.testing.assert_allclose(one.logits_ENC, other.logits_ENC, atol=1e-4)
  assert seen[-1] == (len(source), len(source), "windows")
  assert (len(source) % batch_size > 0) == (batch_size == 24)  # then there are padding rows
  assert len(seen) == -(-len(source) // batch_size)


def test_a_batch_size_that_does_not_divide_is_raised_to_one_that_does(student):
  assert student.experiment.mesh.size == 8
  assert student.scorer(9).batch_size == 16
  assert student.scorer(8).batch_size == 8


def test_another_scorer_of_the_model_compiles_nothing(student, source, readouts):
  before = score.forward._cache_size()
  student.scorer(16).read(source, lambda *update: None)
  assert score.forward._cache_size() == before > 0


def test_the_score_is_the_expected_level():
  logits = np.log([[[0.1, 0.2, 0.3, 0.4], [1.0, 1e-9, 1e-9, 1e-9]], [[0.25] * 4] * 2])
  readout = Readout(logits.astype(np.float32) + 500.0, np.array([[0.0, 2.0], [2.0, 4.0]]))
  first, second = readout.at_exit(0), readout.at_exit(1)
  np.testing.assert_allclose(first.score, [3.0, 1.0], rtol=1e-4)
  np.testing.assert_allclose(second.score, [2.5, 2.5], rtol=1e-4)
  assert first.exit.tolist() == [0, 0]
  assert second.exit.tolist() == [1, 1]
  np.testing.assert_array_equal(first.span_s, readout.span_s_N2)
  assert first.score.dtype == np.float32
