"""Fixtures of the jobs."""

import contextlib

import pytest

from vsumjax.data.teacher_cache.writer import CacheWriter


@pytest.fixture
def interrupted_writer():
  """`with interrupted_writer(): ...`: Ctrl-C comes when the second shard is to be written."""

  @contextlib.contextmanager
  def interrupted():
    writes, write_shard = [], CacheWriter.write_shard

    def write_one(self, shard, keys, answers):
      if len(writes) == 1:
        raise KeyboardInterrupt
      writes.append(shard.index)
      write_shard(self, shard, keys, answers)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
      patch.setattr(CacheWriter, "write_shard", write_one)
      yield

  return interrupted
