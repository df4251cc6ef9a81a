import json

import numpy as np
import pytest

from vsumjax.data import manifest
from vsumjax.data.videos import Prepared
from vsumjax.types import InputError

LINE = {"id": "a", "media": "media/a.mp4", "title": "A talk", "split": "train"}
LABELS = {"unit_s": 2.0, "levels": [[1, 5, 3], [2, 4, 3]]}


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "media").mkdir()
  for name in ("a.mp4", "b.mp4", "a.srt"):
    (tmp_path / "media" / name).touch()
  return tmp_path


def write(folder, *lines):
  path = folder / "videos.jsonl"
  texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
  path.write_text("\n".join(texts) + "\n", encoding="utf-8")
  return path


def test_fields_are_read(folder):
  full = LINE | {"transcript": "media/a.srt", "labels": LABELS}
  bare = {"id": "b", "media": str(folder / "media/b.mp4"), "title": "", "split": "test"}
  loaded = manifest.load_manifest(write(folder, full, "", bare))
  first, second = loaded.videos
  assert (first.id, first.title, first.split) == ("a", "A talk", "train")
  assert first.media == folder / "media/a.mp4"
  assert first.transcript == folder / "media/a.srt"
  assert first.labels.unit_s == 2.0
  assert first.labels.levels_AN.dtype == np.int8
  np.testing.assert_array_equal(first.labels.levels_AN, LABELS["levels"])
  assert second.media == folder / "media/b.mp4"
  assert second.transcript is None
  assert second.labels is None


def test_split_is_found_or_the_known_ones_are_named(folder):
  other = LINE | {"id": "b", "split": "test"}
  loaded = manifest.load_manifest(write(folder, LINE, other))
  assert [video.id for video in loaded.of_split("test")] == ["b"]
  with pytest.raises(InputError, match=r"no video of split 'valid'; the splits are: test, train"):
    loaded.of_split("valid")


@pytest.mark.parametrize(
  ("line", "told"),
  [
    ("{not json", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("[1, 2]", "must be a JSON object"),
    ({"id": "a", "media": "media/a.mp4", "split": "train"}, "lacks the field 'title'"),
    (LINE | {"tittle": "x"}, "unknown field 'tittle'; did you mean 'title'?"),
    (LINE | {"zzz": 1}, "unknown field 'zzz'; the fields are: id, title, split, media"),
    ({"id": "a", "title": "", "split": "train"}, "lacks the field 'media', and without it"),
    (LINE | {"sounds": "none.vtt"}, "sounds: there is no file"),
    (LINE | {"duration_s": 0}, "duration_s: must be a number of seconds above 0"),
    (LINE | {"duration_s": 10**400}, "duration_s: must be a number of seconds above 0"),
    (LINE | {"title": "half \ud800"}, "title: half a character"),
    (LINE | {"edges_s": [0]}, "edges_s: must be a list of two or more numbers"),
    (LINE | {"edges_s": [0, 2, 2]}, "edges_s: must ascend from 0 or later"),
    (LINE | {"edges_s": [-1, 2]}, "edges_s: must ascend from 0 or later"),
    (LINE | {"prepared": {"shard": "media/a.mp4"}}, "prepared: lacks the field 'first'"),
    (LINE | {"prepared": {"shard": "none", "first": 0}}, "prepared.shard: there is no file"),
    (LINE | {"prepared": {"shard": "media/a.mp4", "first": -1}}, "prepared.first: must be"),
    (LINE | {"id": 7}, "id: must be a non-empty string, is 7"),
    (LINE | {"id": " "}, "id: must be a non-empty string"),
    (LINE | {"title": None}, "title: must be a"),
    (LINE | {"split": ["train"]}, "split: must be a non-empty string"),
    (LINE | {"media": "media/none.mp4"}, "media: there is no file"),
    (LINE | {"media": "media"}, "media: there is no file"),
    (LINE | {"transcript": "none.srt"}, "transcript: there is no file"),
    (LINE | {"labels": [1]}, "labels: must be a JSON object"),
    (LINE | {"labels": {"unit_s": 2.0}}, "labels: lacks the field 'levels'"),
    (LINE | {"labels": LABELS | {"unit": 1}}, "unknown field 'unit'; did you mean 'unit_s'?"),
    (LINE | {"labels": LABELS | {"unit_s": 0}}, "labels.unit_s: must be"),
    (LINE | {"labels": LABELS | {"unit_s": float("nan")}}, "labels.unit_s: must be"),
    (LINE | {"labels": LABELS | {"unit_s": True}}, "labels.unit_s: must be"),
    (LINE | {"labels": LABELS | {"levels": []}}, "labels.levels: must be a list"),
    (LINE | {"labels": LABELS | {"levels": [1, 2]}}, "labels.levels: must be a list"),
    (LINE | {"labels": LABELS | {"levels": [[]]}}, "row 1 has 0 levels"),
    (LINE | {"labels": LABELS | {"levels": [[1, 2], [1]]}}, "row 2 has 1 levels, row 1 has 2"),
    (LINE | {"labels": LABELS | {"levels": [[1, 6]]}}, "row 1 holds 6"),
    (LINE | {"labels": LABELS | {"levels": [[0, 5]]}}, "row 1 holds 0"),
    (LINE | {"labels": LABELS | {"levels": [[1, 2.5]]}}, "row 1 holds 2.5"),
    (LINE | {"labels": LABELS | {"levels": [[1, True]]}}, "row 1 holds true"),
  ],
)
def test_bad_line_is_named_with_its_field_in_one_line(folder, line, told):
  good = LINE | {"id": "good"}
  path = write(folder, good, line)
  with pytest.raises(InputError) as raised:
    manifest.load_manifest(path)
  message = str(raised.value)
  assert message.startswith(f"{path}:2: ")
  assert told in message
  assert "\n" not in message


def test_id_used_twice_names_both_lines(folder):
  path = write(folder, LINE, "", LINE)
  with pytest.raises(InputError, match=r":3: id: 'a' is already the id of line 1"):
    manifest.load_manifest(path)


def test_line_that_is_not_utf8_is_named(folder):
  path = write(folder, LINE)
  path.write_bytes(path.read_bytes() + b'{"id": "\xff"}\n')
  with pytest.raises(InputError, match=r":2: not JSON"):
    manifest.load_manifest(path)


def test_missing_and_empty_manifests_are_refused(folder):
  with pytest.raises(InputError, match=r"none\.jsonl: cannot read the manifest: No such file"):
    manifest.load_manifest(folder / "none.jsonl")
  with pytest.raises(InputError, match="holds no video"):
    manifest.load_manifest(write(folder, ""))


def test_saved_manifest_is_loaded_the_same_and_moves_with_its_folder(folder):
  full = LINE | {"transcript": "media/a.srt", "labels": LABELS}
  bare = LINE | {"id": "b", "media": "media/b.mp4", "title": "Ähre 稲"}
  loaded = manifest.load_manifest(write(folder, full, bare))
  saved = folder / "saved.jsonl"
  manifest.save_manifest(saved, loaded.videos)
  assert "media/a.mp4" in saved.read_text()
  assert str(folder) not in saved.read_text()
  moved = folder.rename(folder.with_name("moved"))
  again = manifest.load_manifest(moved / "saved.jsonl")
  assert again.digest == loaded.digest
  assert [video.title for video in again.videos] == ["A talk", "Ähre 稲"]
  assert again.videos[0].transcript == moved / "media/a.srt"
  np.testing.assert_array_equal(again.videos[0].labels.levels_AN, LABELS["levels"])
  assert sorted(file.name for file in moved.iterdir()) == ["media", "saved.jsonl", "videos.jsonl"]


def test_all_fields_survive_saving(folder):
  line = {
    "id": "a", "title": "", "split": "train", "sounds": "media/a.srt", "duration_s": 7.5,
    "edges_s": [0.0, 2.5, 7.5], "prepared": {"shard": "media/b.mp4", "first": 3},
    "media": "gs://bucket/a.mp4",
  }  # fmt: skip
  loaded = manifest.load_manifest(write(folder, line))
  assert loaded.videos[0].media == "gs://bucket/a.mp4"
  assert loaded.videos[0].prepared == Prepared(folder / "media/b.mp4", 3)
  manifest.save_manifest(folder / "saved.jsonl", loaded.videos)
  again = manifest.load_manifest(folder / "saved.jsonl")
  assert again.videos == loaded.videos
  assert again.digest == loaded.digest


def test_missing_files_may_be_let_pass(folder):
  path = write(folder, LINE | {"media": "media/none.mp4"})
  (video,) = manifest.load_manifest(path, check_files=False).videos
  assert video.media == folder / "media/none.mp4"


def test_nothing_is_written_where_the_manifest_would_be_refused(folder):
  (video,) = manifest.load_manifest(write(folder, LINE)).videos
  with pytest.raises(InputError, match=r"saved\.jsonl:2: id: 'a' is already"):
    manifest.save_manifest(folder / "saved.jsonl", [video, video])
  assert not (folder / "saved.jsonl").exists()


def test_digest_depends_on_content_alone(folder):
  full = LINE | {"labels": LABELS}
  digest = manifest.load_manifest(write(folder, full)).digest
  assert len(digest) == 32
  same = [
    dict(reversed(full.items())),
    full | {"media": "./media//a.mp4"},
    full | {"labels": LABELS | {"unit_s": 2}},
  ]
  for line in same:
    assert manifest.load_manifest(write(folder, line)).digest == digest
  others = [
    LINE,
    full | {"id": "b"},
    full | {"title": "Another"},
    full | {"split": "test"},
    full | {"media": "media/b.mp4"},
    full | {"transcript": "media/a.srt"},
    full | {"labels": LABELS | {"unit_s": 1}},
    full | {"labels": LABELS | {"levels": [[1, 5, 3], [2, 4, 4]]}},
  ]
  digests = [manifest.load_manifest(write(folder, line)).digest for line in others]
  assert len({digest, *digests}) == len(others) + 1


def test_a_manifest_is_saved_into_a_folder_that_is_not_there_yet(folder, monkeypatch):
  monkeypatch.chdir(folder)
  loaded = manifest.load_manifest(write(folder, LINE))
  manifest.save_manifest("new/fold_0/manifest.jsonl", loaded.videos)
  assert manifest.load_manifest("new/fold_0/manifest.jsonl").videos[0].media.is_file()
