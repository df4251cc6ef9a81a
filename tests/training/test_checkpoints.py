"""What is saved comes back: values, shardings and what a run is."""

import errno
import gc
import os
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vsumjax import sharding
from vsumjax.training.checkpoints import Checkpoints
from vsumjax.training.state import TrainState
from vsumjax.types import InputError

META = {"train.seed": 3, "exits": [1, 2], "digest": "ab", "nothing": None}


def _state(step=5):
  kernel = jax.random.normal(jax.random.key(step), (8, 4))
  params = {"dense": {"kernel": kernel, "bias": jnp.arange(4.0)}}
  opt_state = ({"mu": jax.tree.map(lambda x: x / 3, params)}, ())
  return TrainState(jnp.asarray(step, jnp.int32), params, opt_state)


def _abstract(tree, *axes, devices=1):
  mesh = sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:devices])
  replicated, split = (
    NamedSharding(mesh, PartitionSpec()),
    NamedSharding(mesh, PartitionSpec(*axes)),
  )
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split if x.ndim > 1 else replicated),
    tree,
  )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A workdir with a checkpoint of step 5."""
  workdir = tmp_path_factory.mktemp("saved")
  saver = Checkpoints(workdir)
  saver.save(_state(), 5, META)
  saver.close()
  return workdir


@pytest.fixture
def saver(saved):
  saver = Checkpoints(saved)
  yield saver
  saver.close()


def test_state_and_meta_come_back_to_the_bit(saver):
  assert saver.latest_step() == 5
  assert saver.load_meta(5) == META
  restored = saver.restore(5, _abstract(_state()))
  jax.tree.map(np.testing.assert_array_equal, restored, _state())
  assert jax.tree.structure(restored) == jax.tree.structure(_state())


def test_leaves_go_to_the_shardings_asked_for(saver):
  restored = saver.restore(5, _abstract(_state(), "data", devices=8))
  kernel = restored.params["dense"]["kernel"]
  assert [shard.data.shape for shard in kernel.addressable_shards] == [(1, 4)] * 8
  np.testing.assert_array_equal(kernel, _state().params["dense"]["kernel"])


def test_parameters_alone_come_back_without_the_optimizer(saver):
  params = saver.restore_params(5, _abstract(_state().params, "data", devices=8))
  jax.tree.map(np.testing.assert_array_equal, params, _state().params)
  assert len(params["dense"]["kernel"].sharding.device_set) == 8


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda p: {"dense": p["dense"] | {"kernel": jnp.zeros((8, 5))}},
      r"params/dense/kernel is \(8, 4\) there and \(8, 5\) in the config",
    ),
    (
      lambda p: p | {"more": jnp.zeros(2)},
      r"params/more is absent there and \(2,\) in the config",
    ),
    (
      lambda p: {"dense": {"kernel": p["dense"]["kernel"]}},
      r"params/dense/bias is \(4,\) there and absent in the config",
    ),
  ],
)
def test_another_architecture_is_refused_by_leaf(saver, change, message):
  params = change(_state().params)
  with pytest.raises(InputError, match="5: checkpoint of another architecture: " + message):
    saver.restore_params(5, _abstract(params))
  with pytest.raises(InputError, match=message):
    saver.restore(5, _abstract(_state().replace(params=params)))


def test_whether_the_evaluation_is_done_comes_back(saver, tmp_path):
  assert saver.is_evaluated(5)
  other = Checkpoints(tmp_path)
  other.save(_state(), 5, META, is_evaluated=False)
  other.wait()
  assert not other.is_evaluated(5)
  other.close()


def test_steps_are_kept_and_deleted_as_told(tmp_path):
  saver = Checkpoints(tmp_path, folder="kept", max_to_keep=None)
  for step in (1, 2, 3):
    saver.save({"params": _state(step).params}, step, META)
  saver.delete(2)
  saver.close()
  saver = Checkpoints(tmp_path, folder="kept", max_to_keep=None, create=False)
  assert saver.steps() == [1, 3]
  saver.close()


def test_a_step_is_saved_once(saver):
  """Orbax would leave it out silently if it were asked whether to save."""
  with pytest.raises(ValueError, match="already exists"):
    saver.save(_state(), 5, META)


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ValueError("RESOURCE_EXHAUSTED: Error writing x:\n [OS error 28: No space left on device]"),
  ],
)
def test_a_full_disk_is_told_in_one_line(saver, monkeypatch, error):
  def refuse(*args, **kwargs):
    raise error

  monkeypatch.setattr(saver._manager, "save", refuse)
  monkeypatch.setattr(saver._manager, "wait_until_finished", refuse)
  for act in (lambda: saver.save(_state(6), 6, META), saver.wait):
    with pytest.raises(
      OSError, match="checkpoints: a checkpoint cannot be written: No sp"
    ) as raised:
      act()
    assert "\n" not in str(raised.value)
  monkeypatch.undo()


def test_a_step_that_is_not_there_is_refused(saver):
  with pytest.raises(InputError, match="checkpoints/6: no such checkpoint"):
    saver.load_meta(6)


def test_the_newest_two_are_kept(tmp_path):
  saver = Checkpoints(tmp_path)
  for step in (1, 2, 3):
    saver.save(_state(step), step, META)
  saver.close()
  names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert names == {"2", "3"}


def test_what_a_killed_process_left_is_no_checkpoint(saved, tmp_path):
  """Orbax writes to a folder of another name and renames it: the rest of one changes nothing."""
  saver = Checkpoints(tmp_path)
  saver.save(_state(1), 1, META)
  saver.close()
  folder = tmp_path / "checkpoints"
  (folder / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  saver = Checkpoints(tmp_path)
  assert saver.latest_step() == 1
  saver.save(_state(2), 2, META)
  saver.close()
  saver = Checkpoints(tmp_path)
  assert saver.latest_step() == 2
  jax.tree.map(np.testing.assert_array_equal, saver.restore(2, _abstract(_state(2))), _state(2))
  saver.close()


@pytest.mark.parametrize(
  ("file", "read"),
  [
    ("meta/metadata", lambda saver: saver.load_meta(5)),
    ("state/_METADATA", lambda saver: saver.restore(5, _abstract(_state()))),
    ("state/_METADATA", lambda saver: saver.restore_params(5, _abstract(_state().params))),
    ("state/d/*", lambda saver: saver.restore(5, _abstract(_state()))),
    ("state/d/*", lambda saver: saver.restore_params(5, _abstract(_state().params))),
  ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named(file, read, saved, tmp_path):
  shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
  found = list((tmp_path / "checkpoints" / "5").glob(file))
  assert found
  for path in found:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  saver = Checkpoints(tmp_path)
  with pytest.raises(InputError, match=r"checkpoints/5: the checkpoint is damaged"):
    read(saver)
  saver.close()
  # The reads beside the one that failed end after Orbax closed its event loop; here, not in the
  # next test.
  time.sleep(0.2)
  gc.collect()
