import concurrent.futures
import dataclasses
import pathlib
import pickle

import av
import numpy as np
import pytest

from vsumjax.data import pipeline, prompt, teacher_cache, windows
from vsumjax.data.manifest import Labels, Video
from vsumjax.data.pipeline import WindowSource, sequential_batches, training_batches
from vsumjax.data.prompt import PromptConfig
from vsumjax.data.tokenizer import load_tokenizer, train_tokenizer
from vsumjax.types import InputError

CONFIG = PromptConfig(
  window=2,
  segment_s=1.0,
  frames_per_segment=2,
  tokens_per_frame=1,
  image_size=16,
  text_tokens=60,
  title_tokens=8,
  score_tokens=("1", "2", "3", "4", "5"),
)
DURATIONS_S = (5, 3, 4)
NUM_EXAMPLES = 3 + 2 + 2
WINDOW_BYTES = 2 * 2 * 16 * 16 * 3
RATE = 8


def level_of(index, segment):
  """The grey level of a video's frames in one second."""
  return 20 + 30 * segment + 10 * index


def write_video(path, index, seconds, has_sound):
  with av.open(path, "w") as container:
    picture = container.add_stream("mpeg4", rate=RATE, options={"qscale:v": "1"})
    picture.width = picture.height = 32
    picture.pix_fmt = "yuv420p"
    sound = container.add_stream("aac", rate=16_000, layout="mono") if has_sound else None
    for n in range(seconds * RATE):
      pixels = np.full((32, 32, 3), level_of(index, n // RATE), np.uint8)
      container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(picture.encode())
    if sound is not None:
      tone = np.sin(np.arange(seconds * 16_000, dtype=np.float32) * 0.2)[None]
      frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
      frame.sample_rate = 16_000
      container.mux(sound.encode(frame))
      container.mux(sound.encode())


def write_words(path, seconds):
  cues = [f"{n + 1}\n00:00:0{n},000 --> 00:00:0{n + 1},000\nword{n}\n" for n in range(seconds)]
  path.write_text("\n".join(cues))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  for index, seconds in enumerate(DURATIONS_S):
    write_video(folder / f"{index}.mp4", index, seconds, has_sound=index != 1)
    write_words(folder / f"{index}.srt", seconds)
  write_video(folder / "mute0.mp4", 0, DURATIONS_S[0], has_sound=False)
  train_tokenizer([prompt.TEMPLATE, "word talk"] * 3, folder / "t.model", 360, num_markers=4)
  return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
  return load_tokenizer(folder / "t.model")


@pytest.fixture(scope="module")
def videos(folder):
  rng = np.random.default_rng(0)
  return tuple(
    Video(
      id=f"v{index}",
      media=folder / f"{index}.mp4",
      title=f"talk {index}",
      split="train",
      transcript=folder / f"{index}.srt",
      labels=Labels(1.0, rng.integers(1, 6, (3, seconds)).astype(np.int8)),
    )
    for index, seconds in enumerate(DURATIONS_S)
  )


@pytest.fixture(scope="module")
def source(videos, tokenizer):
  return WindowSource(videos, CONFIG, tokenizer, targets="histogram")


def words_of(tokenizer, tokens_T):
  return tokenizer.decode([i for i in tokens_T.tolist() if i < tokenizer.vocab_size])


def fields_of(batch):
  """Every array of a batch by name, teachers included."""
  arrays = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
  teachers = arrays.pop("teachers")
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
  defaults = {"order_seed": 5, "batch_size": 4, "start_step": 0, "num_steps": 6, "num_threads": 2}
  return training_batches(source, **defaults | kwargs)


def test_windows_run_through_the_videos_in_order(source):
  expected = [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (2, 0), (2, 2)]
  assert [tuple(row) for row in source.windows.tolist()] == expected
  assert len(source) == NUM_EXAMPLES
  assert source.spans(1).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_an_example_holds_its_frames_words_and_labels(source, tokenizer, videos):
  row = source[1]
  for n in range(2):
    assert np.abs(row["frames"][n].astype(int) - level_of(0, 2 + n)).max() <= 6
  text = words_of(tokenizer, row["tokens"])
  assert "title: talk 0." in text and "said: word2<loc0001>" in text and "said: word3\n" in text
  assert "tone" in text
  share_C = np.bincount(videos[0].labels.levels_AN[:, 3] - 1, minlength=5) / 3
  assert np.allclose(row["targets"][1], share_C)
  assert row["weight"].tolist() == [1, 1]
  assert row["example"] == 1


def test_what_a_window_lacks_weighs_nothing(source):
  row = source[2]
  assert row["weight"].tolist() == [1, 0]
  assert not row["frames"][1].any() and not row["targets"][1].any()
  slots_and_marker = CONFIG.frames_per_segment * CONFIG.tokens_per_frame + 1
  assert not row["input_mask"][slots_and_marker : 2 * slots_and_marker].any()


def test_hard_targets_are_the_rounded_mean(videos, tokenizer):
  levels_AN = np.array([[1, 2, 5], [2, 2, 5], [2, 1, 3], [1, 5, 4]], np.int8)  # 1.5, 2.5, 4.25
  video = dataclasses.replace(videos[0], labels=Labels(1.0, levels_AN))
  source = WindowSource([video], CONFIG, tokenizer, targets="hard")
  targets = np.concatenate([source[i]["targets"] for i in range(3)])
  assert targets[:3].argmax(axis=1).tolist() == [1, 2, 3]
  assert targets.sum(axis=1).tolist() == [1, 1, 1, 0, 0, 0]
  assert np.concatenate([source[i]["weight"] for i in range(3)]).tolist() == [1, 1, 1, 0, 0, 0]


def test_without_targets_every_segment_weighs_and_labels_are_not_needed(videos, tokenizer):
  unlabelled = [dataclasses.replace(video, labels=None) for video in videos]
  source = WindowSource(unlabelled, CONFIG, tokenizer)
  weights = np.array([source[i]["weight"] for i in range(len(source))])
  assert weights.sum() == sum(DURATIONS_S)
  assert not any(source[i]["targets"].any() for i in range(len(source)))
  with pytest.raises(InputError, match=r"video 'v0' .*0\.mp4.* has no labels"):
    WindowSource(unlabelled, CONFIG, tokenizer, targets="histogram")


def test_words_nobody_knows_are_refused(videos, tokenizer):
  with pytest.raises(InputError, match=r"without: .* 'audio'"):
    WindowSource(videos, CONFIG, tokenizer, without=frozenset({"audio"}))
  with pytest.raises(InputError, match=r"targets: .* 'soft'"):
    WindowSource(videos, CONFIG, tokenizer, targets="soft")
  with pytest.raises(InputError, match=r"data\.targets"):
    pipeline.DataConfig(manifest="m", targets="none")


def test_an_input_left_out_is_as_if_the_file_lacked_it(videos, tokenizer, folder):
  video = videos[0]
  lacks = {
    "sound": dataclasses.replace(video, media=folder / "mute0.mp4"),
    "text": dataclasses.replace(video, title="", transcript=None),
  }
  full = WindowSource([video], CONFIG, tokenizer)[0]
  for name, lacking in lacks.items():
    without = WindowSource([video], CONFIG, tokenizer, without=frozenset({name}))[0]
    assert np.array_equal(
      without["tokens"], WindowSource([lacking], CONFIG, tokenizer)[0]["tokens"]
    )
    assert not np.array_equal(without["tokens"], full["tokens"])
    assert np.array_equal(without["frames"], full["frames"])
  blind = WindowSource([video], CONFIG, tokenizer, without=frozenset({"frames"}))[0]
  assert not blind["frames"].any() and full["frames"].any()
  assert np.array_equal(blind["tokens"], full["tokens"])


def test_the_digest_follows_what_a_teacher_sees(videos, tokenizer, folder, tmp_path):
  def digest(video=videos[0], config=CONFIG, **kwargs):
    return WindowSource([video], config, tokenizer, **kwargs).examples_digest

  padded = tmp_path / "padded.mp4"
  padded.write_bytes(videos[0].media.read_bytes() + b"\0\0\0\x10free" + bytes(8))
  other_words = tmp_path / "other.srt"
  other_words.write_text((folder / "0.srt").read_text().replace("word1", "WORD1"))
  changed = [
    digest(),
    digest(dataclasses.replace(videos[0], id="other")),
    digest(dataclasses.replace(videos[0], title="other")),
    digest(dataclasses.replace(videos[0], media=padded)),
    digest(dataclasses.replace(videos[0], transcript=other_words)),
    digest(dataclasses.replace(videos[0], transcript=None)),
    digest(config=dataclasses.replace(CONFIG, segment_s=2.5)),
    digest(config=dataclasses.replace(CONFIG, window=3)),
    digest(without=frozenset({"sound"})),
  ]
  assert len(set(changed)) == len(changed)
  moved = tmp_path / "moved.mp4"
  moved.write_bytes(videos[0].media.read_bytes())
  assert digest(dataclasses.replace(videos[0], media=moved, labels=None)) == digest()
  assert digest(targets="hard") == digest()


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


@pytest.fixture
def num_decoded(monkeypatch):
  """How often each media file was decoded."""
  counts = {}
  iter_frames = windows.video.iter_frames

  def counted(path, *args):
    counts[pathlib.Path(path).name] = counts.get(pathlib.Path(path).name, 0) + 1
    return iter_frames(path, *args)

  monkeypatch.setattr(windows.video, "iter_frames", counted)
  return counts


def test_a_video_is_decoded_once_whoever_asks(videos, tokenizer, num_decoded):
  source = WindowSource(videos, CONFIG, tokenizer)
  assert not num_decoded
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    rows = list(pool.map(source.__getitem__, list(range(NUM_EXAMPLES)) * 4))
  assert num_decoded == {"0.mp4": 1, "1.mp4": 1, "2.mp4": 1}
  assert [int(row["example"]) for row in rows] == list(range(NUM_EXAMPLES)) * 4


@pytest.mark.parametrize("cache_bytes", [0, 5 * WINDOW_BYTES, 8 * WINDOW_BYTES])
def test_a_bounded_cache_changes_no_example(videos, tokenizer, source, num_decoded, cache_bytes):
  bounded = WindowSource(videos, CONFIG, tokenizer, targets="histogram", cache_bytes=cache_bytes)
  for example in np.random.default_rng(0).permutation(NUM_EXAMPLES).tolist() * 2:
    row = bounded[example]
    assert all(np.array_equal(row[name], source[example][name]) for name in row)
    assert 0 <= bounded._cache.used_bytes <= cache_bytes
  assert num_decoded["0.mp4"] > 1


def test_a_pickled_source_is_the_same_without_its_cache(source):
  source[0]
  pickled = pickle.dumps(source)
  assert len(pickled) < 20_000 < source._cache.used_bytes
  copy = pickle.loads(pickled)
  assert copy.examples_digest == source.examples_digest
  assert all(np.array_equal(copy[3][name], source[3][name]) for name in source[3])


def test_an_example_cannot_change_the_cache(source):
  with pytest.raises(ValueError, match="read-only"):
    source[0]["frames"][:] = 0


@pytest.fixture
def teacher(source, tokenizer, tmp_path):
  identity = teacher_cache.CacheIdentity(
    teacher_digest="teacher",
    tokenizer_digest=tokenizer.digest,
    prompt_digest=prompt.prompt_digest(CONFIG, tokenizer),
    examples_digest=source.examples_digest,
    num_examples=len(source),
    window=2,
    num_classes=5,
  )
  writer = teacher_cache.CacheWriter(tmp_path, identity, shard_size=4)
  for shard in writer.pending_shards():
    examples = range(shard.start, shard.stop)
    logits = np.stack([np.full((2, 5), i, np.float32) for i in examples])
    writer.write_shard(shard, [source.example_key(i) for i in examples], logits)
  teacher_cache.seal(tmp_path, identity, shard_size=4)
  return teacher_cache.CacheReader(tmp_path, {"teacher_digest": "teacher"})


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
