import json

import pytest

from vsumjax.media import subtitles
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError


def load(folder, content):
  path = folder / "talk.json"
  path.write_text(json.dumps(content))
  return subtitles.load_transcript(path)


def test_whisper_cpp_is_read(tmp_path):
  entry = {
    "timestamps": {"from": "00:00:00,500", "to": "00:00:02,000"},
    "offsets": {"from": 500, "to": 2000},
    "text": " Come in",
  }
  content = {"systeminfo": "", "model": {}, "result": {"language": "en"}, "transcription": [entry]}
  assert load(tmp_path, content) == (Cue(0.5, 2.0, "Come in"),)


def test_words_without_times_of_whisperx_are_placed_between_their_neighbours(tmp_path):
  words = [
    {"word": "room", "start": 0.0, "end": 0.4, "score": 0.9},
    {"word": "42", "start": None, "end": None},
    {"word": "now", "start": 1.6, "end": 2.0},
  ]
  segment = {"start": 0.0, "end": 2.0, "text": " room 42 now", "words": words, "speaker": "A"}
  expected = (Cue(0.0, 2.0, "room 42 now", pytest.approx((0.2, 1.0, 1.8))),)
  assert load(tmp_path, {"segments": [segment], "word_segments": words}) == expected
  assert load(tmp_path, [segment]) == expected


def test_segments_of_faster_whisper_are_read(tmp_path):
  segment = {"id": 1, "seek": 0, "start": 0.0, "end": 2.0, "text": " Come in", "tokens": [1]}
  assert load(tmp_path, [segment | {"words": None}]) == (Cue(0.0, 2.0, "Come in"),)


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ({"transcription": 3}, ': expected {"segments": [...]}'),
    ({"transcription": [{"text": "a"}]}, ": transcription[0]: lacks the field 'offsets'"),
    (
      {"transcription": [{"text": "a", "offsets": {"from": 0, "to": "1"}}]},
      ": transcription[0].offsets.to: must be a number of milliseconds from 0, is",
    ),
    (
      {"transcription": [{"text": "a", "offsets": {"from": 2, "to": 1}}]},
      ": transcription[0]: ends before it starts",
    ),
  ],
)
def test_bad_place_of_whisper_cpp_is_named(tmp_path, content, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, content)
  assert str(raised.value).startswith(f"{tmp_path / 'talk.json'}{told}")
