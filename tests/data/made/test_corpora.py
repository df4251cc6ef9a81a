import dataclasses
import hashlib
import json
import time

import numpy as np
import pytest
from scipy import stats

from vsumjax.data import manifest
from vsumjax.data.made import corpora
from vsumjax.media import audio, demux, segments, subtitles, video
from vsumjax.types import InputError

SMALL = corpora.CorpusConfig(
  num_train=1, num_validation=0, num_test=1, min_s=6.0, max_s=10.0, height=48, width=64
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """The path of the manifest of a corpus of two videos."""
  return corpora.make_corpus(tmp_path_factory.mktemp("corpus"), SMALL)


def kendall_tau(left, right):
  tau = stats.kendalltau(left, right).statistic
  return 0.0 if np.isnan(tau) else tau


def agreement(plans, score_of):
  """Mean tau of a video's score f64[N] with each annotator, over annotators and videos."""
  return np.mean(
    [kendall_tau(score_of(plan), levels_N) for plan in plans for levels_N in plan.levels_AN]
  )


def frames_digest(path):
  digest = hashlib.blake2b()
  for frame in video.iter_frames(
    path, np.arange(0.05, video.probe(path).duration_s, 0.1), (48, 64)
  ):
    digest.update(frame.tobytes())
  return digest.hexdigest()


def test_corpus_is_a_manifest_of_playable_media(corpus):
  videos = manifest.load_manifest(corpus).videos
  assert [item.split for item in videos] == ["train", "test"]
  assert [item.id for item in videos] == ["train_000", "test_000"]
  for item, plan in zip(videos, corpora.plan_videos(SMALL), strict=True):
    num_shots = len(plan.scene_N)
    info = video.probe(item.media)
    assert info.duration_s == pytest.approx(num_shots * corpora.SHOT_S, abs=0.1)
    assert (info.width, info.height, info.fps, info.has_audio) == (64, 48, 10, True)
    sound = sum(len(chunk) for chunk in audio.iter_audio(item.media)) / audio.SAMPLE_RATE
    assert sound == pytest.approx(info.duration_s, abs=0.1)
    assert item.labels.unit_s == 2.0
    np.testing.assert_array_equal(item.labels.levels_AN, plan.levels_AN)
    assert item.labels.levels_AN.shape == (20, num_shots)
    spans = segments.cut(num_shots * corpora.SHOT_S, corpora.SHOT_S)
    assert (
      tuple(
        said.words for said in subtitles.align(subtitles.load_transcript(item.transcript), spans)
      )
      == plan.sentences
    )


def test_codecs_are_the_usual_ones(corpus):
  with demux.open_media(manifest.load_manifest(corpus).videos[0].media) as container:
    assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]


def test_same_seed_gives_the_same_corpus_and_another_seed_another(corpus, tmp_path):
  def contents(path):
    videos = manifest.load_manifest(path).videos
    texts = [path.read_bytes(), *(item.transcript.read_bytes() for item in videos)]
    return texts, [frames_digest(item.media) for item in videos]

  again = contents(corpora.make_corpus(tmp_path / "same", SMALL))
  assert again == contents(corpus)
  other = contents(corpora.make_corpus(tmp_path / "other", dataclasses.replace(SMALL, seed=1)))
  for same, different in zip(again, other, strict=True):
    assert not set(same) & set(different)


def test_finished_corpus_is_not_made_again(corpus):
  media = manifest.load_manifest(corpus).videos[0].media
  before = media.stat().st_mtime_ns, corpus.stat().st_mtime_ns
  seen = []
  start_s = time.process_time()
  assert corpora.make_corpus(corpus.parent, SMALL, lambda *done: seen.append(done)) == corpus
  assert time.process_time() - start_s < 1
  assert (media.stat().st_mtime_ns, corpus.stat().st_mtime_ns) == before
  assert seen == [(2, 2)]


def test_unfinished_corpus_is_completed(tmp_path):
  path = corpora.make_corpus(tmp_path, SMALL)
  first, second = manifest.load_manifest(path).videos
  kept, text = second.media.stat().st_mtime_ns, path.read_bytes()
  digest = frames_digest(first.media)
  first.media.unlink()
  (first.media.parent / f".{first.media.name}.tmp").write_bytes(b"half a video")
  path.unlink()
  seen = []
  corpora.make_corpus(tmp_path, SMALL, lambda *done: seen.append(done))
  assert seen == [(1, 2), (2, 2)]
  assert second.media.stat().st_mtime_ns == kept
  assert path.read_bytes() == text
  assert frames_digest(first.media) == digest
  names = {file.name for file in first.media.parent.iterdir()}
  assert names == {"train_000.mp4", "train_000.srt", "test_000.mp4", "test_000.srt"}


def test_corpus_of_another_config_is_refused(corpus):
  told = r"corpus\.json: the folder holds a corpus with fps 10, asked for is 12"
  with pytest.raises(InputError, match=told):
    corpora.make_corpus(corpus.parent, dataclasses.replace(SMALL, fps=12))


def test_damaged_marker_is_refused(tmp_path):
  (tmp_path / "corpus.json").write_text('{"recipe"')
  with pytest.raises(InputError, match=r"corpus\.json: is damaged"):
    corpora.make_corpus(tmp_path, SMALL)


@pytest.mark.parametrize(
  ("field", "value"),
  [("num_train", -1), ("fps", 0), ("height", 47), ("max_s", 5.0), ("min_s", float("nan"))],
)
def test_impossible_config_names_the_field(field, value):
  with pytest.raises(InputError, match=field):
    dataclasses.replace(SMALL, **{field: value})


def test_default_corpus_has_the_size_and_lengths_asked_for():
  plans = corpora.plan_videos(corpora.CorpusConfig())
  assert len(plans) == len({plan.id for plan in plans}) == 92
  durations_s = [corpora.SHOT_S * len(plan.scene_N) for plan in plans]
  assert min(durations_s) >= 20
  assert max(durations_s) <= 60
  levels = np.concatenate([plan.levels_AN.ravel() for plan in plans])
  assert set(levels) == {1, 2, 3, 4, 5}
  assert np.bincount(levels).max() < 0.4 * len(levels)


def test_spoken_vocabulary_is_small_and_sentences_vary():
  sentences = [
    text for plan in corpora.plan_videos(corpora.CorpusConfig()) for text in plan.sentences
  ]
  assert 100 <= len({word for text in sentences for word in text.split()}) <= 200
  assert len(set(sentences)) > 0.9 * len(sentences)


def test_more_videos_leave_those_there_unchanged():
  few, many = (
    corpora.plan_videos(corpora.CorpusConfig(num_train=num_train)) for num_train in (3, 5)
  )
  left, right = ({plan.id: plan.sentences for plan in plans} for plans in (few, many))
  assert left == {name: right[name] for name in left}


def test_annotators_agree_as_much_as_people_do():
  plans = corpora.plan_videos(corpora.CorpusConfig())
  ceiling, pairwise = [], []
  for plan in plans:
    levels_AN = plan.levels_AN.astype(int)
    total_N = levels_AN.sum(axis=0)
    ceiling += [kendall_tau(total_N - levels_N, levels_N) for levels_N in levels_AN]
    pairwise += [
      kendall_tau(levels_AN[left], levels_AN[right]) for left in range(20) for right in range(left)
    ]
  assert 0.50 <= np.mean(ceiling) <= 0.60
  assert 0.30 <= np.mean(pairwise) <= 0.40


def test_each_modality_carries_a_part_and_none_carries_all():
  plans = corpora.plan_videos(corpora.CorpusConfig())
  everything = agreement(plans, lambda plan: plan.strength_N3.sum(axis=1))
  assert everything > 0.5
  for modality in range(3):
    alone = agreement(plans, lambda plan, modality=modality: plan.strength_N3[:, modality])
    without = agreement(
      plans, lambda plan, modality=modality: np.delete(plan.strength_N3, modality, 1).sum(axis=1)
    )
    assert 0.2 < alone < 0.65 * everything
    assert alone < without < 0.85 * everything


def test_place_in_the_video_says_nothing():
  plans = corpora.plan_videos(corpora.CorpusConfig())
  shots = [np.arange(len(plan.scene_N)) for plan in plans]
  centre = {plan.id: -np.abs(shot - shot[-1] / 2) for plan, shot in zip(plans, shots, strict=True)}
  assert abs(agreement(plans, lambda plan: centre[plan.id])) < 0.06


def test_what_is_said_can_be_read():
  exciting = {word for _, words in corpora._SLOTS for word in words.split()}
  for plan in corpora.plan_videos(SMALL):
    counts = [sum(word in exciting for word in text.split()) for text in plan.sentences]
    np.testing.assert_array_equal(counts, np.round(4 * plan.strength_N3[:, 2]))


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
  """For every shot of a few videos: strengths, mean of the frames, phrase."""
  config = dataclasses.replace(SMALL, num_train=4, num_test=0, min_s=30.0, max_s=30.0)
  path = corpora.make_corpus(tmp_path_factory.mktemp("observed"), config)
  spans = segments.cut(30.0, corpora.SHOT_S)
  times_s = segments.frame_times(spans, 2)
  strengths, redness, phrases = [], [], []
  for item, plan in zip(
    manifest.load_manifest(path).videos, corpora.plan_videos(config), strict=True
  ):
    strengths.append(plan.strength_N3)
    for frame in video.iter_frames(item.media, times_s.ravel(), (48, 48)):
      warm = frame[..., 0].astype(int) - frame[..., 2] > 100
      redness.append(warm.mean())
    phrases += audio.describe_spans(item.media, spans)
  return np.concatenate(strengths), np.reshape(redness, (-1, 2)).mean(axis=1), phrases


def test_what_is_seen_can_be_seen(observed):
  strengths, redness, _ = observed
  assert stats.spearmanr(strengths[:, 0], redness).statistic > 0.9
  assert redness[strengths[:, 0] < 0.12].max() < 0.01


def test_what_is_heard_comes_out_in_other_words(observed):
  strengths, _, phrases = observed
  heard = {}
  for phrase, strength in zip(phrases, strengths[:, 1], strict=True):
    heard.setdefault(phrase, []).append(strength)
  assert len(heard) >= 4
  mean_of = {phrase: np.mean(values) for phrase, values in heard.items()}
  told = [mean_of[phrase] for phrase in phrases]
  assert np.corrcoef(told, strengths[:, 1])[0, 1] > 0.9
  assert mean_of["very loud noise"] > 0.75


def test_picture_cuts_where_the_scene_changes(corpus):
  (item, *_), (plan, *_) = manifest.load_manifest(corpus).videos, corpora.plan_videos(SMALL)
  borders_s = corpora.SHOT_S * np.arange(1, len(plan.scene_N))
  times_s = np.stack([borders_s - 0.05, borders_s + 0.05], axis=1)
  frames = np.stack(list(video.iter_frames(item.media, times_s.ravel(), (48, 64)))).astype(int)
  change = np.abs(frames[1::2] - frames[0::2]).mean(axis=(1, 2, 3))
  is_cut = np.diff(plan.scene_N) > 0
  assert is_cut.any()
  assert change[is_cut].min() > 10
  assert all(change[~is_cut] < change[is_cut].min())


def test_marker_tells_the_config(corpus):
  told = json.loads((corpus.parent / "corpus.json").read_text())
  assert told.pop("recipe") >= 1
  assert corpora.CorpusConfig(**told) == SMALL
