import json
import shutil

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import write_media

from vsumjax.data import manifest
from vsumjax.data.builders import folder
from vsumjax.types import InputError

GREYS = {0: 20, 500: 120, 1000: 220}
LABELS = {"unit_s": 0.5, "levels": [[1, 5], [2, 4]]}


@pytest.fixture(scope="module")
def media_file(tmp_path_factory):
  return write_media(tmp_path_factory.mktemp("one") / "one.mp4", GREYS)


@pytest.fixture
def videos(tmp_path, media_file):
  """A folder of what people have: videos, words beside them, broken files, other files."""
  root = tmp_path / "videos"
  for name in (
    "a_talk.mp4", "a_talk.webm", "deep/b.MP4", "deep/deeper/a_talk.mp4",
    "c.mp4", ".hidden.mp4", ".cache/d.mp4",
  ):  # fmt: skip
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(media_file, root / name)
  for name in (
    "a_talk.srt", "a_talk.vtt", "a_talk.sounds.json", "deep/b.json", "deep/b.sounds.vtt",
    "deep/b.sounds.srt", "notes.txt", "other.srt", "c.info.json",
  ):  # fmt: skip
    (root / name).write_text("x")
  (root / "text.mp4").write_text("no video")
  (root / "empty.mkv").touch()
  (root / "cut.mp4").write_bytes(media_file.read_bytes()[:200])
  write_media(root / "sound.mp4", samples=np.zeros(16_000, np.float32))
  return root


def test_videos_and_words_beside_them_are_found(videos):
  scan = folder.scan_folder(videos)
  by_id = {video.id: video for video in scan.videos}
  assert list(by_id) == [
    "a_talk.mp4", "a_talk.webm", "c.mp4", "deep/b.MP4", "deep/deeper/a_talk.mp4",
  ]  # fmt: skip
  first, talk = by_id["a_talk.mp4"], by_id["deep/b.MP4"]
  assert first.media == videos / "a_talk.mp4"
  assert (first.title, talk.title) == ("a talk", "b")
  assert first.transcript == videos / "a_talk.srt"
  assert first.sounds == videos / "a_talk.sounds.json"
  assert by_id["a_talk.webm"].transcript == videos / "a_talk.srt"
  assert talk.transcript == videos / "deep/b.json"
  assert talk.sounds == videos / "deep/b.sounds.srt"
  assert by_id["deep/deeper/a_talk.mp4"].transcript is None
  assert first.duration_s == pytest.approx(1.0, abs=0.1)
  assert first.labels is None


def test_broken_files_are_told_by_reason_and_others_counted(videos):
  scan = folder.scan_folder(videos)
  broken = dict(scan.broken)
  assert list(broken) == ["cut.mp4", "empty.mkv", "sound.mp4", "text.mp4"]
  assert "has no video stream" in broken["sound.mp4"]
  for name in ("cut.mp4", "empty.mkv", "text.mp4"):
    assert "not a video or sound file, or a broken one" in broken[name]
  # notes.txt, other.srt, c.info.json, a_talk.vtt, deep/b.sounds.vtt
  assert scan.num_skipped == 5


def test_the_title_of_the_container_goes_before_the_name(tmp_path, media_file):
  path = tmp_path / "x.mp4"
  with av.open(str(media_file)) as source, av.open(str(path), "w") as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    target.metadata["title"] = "  How to\n rest "
    for packet in source.demux(source.streams.video[0]):
      if packet.dts is not None:
        packet.stream = stream
        target.mux(packet)
  (video,) = folder.scan_folder(tmp_path).videos
  assert video.title == "How to rest"


def test_a_scan_is_a_manifest(videos, tmp_path):
  scan = folder.scan_folder(videos)
  manifest.save_manifest(tmp_path / "m.jsonl", scan.videos)
  assert manifest.load_manifest(tmp_path / "m.jsonl").videos == scan.videos


def test_updates_count_the_files_that_are_looked_into(videos):
  told = []
  folder.scan_folder(videos, update=lambda *counts: told.append(counts))
  assert told == [(done, 9) for done in range(1, 10)]


def test_a_split_stays_when_others_come(videos):
  shares = (0.4, 0.3, 0.3)
  before = {video.id: video.split for video in folder.scan_folder(videos, shares=shares).videos}
  for index in range(5):
    shutil.copy(videos / "c.mp4", videos / f"0{index}.mp4")
  after = {video.id: video.split for video in folder.scan_folder(videos, shares=shares).videos}
  assert len(after) == 10
  assert before.items() <= after.items()


def test_split_of_is_the_same_everywhere():
  ids = [f"videos/{index}.mp4" for index in range(6)]
  assert [folder.split_of(video_id, (0.5, 0.25, 0.25)) for video_id in ids] == [
    "train", "train", "train", "test", "validation", "train",
  ]  # fmt: skip


def test_shares_are_met_on_average():
  splits = [folder.split_of(f"{index}.mp4", (8, 1, 1)) for index in range(4000)]
  counts = [splits.count(split) / len(splits) for split in folder.SPLITS]
  np.testing.assert_allclose(counts, (0.8, 0.1, 0.1), atol=0.02)


@given(st.text(), st.tuples(*[st.floats(0, 100)] * 3).filter(lambda shares: sum(shares) > 1e-3))
def test_no_video_is_in_a_split_without_share(video_id, shares):
  split = folder.split_of(video_id, shares)
  assert shares[folder.SPLITS.index(split)] > 0


def test_labels_are_taken_from_json(videos, tmp_path):
  path = tmp_path / "labels.json"
  path.write_text(json.dumps({"c.mp4": LABELS}))
  by_id = {video.id: video for video in folder.scan_folder(videos, labels=path).videos}
  assert by_id["c.mp4"].labels.unit_s == 0.5
  np.testing.assert_array_equal(by_id["c.mp4"].labels.levels_AN, LABELS["levels"])
  assert by_id["a_talk.mp4"].labels is None


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ("{", "labels.json: not JSON"),
    ("[" * 100_000, "labels.json: not JSON"),
    ("[]", "labels.json: must be a JSON object"),
    (json.dumps({"c.mp": LABELS}), "'c.mp' is the id of no video that can be used; did you mean"),
    (json.dumps({"text.mp4": LABELS}), "'text.mp4' is the id of no video that can be used"),
    (json.dumps({"c.mp4": [1]}), "labels.json: c.mp4: must be a JSON object"),
    (json.dumps({"c.mp4": {"unit_s": 1}}), "labels.json: c.mp4: lacks the field 'levels'"),
    (json.dumps({"c.mp4": LABELS | {"levels": [[6]]}}), "labels.json: c.mp4.levels: row 1 holds"),
  ],
)
def test_wrong_labels_are_told(videos, tmp_path, content, told):
  path = tmp_path / "labels.json"
  path.write_text(content)
  with pytest.raises(InputError) as raised:
    folder.scan_folder(videos, labels=path)
  assert told in str(raised.value)
  assert "\n" not in str(raised.value)


def test_missing_labels_are_told(videos, tmp_path):
  with pytest.raises(InputError, match=r"none\.json: cannot read the labels: No such file"):
    folder.scan_folder(videos, labels=tmp_path / "none.json")


@pytest.mark.parametrize(
  ("shares", "told"),
  [
    ((1, -1, 1), "must be three numbers from 0 on"),
    ((1, 1), "must be three numbers from 0 on"),
    ((1, float("nan"), 1), "must be three numbers from 0 on"),
    ((0, 0, 0), "one of them must be above 0"),
  ],
)
def test_wrong_shares_are_told(videos, shares, told):
  with pytest.raises(InputError, match=told):
    folder.scan_folder(videos, shares=shares)


def test_folders_without_videos_are_told(tmp_path):
  with pytest.raises(InputError, match="there is no such folder"):
    folder.scan_folder(tmp_path / "none")
  with pytest.raises(InputError, match=r"holds no video that can be used$"):
    folder.scan_folder(tmp_path)
  (tmp_path / "a.mp4").touch()
  with pytest.raises(InputError, match=r"; of 1 broken ones the first is a\.mp4: not a video"):
    folder.scan_folder(tmp_path)
