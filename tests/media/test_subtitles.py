import json

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vsumjax.media import segments, subtitles
from vsumjax.media.subtitles import Cue, Said
from vsumjax.types import InputError

GOOD = "1\n00:00:01,000 --> 00:00:02,500\nHello there\n"


def load(folder, text, suffix=".srt"):
  path = folder / f"talk{suffix}"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return subtitles.load_transcript(path)


def words(cues, spans):
  return tuple(said.words for said in subtitles.align(cues, spans))


def test_cues_are_read(tmp_path):
  text = (
    "1\n00:00:01,000 --> 00:00:02,500\nHello\nthere\n\n"
    "2\n01:02:03.5 --> 01:02:04,25 X1:10 X2:20\n<i>Two</i> {\\an8}<font color='red'>words</font>\n"
    "\n\n3\n01:02:05,000 --> 01:02:06,000\n\n4\n01:02:07,000 --> 01:02:08,000\n1 < 2 > 0"
  )
  assert load(tmp_path, text) == (
    Cue(1.0, 2.5, "Hello there"),
    Cue(3723.5, 3724.25, "Two words"),
    Cue(3725.0, 3726.0, ""),
    Cue(3727.0, 3728.0, "1 < 2 > 0"),
  )


def test_mark_and_line_ends_of_windows_make_no_difference(tmp_path):
  dressed = b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
  assert load(tmp_path, dressed) == load(tmp_path, GOOD) == (Cue(1.0, 2.5, "Hello there"),)


def test_file_without_cues_is_empty(tmp_path):
  assert load(tmp_path, "") == load(tmp_path, "\n \n") == ()


@pytest.mark.parametrize(
  ("tail", "line", "told"),
  [
    ("one\n00:00:03,000 --> 00:00:04,000\nHi\n", 5, "expected the number of a cue, found 'one'"),
    ("2\n00:00:03,000 -> 00:00:04,000\nHi\n", 6, "expected times like"),
    ("2\n00:00:03 --> 00:00:04\nHi\n", 6, "expected times like"),
    ("2\n" + "9" * 5000 + ":00:03,000 --> 00:00:04,000\nHi\n", 6, "expected times like"),
    ("2\n00:99:03,000 --> 00:99:04,000\nHi\n", 6, "expected times like"),
    ("2\n00:00:05,000 --> 00:00:04,000\nHi\n", 6, "ends before it starts"),
    ("2\n", 5, "ends before its times"),
  ],
)
def test_bad_line_is_named(tmp_path, tail, line, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, GOOD + "\n" + tail)
  message = str(raised.value)
  assert message.startswith(f"{tmp_path / 'talk.srt'}:{line}: ")
  assert told in message
  assert "\n" not in message


def test_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r"none\.srt: there is no such file"):
    subtitles.load_transcript(tmp_path / "none.srt")


def test_suffix_says_the_format(tmp_path):
  assert load(tmp_path, GOOD, ".SRT") == load(tmp_path, GOOD)
  with pytest.raises(InputError, match=r"talk\.txt: not a .* give one of \.srt, \.vtt, \.json"):
    load(tmp_path, GOOD, ".txt")


def test_transcript_in_a_bucket_is_read():
  fsspec.filesystem("memory").pipe("/talks/talk.srt", GOOD.encode())
  assert subtitles.load_transcript("memory://talks/talk.srt") == (Cue(1.0, 2.5, "Hello there"),)
  with pytest.raises(InputError, match=r"memory://talks/none\.srt: there is no such file"):
    subtitles.load_transcript("memory://talks/none.srt")


def test_transcript_beside_a_video_is_found(tmp_path):
  video = tmp_path / "talk.mp4"
  assert subtitles.find_beside(video) is None
  for suffix in reversed(subtitles.SUFFIXES):  # the last one made goes first
    (tmp_path / f"talk{suffix}").touch()
    assert subtitles.find_beside(video) == tmp_path / f"talk{suffix}"


VTT = """\ufeffWEBVTT - a talk
Kind: captions

STYLE
::cue(b) { color: red }

NOTE nothing of this
is said

REGION
id:below

first
00:01.000 --> 00:02.500 align:start position:10%
<v Ann Lee>Hello <c.loud>there</c></v>

01:02:03.500 --> 01:02:04.250
AT&amp;T, 1 &lt; 2&nbsp;&#33;
<00:01:02.100><b>done</b>

100:00:00.000 --> 100:00:01.000
NOTE this is said
"""


def test_webvtt_is_read(tmp_path):
  expected = (
    Cue(1.0, 2.5, "Hello there"),
    Cue(3723.5, 3724.25, "AT&T, 1 < 2 ! done"),
    Cue(360_000.0, 360_001.0, "NOTE this is said"),
  )
  assert load(tmp_path, VTT, ".vtt") == expected
  assert load(tmp_path, VTT.replace("\n", "\r\n"), ".vtt") == expected
  assert load(tmp_path, VTT.replace("\n", "\r"), ".vtt") == expected
  assert load(tmp_path, "WEBVTT", ".vtt") == load(tmp_path, "WEBVTT\n\n", ".vtt") == ()
  at_once = "WEBVTT\n00:01.000 --> 00:02.500\nHello there"
  assert load(tmp_path, at_once, ".vtt") == expected[:1]


@pytest.mark.parametrize(
  ("text", "line", "told"),
  [
    ("00:01.000 --> 00:02.000\nHi", 1, "expected WEBVTT, found '00:01.000 --> 00:02.000'"),
    ("", 1, "expected WEBVTT, found ''"),
    ("WEBVTTX\n", 1, "expected WEBVTT"),
    ("WEBVTT\n\n00:01 --> 00:02\nHi", 3, "expected times like 00:01.000 --> 00:02.500"),
    ("WEBVTT\n\none\ntwo\n00:01.000 --> 00:02.000\nHi", 3, "expected the times of a cue, found"),
    ("WEBVTT\n\none\n00:03.000 --> 00:02.000\nHi", 4, "the cue ends before it starts"),
  ],
)
def test_bad_line_of_webvtt_is_named(tmp_path, text, line, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, text, ".vtt")
  assert str(raised.value).startswith(f"{tmp_path / 'talk.vtt'}:{line}: {told}")


def test_whisper_is_read(tmp_path):
  segments_of = [
    {"id": 0, "start": 1, "end": 2.5, "text": " Hello\n there"},
    {"start": 3.0, "end": 7.0, "text": " it's 5 o'clock", "words": [
      {"word": " it", "start": 3.0, "end": 3.2},
      {"word": "'s", "start": 3.2, "end": 3.4, "probability": 0.5},
      {"word": " 5"},
      {"word": " o'clock", "start": 5.0, "end": 6.0},
    ]},
    {"start": 8.0, "end": 9.0, "text": "bye", "words": []},
  ]  # fmt: skip
  expected = (
    Cue(1.0, 2.5, "Hello there"),
    Cue(3.0, 7.0, "it's 5 o'clock", pytest.approx((3.2, 4.35, 5.5))),
    Cue(8.0, 9.0, "bye"),
  )
  whole = {"text": "Hello there ...", "language": "en", "segments": segments_of}
  for content in (whole, segments_of):
    assert load(tmp_path, json.dumps(content), ".json") == expected
  assert load(tmp_path, "[]", ".json") == ()


def test_words_are_placed_by_their_own_times():
  cue = Cue(0.0, 4.0, "a b c d", (0.1, 0.2, 0.3, 3.9))
  assert words([cue], segments.cut(4.0, 2.0)) == ("a b c", "d")


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ('[{"start": 0,\nend}]', ":2:1: not JSON: "),
    ("[" + "9" * 5000 + "]", ": cannot be read as JSON: "),
    ("[" * 100_000, ": cannot be read as JSON: "),
    ("3", ': expected {"segments": [...]}'),
    ('{"text": "Hello"}', ': expected {"segments": [...]}'),
    ('{"segments": [3]}', ": segments[0]: must be a JSON object, is 3"),
    ('[{"start": 0, "text": ""}]', ": the list[0]: lacks the field 'end'"),
    ('{"segments": [{"start": 0, "end": "1", "text": ""}]}', ": segments[0].end: must be a number"),
    ('[{"start": 0, "end": NaN, "text": ""}]', ": the list[0].end: must be a number of seconds"),
    ('[{"start": true, "end": 1, "text": ""}]', ": the list[0].start: must be a number of seconds"),
    ('[{"start": 2, "end": 1, "text": ""}]', ": the list[0]: ends before it starts"),
    ('[{"start": 0, "end": 1, "text": 5}]', ": the list[0].text: must be a string, is 5"),
    ('[{"start": 0, "end": 1, "text": "\\ud800"}]', ": the list[0].text: holds half of a surrog"),
    ('[{"start": 0, "end": 1, "text": "a", "words": 1}]', ": the list[0].words: must be a list"),
    (
      '[{"start": 0, "end": 1, "text": "a", "words": [{"word": "a", "start": 0, "end": []}]}]',
      ": the list[0].words[0].end: must be a number of seconds from 0, is a list",
    ),
  ],
)
def test_bad_place_of_json_is_named(tmp_path, text, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, text, ".json")
  assert str(raised.value).startswith(f"{tmp_path / 'talk.json'}{told}")
  assert "\n" not in str(raised.value)


LINES = st.sampled_from(
  [
    "1",
    "",
    " ",
    "WEBVTT",
    "NOTE x",
    "00:00:01,000 --> 00:00:02,000",
    "01:02.5 --> 01:03.0",
    "-->",
    "hi",
    "[Events]",
    "Format: Start, End, Text",
    "Dialogue: 0:00:01.00,0:00:02.00,{\\p1}m{\\p0} hi",
    "0:00:01.000,0:00:02.000",
    "<tt><p begin='1s'",
    " end='2s'>",
    "<br/>hi</p></tt>",
  ]
)
TEXTS = st.lists(LINES, max_size=12).map("\n".join) | st.text()
JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
  lambda children: (
    st.lists(children, max_size=3)
    | st.dictionaries(
      st.sampled_from(
        ["segments", "start", "end", "text", "words", "word", "transcription", "offsets", "from"]
      ),
      children,
    )
  ),
)


@pytest.mark.parametrize("suffix", subtitles.SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary() | (TEXTS | JSON.map(json.dumps)).map(str.encode))
@example(data=b"WEBVTT\n\n&#xD800; --> ")
def test_any_content_is_read_or_refused_in_one_line(tmp_path, suffix, data):
  try:
    cues = load(tmp_path, data, suffix)
  except InputError as error:
    message = str(error)
    assert message.startswith(str(tmp_path / f"talk{suffix}")) and "\n" not in message
  else:
    assert all(0 <= cue.start_s <= cue.end_s for cue in cues)
    assert all(len(list(cue.timed_words())) == len(cue.text.split()) for cue in cues)
    "".join(cue.text for cue in cues).encode()


CUES = st.lists(
  st.tuples(
    st.integers(0, 10**7),
    st.integers(0, 10**5),
    st.lists(st.from_regex(r"[a-zé世1-9'?]+", fullmatch=True), max_size=5),
  ),
  max_size=5,
).map(
  lambda drawn: [Cue(at / 1e3, (at + length) / 1e3, " ".join(said)) for at, length, said in drawn]
)


def as_clock(time_s, mark):
  milliseconds = round(time_s * 1000)
  seconds = milliseconds // 1000
  clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
  return f"{clock}{mark}{milliseconds % 1000:03d}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cues=CUES)
def test_all_formats_tell_the_same(tmp_path, cues):
  srt = "".join(
    f"{n}\n{as_clock(cue.start_s, ',')} --> {as_clock(cue.end_s, ',')}\n{cue.text}\n\n"
    for n, cue in enumerate(cues)
  )
  vtt = "WEBVTT\n\n" + "".join(
    f"{as_clock(cue.start_s, '.')} --> {as_clock(cue.end_s, '.')}\n{cue.text}\n\n" for cue in cues
  )
  whisper = json.dumps([{"start": c.start_s, "end": c.end_s, "text": c.text} for c in cues])
  for suffix, text in ((".srt", srt), (".vtt", vtt), (".json", whisper)):
    assert list(load(tmp_path, text, suffix)) == cues


def test_words_go_to_the_span_that_holds_their_middle():
  spans = segments.cut(6.0, 2.0)
  # Word n of four is said at 0.5 + n, word n of three at 3 + n.
  assert words([Cue(0, 4, "a b c d")], spans) == ("a b", "c d", "")
  assert words([Cue(2.5, 5.5, "x y z")], spans) == ("", "x", "y z")
  assert words([], spans) == ("", "", "")
  assert words([Cue(1, 1, "now"), Cue(8, 9, "after")], spans) == ("now", "", "")


def test_overlapping_cues_are_told_in_the_order_of_time():
  cues = [Cue(1, 2, "late"), Cue(0, 2, "a b")]
  assert words(cues, np.array([[0.0, 2.0]])) == ("a late b",)


@given(
  st.lists(st.tuples(st.floats(0, 50), st.floats(0, 9), st.integers(0, 12)), max_size=8),
  st.floats(0.3, 7),
)
def test_every_word_within_the_video_is_in_one_span(timed, segment_s):
  cues = [
    Cue(start_s, start_s + length_s, " ".join(f"w{index}_{word}" for word in range(num_words)))
    for index, (start_s, length_s, num_words) in enumerate(timed)
  ]
  aligned = words(cues, segments.cut(60.0, segment_s))
  told = [word for text in aligned for word in text.split()]
  assert sorted(told) == sorted(word for cue in cues for word in cue.text.split())


def test_context_is_what_is_said_around_a_span():
  cues = [Cue(0, 8, "a b c d e f g h")]  # word n is said at 0.5 + n
  spans = segments.cut(8.0, 2.0)
  assert subtitles.align(cues, spans, 1.0) == (
    Said("", "a b", "c"),
    Said("b", "c d", "e"),
    Said("d", "e f", "g"),
    Said("f", "g h", ""),
  )
  assert subtitles.align(cues, spans, 100.0)[1] == Said("a b", "c d", "e f g h")
  assert subtitles.align(cues, spans)[1] == Said("", "c d", "")


def test_descriptions_go_whole_to_each_span_they_overlap():
  cues = [Cue(4, 5, "laughter"), Cue(0, 3, "dog barks"), Cue(1, 2, "dog barks"), Cue(6, 6, "bang")]
  spans = np.array([[0.0, 2.0], [2.0, 3.0], [3.0, 4.0], [2.0, 6.0], [6.0, 7.0]])
  told = ("dog barks", "dog barks", "", "dog barks, laughter", "bang")
  assert subtitles.texts_within(cues, spans) == told
  assert subtitles.texts_within([], spans) == ("",) * 5
