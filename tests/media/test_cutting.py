import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import write_media

from vsumjax.data.made import corpora
from vsumjax.media import cutting, segmentation, segments, video
from vsumjax.types import InputError

# Cuts of the real clips, found by looking at every frame. The last one of the bikes, at 9.68 s, is
# too near the end for a segment of its own.
CLIP_CUTS_S = {
  "bikes_10s_no_audio.mp4": (1.2, 3.04, 5.48, 7.48),
  "big_buck_bunny_30s.webm": (11.79, 15.67, 22.96),
  "nasa_13s.mp4": (8.08,),
}
# The other places that change: a fade from black; a dissolve.
CLIP_GRADUAL_S = {"big_buck_bunny_30s.webm": (0.5, 2.1), "nasa_13s.mp4": (5.0, 6.1)}


def inner_edges(spans):
  return spans[1:, 0]


def nearest_s(times_s, others_s):
  """How far each time is from the nearest of the others."""
  return np.abs(np.subtract.outer(times_s, others_s)).min(axis=1, initial=np.inf)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """[(path, duration in seconds, seconds of the cuts between scenes)] of four made videos."""
  folder = tmp_path_factory.mktemp("made")
  config = corpora.CorpusConfig(seed=3, num_train=4, num_validation=0, num_test=0, max_s=40.0)
  corpora.make_corpus(folder, config)
  return [
    (
      folder / "media" / f"{plan.id}.mp4",
      corpora.SHOT_S * len(plan.scene_N),
      corpora.SHOT_S * (np.flatnonzero(np.diff(plan.scene_N)) + 1),
    )
    for plan in corpora.plan_videos(config)
  ]


@pytest.mark.parametrize(
  ("cut", "off_s", "least_recall"),
  [(cutting.cut_at_shots, 0.05, 0.95), (cutting.cut_by_kts, 0.25, 0.9)],
)
def test_cuts_of_made_videos_are_found(made, cut, off_s, least_recall):
  num_cuts = num_found = num_wrong = 0
  for path, duration_s, cuts_s in made:
    found_s = inner_edges(cut(path, duration_s, 40.0))
    num_cuts += len(cuts_s)
    num_found += (nearest_s(cuts_s, found_s) <= off_s + 1e-9).sum()
    # Within a scene a large thing may jump from one shot to the next, which looks like a cut.
    jumps_s = np.arange(0, duration_s, corpora.SHOT_S)
    num_wrong += (nearest_s(found_s, jumps_s) > off_s + 1e-9).sum()
  assert num_cuts > 20
  assert num_found >= least_recall * num_cuts
  assert num_wrong <= (0 if cut is cutting.cut_at_shots else 0.2 * num_cuts)


@pytest.mark.parametrize("name", CLIP_CUTS_S)
def test_shots_of_real_clips(clips, name):
  duration_s = video.probe(clips / name).duration_s
  found_s = inner_edges(cutting.cut_at_shots(clips / name, duration_s, 100.0))
  assert (nearest_s(CLIP_CUTS_S[name], found_s) <= 0.05).all()
  others_s = found_s[nearest_s(found_s, CLIP_CUTS_S[name]) > 0.05]
  assert len(others_s) == (name in CLIP_GRADUAL_S)
  for time_s in others_s:
    start_s, end_s = CLIP_GRADUAL_S[name]
    assert start_s <= time_s <= end_s


@pytest.mark.parametrize("name", CLIP_CUTS_S)
def test_kts_of_real_clips(clips, name):
  duration_s = video.probe(clips / name).duration_s
  found_s = inner_edges(cutting.cut_by_kts(clips / name, duration_s, 10.0))
  assert (nearest_s(CLIP_CUTS_S[name], found_s) <= 0.25).all()
  assert len(found_s) <= 0.75 * duration_s


def test_pictures_shown_for_uneven_times_are_shots_and_a_flash_is_none(tmp_path):
  greys = {0: 40, 4000: 200, 9000: 90, 9700: 160, 12_000: 240, 12_200: 160, 14_000: 160}
  path = write_media(tmp_path / "slides.mp4", greys)
  spans = cutting.cut_at_shots(path, 15.0, 60.0)
  np.testing.assert_allclose(spans, [[0, 4], [4, 9], [9, 9.7], [9.7, 15]])
  np.testing.assert_allclose(inner_edges(cutting.cut_by_kts(path, 15.0, 60.0))[:2], [4, 9])


@pytest.mark.parametrize("kind", ["shots", "kts"])
def test_a_still_picture_is_divided_evenly(tmp_path, kind):
  path = write_media(tmp_path / "still.mp4", {0: 100, 5000: 100})
  spans = cutting.cut_video(kind, path, 7.5, 2.0)
  np.testing.assert_allclose(spans, np.stack([np.arange(4), np.arange(1, 5)], axis=1) * 1.875)
  np.testing.assert_array_equal(cutting.cut_video(kind, path, 0.1, 2.0), [[0, 0.1]])


@pytest.mark.parametrize("kind", cutting.KINDS)
@pytest.mark.parametrize("segment_s", [0.3, 1.0, 2.5])
def test_segments_cover_the_video_and_are_the_same_again(made, kind, segment_s):
  path, duration_s, _ = made[0]
  spans = cutting.cut_video(kind, path, duration_s, segment_s)
  assert spans.dtype == np.float64
  assert (spans[0, 0], spans[-1, 1]) == (0, duration_s)
  np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
  lengths_s = np.diff(spans, axis=1)
  assert min(0.5, segment_s / 2) - 1e-9 <= lengths_s.min()
  assert lengths_s.max() <= (1.5 if kind == "fixed" else 1.0) * segment_s + 1e-9
  np.testing.assert_array_equal(spans, cutting.cut_video(kind, path, duration_s, segment_s))


@given(
  st.lists(st.integers(1, 599), unique=True, max_size=30), st.floats(0.2, 60), st.floats(0.2, 70)
)
def test_pieces_are_neither_short_nor_long(firsts, duration_s, max_segment_s):
  cut_s = np.sort([first / cutting.SHOT_RATE for first in firsts])
  cut_s = cut_s[cut_s < duration_s]
  spans = cutting._as_segments(cut_s, duration_s, max_segment_s)
  assert (spans[0, 0], spans[-1, 1]) == (0, duration_s)
  np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
  lengths_s = np.diff(spans, axis=1)
  assert lengths_s.max() <= max_segment_s * (1 + 1e-6)
  assert lengths_s.min() >= min(0.5, max_segment_s / 2, duration_s) - 1e-6


def test_short_pieces_are_merged_with_the_next_and_long_ones_divided():
  spans = cutting._as_segments(np.array([0.3, 2.0, 2.4, 9.0, 9.7]), 10.0, 4.0)
  np.testing.assert_allclose(inner_edges(spans), [2, 5.5, 9])


def test_fixed_segments_need_no_file(tmp_path):
  spans = cutting.cut_video("fixed", tmp_path / "none.mp4", 7.0, 2.0)
  np.testing.assert_array_equal(spans, segments.cut(7.0, 2.0))


def test_a_kind_that_there_is_not_is_refused(tmp_path):
  with pytest.raises(InputError, match="must be one of fixed, shots, kts, is 'scenes'"):
    cutting.cut_video("scenes", tmp_path / "a.mp4", 7.0, 2.0)


@pytest.mark.parametrize("kind", cutting.KINDS)
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_lengths_that_are_none_are_refused(tmp_path, kind, bad):
  with pytest.raises(InputError, match="duration_s must be"):
    cutting.cut_video(kind, tmp_path / "a.mp4", bad, 2.0)
  with pytest.raises(InputError, match="segment_s must be"):
    cutting.cut_video(kind, tmp_path / "a.mp4", 2.0, bad)


@pytest.mark.parametrize("kind", ["shots", "kts"])
def test_a_file_that_is_not_there_is_named(tmp_path, kind):
  with pytest.raises(InputError, match=r"none\.mp4: there is no such file"):
    cutting.cut_video(kind, tmp_path / "none.mp4", 7.0, 2.0)


def test_kts_sees_features_of_norm_about_one(made, monkeypatch):
  """The penalty is in their unit: shares of colours give 1, the layout at most 3 / 2."""
  seen = []
  kts = segmentation.kts
  monkeypatch.setattr(
    segmentation,
    "kts",
    lambda features_TD, **how: seen.append(features_TD) or kts(features_TD, **how),
  )
  path, duration_s, _ = made[0]
  cutting.cut_by_kts(path, duration_s, 10.0)
  (features_TD,) = seen
  assert features_TD.shape == (2 * duration_s, 8 * 8 * 3 + 4**3)
  np.testing.assert_allclose(np.square(features_TD[:, 192:]).sum(axis=1), 1, atol=1e-5)
  assert np.square(features_TD[:, :192]).sum(axis=1).max() <= 1.5
