"""Batches in our global order: exact epochs, any number of processes and workers, resume."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from three_videos import CONFIG, NUM_EXAMPLES

from vsumjax.contract import Part
from vsumjax.data import pipeline, prompt
from vsumjax.data.augment import AugmentConfig
from vsumjax.data.order import GlobalOrder, MixedOrder
from vsumjax.data.pipeline import sequential_batches, training_batches
from vsumjax.data.sets import DataConfig, DataSet
from vsumjax.data.teacher_cache.reader import CacheReader
from vsumjax.data.teacher_cache.score_records import ScoreIdentity
from vsumjax.data.teacher_cache.token_records import CachedAnswer
from vsumjax.data.teacher_cache.writer import CacheWriter, seal
from vsumjax.data.windows import WindowSource
from vsumjax.types import InputError


def fields_of(batch):
  """Every array of a batch without text by name, teachers included."""
  arrays = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
  teachers = arrays.pop("teachers")
  assert arrays.pop("text") is None
  return arrays | {f"teacher {n}": t.score_logits for n, t in enumerate(teachers)}


def assert_same(batches, others):
  batches, others = [list(map(fields_of, each)) for each in (batches, others)]
  assert len(batches) == len(others)
  for one, other in zip(batches, others, strict=True):
    assert one.keys() == other.keys()
    for name in one:
      assert one[name].dtype == other[name].dtype, name
      assert np.array_equal(one[name], other[name]), name


def train(source, **kwargs):
  defaults = {"batch_size": 4, "start_step": 0, "num_steps": 6, "num_threads": 2}
  return training_batches(source, GlobalOrder(len(source), 5), **defaults | kwargs)


def test_every_example_comes_once_an_epoch(source):
  num_steps = -(-3 * NUM_EXAMPLES // 4)
  rows = np.concatenate([batch.example for batch in train(source, num_steps=num_steps)])
  assert NUM_EXAMPLES % 4, "the batch should not divide the epoch"
  epochs = rows[: 3 * NUM_EXAMPLES].reshape(3, NUM_EXAMPLES)
  assert np.array_equal(np.sort(epochs), np.tile(np.arange(NUM_EXAMPLES), (3, 1)))
  assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_batches_are_their_examples_stacked(source):
  for batch in train(source, num_steps=2):
    for row, example in enumerate(batch.example):
      expected = source[example]
      for name, array in fields_of(batch).items():
        assert np.array_equal(array[row], expected[name]), name
    assert batch.frames.shape == (4, 2, 2, 16, 16, 3)
    assert batch.tokens.shape == batch.input_mask.shape == (4, CONFIG.sequence_length)
    assert batch.targets.shape == (4, 2, 5) and batch.score_pos.shape == (4, 2)
    dtypes = [array.dtype.str[1:] for array in fields_of(batch).values()]
    assert dtypes == ["u1", "i4", "i4", "b1", "i4", "f4", "f4", "i4"]


def concatenated(streams):
  """The global batches of the processes' streams."""
  for parts in zip(*streams, strict=True):
    fields = [fields_of(part) for part in parts]
    yield dataclasses.replace(
      parts[0], **{name: np.concatenate([f[name] for f in fields]) for name in fields[0]}
    )


@pytest.mark.parametrize("process_count", [2, 4])
@pytest.mark.parametrize(
  "make", [train, lambda *a, **kw: sequential_batches(*a, batch_size=4, **kw)]
)
def test_the_stream_does_not_depend_on_the_number_of_processes(source, process_count, make):
  parts = [make(source, process_index=p, process_count=process_count) for p in range(process_count)]
  assert_same(make(source), concatenated(parts))


def test_the_stream_does_not_depend_on_workers_and_threads(source):
  expected = list(train(source, num_threads=0))
  assert_same(expected, train(source, num_threads=3))
  assert_same(expected, train(source, num_workers=2))


AUGMENT = AugmentConfig(crop=0.6, flip=0.5, jitter=0.3, time_shifts=3)


@pytest.fixture(scope="module")
def shifting(videos, tokenizer):
  return WindowSource(videos, CONFIG, tokenizer, targets="histogram", augment=AUGMENT)


def mixed(source, **kwargs):
  """A stream with all that training may do: two data sets mixed, frames changed."""
  parts = [Part(5, 2), Part(NUM_EXAMPLES - 5, 1)]  # two videos and one
  defaults = {"batch_size": 4, "start_step": 0, "num_steps": 6, "num_threads": 2}
  return training_batches(source, MixedOrder(parts, 5), seed=7, **defaults | kwargs)


def grid(*pairs, marks=()):
  return [pytest.param(*pair, marks=marks) for pair in pairs]


@pytest.mark.parametrize(
  ("process_count", "num_workers"),
  [
    *grid((1, 0), (2, 0), (4, 0), (1, 3), (2, 2)),
    *grid((1, 2), (2, 3), (4, 2), (4, 3), marks=pytest.mark.long),
  ],
)
def test_global_batches_are_the_same_on_any_machines(source, shifting, process_count, num_workers):
  parts = [
    mixed(shifting, process_index=p, process_count=process_count, num_workers=num_workers)
    for p in range(process_count)
  ]
  expected = list(mixed(shifting, num_threads=0))
  assert_same(expected, concatenated(parts))
  plain = list(train(source, num_threads=0))
  assert not np.array_equal(expected[0].frames, plain[0].frames)


def test_what_others_decode_changes_nothing(videos, tokenizer):
  """Every thread wants every video at once, so that rows are put off and come later."""
  kinds = {"targets": "histogram", "augment": AUGMENT}
  expected = list(mixed(WindowSource(videos, CONFIG, tokenizer, **kinds), num_threads=0))
  for _ in range(3):
    fresh = WindowSource(videos, CONFIG, tokenizer, **kinds)
    assert_same(expected, mixed(fresh, num_threads=4))


@given(
  num_examples=st.integers(1, 60),
  batch_size=st.sampled_from([4, 8, 12]),
  counts=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=6),
  seed=st.integers(0, 2**40),
)
def test_three_epochs_are_exact_whatever_restarts_there_are(num_examples, batch_size, counts, seed):
  """Every few steps the run goes on with another number of processes."""
  order = GlobalOrder(num_examples, seed)
  num_steps = -(-3 * num_examples // batch_size)
  seen = []
  for step in range(num_steps):
    process_count = counts[step % len(counts)]
    for p in range(process_count):
      rows = pipeline._process_rows(batch_size, p, process_count)
      seen += pipeline._training_examples(order, step, batch_size, rows, 0).tolist()
  epochs = np.array(seen[: 3 * num_examples]).reshape(3, num_examples)
  assert np.array_equal(np.sort(epochs), np.tile(np.arange(num_examples), (3, 1)))


@pytest.mark.parametrize("start_step", [1, 4, 5])
def test_the_stream_goes_on_from_any_step(source, start_step):
  whole = list(train(source))
  parts = [
    train(source, start_step=start_step, num_steps=6 - start_step, process_index=p, process_count=2)
    for p in range(2)
  ]
  assert_same(whole[start_step:], concatenated(parts))


def test_scoring_reads_each_example_once_and_fills_up_with_padding(source):
  for process_count in (1, 4):
    for p in range(process_count):
      rows = slice(p * 4 // process_count, (p + 1) * 4 // process_count)
      batches = list(sequential_batches(source, 4, process_index=p, process_count=process_count))
      expected = np.array([[0, 1, 2, 3], [4, 5, 6, -1]])[:, rows]
      assert [batch.example.tolist() for batch in batches] == expected.tolist()
  padding = list(sequential_batches(source, 4))[-1]
  assert padding.weight[3].tolist() == [0, 0] and padding.weight[:3].sum() == 5
  assert not padding.frames[3].any() and not padding.targets[3].any()
  assert padding.input_mask[3].any()


def test_scoring_can_be_narrowed_to_a_range(source):
  batches = list(sequential_batches(source, 3, start=2, stop=6))
  assert [batch.example.tolist() for batch in batches] == [[2, 3, 4], [5, -1, -1]]


def test_a_batch_that_does_not_divide_is_refused(source):
  with pytest.raises(InputError, match="batch_size: 4"):
    train(source, process_count=3)
  with pytest.raises(InputError, match="batch_size: 4"):
    sequential_batches(source, 4, process_count=3)


def test_targets_nobody_knows_are_refused():
  with pytest.raises(InputError, match=r"data\.targets"):
    DataConfig(sets=(DataSet("m"),), targets="none")


@pytest.mark.parametrize(
  ("wrong", "told"),
  [
    ({"num_workers": -1}, r"data\.num_workers"),
    ({"num_threads": -1}, r"data\.num_threads"),
    ({"cache_bytes": -1}, r"data\.cache_bytes"),
    ({"without": ("audio",)}, r"data\.without"),
    ({"sets": ()}, r"data\.sets"),
    ({"sets": (DataSet("a", 10**9), DataSet("b", 1))}, r"data\.sets: the weights"),
  ],
)
def test_impossible_values_are_refused_by_key(wrong, told):
  with pytest.raises(InputError, match=told):
    DataConfig(**{"sets": (DataSet("m"),)} | wrong)


@pytest.fixture
def teacher(source, tokenizer, tmp_path):
  identity = ScoreIdentity(
    teacher_digest="teacher",
    tokenizer_digest=tokenizer.digest,
    prompt_digest=prompt.prompt_digest(CONFIG, tokenizer),
    examples_digest=source.examples_digest,
    num_examples=len(source),
    window=2,
    num_classes=5,
  )
  writer = CacheWriter(tmp_path, identity, shard_size=4)
  for shard in writer.pending_shards():
    examples = range(shard.start, shard.stop)
    answers = [CachedAnswer(np.full((2, 5), i, np.float32)) for i in examples]
    writer.write_shard(shard, [source.example_key(i) for i in examples], answers)
  seal(tmp_path, identity, shard_size=4)
  return CacheReader(tmp_path, {"teacher_digest": "teacher"})


def test_teachers_answer_the_examples_of_the_batch(videos, tokenizer, teacher):
  source = WindowSource(videos, CONFIG, tokenizer, targets="hard", teachers=(teacher, teacher))
  for batch in [*train(source), *sequential_batches(source, 4)]:
    assert len(batch.teachers) == 2
    for answers in batch.teachers:
      assert answers.score_logits.shape == (4, 2, 5)
      assert np.array_equal(answers.score_logits[:, 0, 0], np.maximum(batch.example, 0))


def test_a_teacher_of_other_examples_is_refused(videos, tokenizer, teacher):
  with pytest.raises(InputError, match="examples_digest"):
    WindowSource(videos[:2], CONFIG, tokenizer, teachers=(teacher,))
  with pytest.raises(InputError, match="prompt_digest"):
    config = dataclasses.replace(CONFIG, text_tokens=61)
    WindowSource(videos, config, tokenizer, teachers=(teacher,))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_turns_out_bad_is_named(videos, tokenizer, tmp_path, num_workers):
  broken = tmp_path / "broken.srt"
  broken.write_text("1\nnot a time\nword\n")
  video = dataclasses.replace(videos[0], transcript=broken)
  source = WindowSource([video], CONFIG, tokenizer)
  with pytest.raises(InputError, match=r"broken\.srt:2"):
    next(sequential_batches(source, 2, num_workers=num_workers))
