import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data import segments, transcript
from vsumjax.data.transcript import Cue
from vsumjax.types import InputError

GOOD = "1\n00:00:01,000 --> 00:00:02,500\nHello there\n"


def load(folder, text):
  path = folder / "talk.srt"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return transcript.load_srt(path)


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
    ("2\n00:99:03,000 --> 00:99:04,000\nHi\n", 6, "expected times like"),
    ("2\n00:00:05,000 --> 00:00:04,000\nHi\n", 6, "ends before it starts"),
    ("2\n", 5, "ends before its times"),
    (b"2\n00:00:03,000 --> 00:00:04,000\nCaf\xe9\n", 7, "not UTF-8"),
  ],
)
def test_bad_line_is_named(tmp_path, tail, line, told):
  tail = tail if isinstance(tail, bytes) else tail.encode()
  with pytest.raises(InputError) as raised:
    load(tmp_path, GOOD.encode() + b"\n" + tail)
  message = str(raised.value)
  assert message.startswith(f"{tmp_path / 'talk.srt'}:{line}: ")
  assert told in message
  assert "\n" not in message


def test_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r"none\.srt: cannot read the transcript: No such file"):
    transcript.load_srt(tmp_path / "none.srt")


def test_words_go_to_the_span_that_holds_their_middle():
  spans = segments.cut(6.0, 2.0)
  # Word n of four is said at 0.5 + n, word n of three at 3 + n.
  assert transcript.align([Cue(0, 4, "a b c d")], spans) == ("a b", "c d", "")
  assert transcript.align([Cue(2.5, 5.5, "x y z")], spans) == ("", "x", "y z")
  assert transcript.align([], spans) == ("", "", "")
  assert transcript.align([Cue(1, 1, "now"), Cue(8, 9, "after")], spans) == ("now", "", "")


def test_overlapping_cues_are_told_in_the_order_of_time():
  cues = [Cue(1, 2, "late"), Cue(0, 2, "a b")]
  assert transcript.align(cues, np.array([[0.0, 2.0]])) == ("a late b",)


@given(
  st.lists(st.tuples(st.floats(0, 50), st.floats(0, 9), st.integers(0, 12)), max_size=8),
  st.floats(0.3, 7),
)
def test_every_word_within_the_video_is_in_one_span(timed, segment_s):
  cues = [
    Cue(start_s, start_s + length_s, " ".join(f"w{index}_{word}" for word in range(num_words)))
    for index, (start_s, length_s, num_words) in enumerate(timed)
  ]
  aligned = transcript.align(cues, segments.cut(60.0, segment_s))
  told = [word for text in aligned for word in text.split()]
  assert sorted(told) == sorted(word for cue in cues for word in cue.text.split())
