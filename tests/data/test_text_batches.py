"""Texts of teachers' caches on their way into batches."""

import dataclasses

import jax
import numpy as np
import pytest
from three_videos import CONFIG

from vsumjax.data import prompt
from vsumjax.data.pipeline import sequential_batches
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer, CachedText
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.data.windows import WindowSource
from vsumjax.types import InputError

Y, J = 4, 3


def text_of(example, shift=0):
  """Of one to four tokens; ids and values tell example, token and entry."""
  length = example % Y + 1
  place = 100 * example + 10 * np.arange(length)
  ids = (place[:, None] + np.arange(J)).astype(np.int32)
  exact = place.astype(np.float32)
  tokens = place.astype(np.int32) + shift
  return CachedText(tokens, ids, -ids.astype(np.float32) / 1024, exact, exact / 2)


@pytest.fixture(scope="module")
def identity(source, tokenizer):
  return ScoreIdentity(
    teacher_digest="teacher",
    tokenizer_digest=tokenizer.digest,
    prompt_digest=prompt.prompt_digest(CONFIG, tokenizer),
    examples_digest=source.examples_digest,
    num_examples=len(source),
    window=2,
    num_classes=5,
    text_kind="topk",
    text_source="writer",
    text_tokens=Y,
    text_entries=J,
    text_temperature=2.0,
    vocab_size=1000,
  )


@pytest.fixture(scope="module")
def make_cache(source, identity, tmp_path_factory):
  """`make_cache(shift=0, **changes of the identity)`: a reader."""

  def make(shift=0, **changes):
    folder, changed = tmp_path_factory.mktemp("cache"), dataclasses.replace(identity, **changes)
    writer = CacheWriter(folder, changed, shard_size=4)
    for shard in writer.pending_shards():
      examples = range(shard.start, shard.stop)
      answers = [
        CachedAnswer(
          np.full((2, 5), i, np.float32), text_of(i, shift) if changed.text_kind else None
        )
        for i in examples
      ]
      writer.write_shard(shard, [source.example_key(i) for i in examples], answers)
    seal(folder, changed, shard_size=4)
    return CacheReader(folder, {})

  return make


@pytest.fixture(scope="module")
def readers(make_cache):
  """A teacher with texts, one without, and another with these texts."""
  scores = {"text_kind": "", "text_source": "", "text_tokens": 0, "text_entries": 0}
  return make_cache(), make_cache(**scores, vocab_size=0), make_cache(teacher_digest="mentor")


def make_source(videos, tokenizer, readers, **kwargs):
  return WindowSource(videos, CONFIG, tokenizer, targets="hard", teachers=readers, **kwargs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_hold_the_texts_and_what_is_said_of_them(videos, tokenizer, readers, num_workers):
  source = make_source(videos, tokenizer, readers, with_text=True)
  seen = 0
  for batch in sequential_batches(source, 4, num_workers=num_workers):
    T = CONFIG.sequence_length
    assert batch.tokens.shape == batch.input_mask.shape == batch.mask_ar.shape == (4, T + Y - 1)
    assert batch.teachers[1].tokens is None
    for row, example in enumerate(batch.example.tolist()):
      length = example % Y + 1 if example >= 0 else 0
      expected = text_of(max(example, 0))
      assert batch.text.weight[row].tolist() == [1] * length + [0] * (Y - length)
      assert np.array_equal(batch.text.ids[row, :length], expected.tokens[:length])
      assert (batch.text.ids[row, length:] == tokenizer.pad_id).all()
      for teacher in (0, 2):
        said = batch.teachers[teacher].tokens
        for name in ("ids", "logsumexp", "entropy"):
          array = getattr(said, name)[row]
          assert np.array_equal(array[:length], getattr(expected, name)[:length])
          assert not array[length:].any()
        np.testing.assert_allclose(said.values[row, :length], expected.values[:length], rtol=1e-3)
        assert said.ids.shape == said.values.shape == (4, Y, J)
      seen += example >= 0
  assert seen == len(source) and seen % 4, "the last batch should have a padding row"


def test_the_prompt_is_where_it_was(videos, tokenizer, readers):
  plain = make_source(videos, tokenizer, readers)
  forced = make_source(videos, tokenizer, readers, with_text=True)
  T = CONFIG.sequence_length
  for one, other in zip(sequential_batches(plain, 4), sequential_batches(forced, 4), strict=True):
    assert one.text is None and all(said.tokens is None for said in one.teachers)
    for name in ("tokens", "mask_ar", "input_mask"):
      assert np.array_equal(getattr(one, name), getattr(other, name)[:, :T])
    for name in ("frames", "score_pos", "targets", "weight", "example"):
      assert np.array_equal(getattr(one, name), getattr(other, name))
    scores = [[said.score_logits for said in batch.teachers] for batch in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *scores)
    last = np.array([np.flatnonzero(mask).max() for mask in one.input_mask])
    assert np.array_equal(other.text.position[:, 0], last)
  assert plain.examples_digest == forced.examples_digest


def test_texts_are_asked_of_teachers_that_have_them(videos, tokenizer, readers):
  source = make_source(videos, tokenizer, readers[1:2], with_text=True)
  batch = next(sequential_batches(source, 4))
  assert batch.text is None and batch.tokens.shape == (4, CONFIG.sequence_length)


@pytest.mark.parametrize(
  ("field", "value"), [("text_source", "somebody else"), ("text_tokens", Y + 1)]
)
def test_teachers_of_other_texts_are_refused_by_name(
  videos, tokenizer, readers, make_cache, field, value
):
  readers = readers[0], make_cache(**{field: value})
  with pytest.raises(InputError, match=f"{field} is {value} in this cache and"):
    make_source(videos, tokenizer, readers, with_text=True)
  assert make_source(videos, tokenizer, readers)[0]["teachers"]


def test_different_texts_of_one_source_are_refused_when_they_are_met(
  videos, tokenizer, readers, make_cache
):
  source = make_source(videos, tokenizer, (readers[0], make_cache(shift=1)), with_text=True)
  with pytest.raises(InputError, match="different texts of an example"):
    source[0]
