import pytest

from vsumjax.media import subtitles
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError

TWO = (Cue(1.0, 3.0, "Come in"), Cue(4.0, 5.0, "B"))


def load(folder, text, suffix):
  path = folder / f"talk{suffix}"
  path.write_text(text)
  return subtitles.load_transcript(path)


@pytest.mark.parametrize(
  "text",
  [
    # Numbers are missing, all or one.
    "00:00:01,000 --> 00:00:03,000\nCome in\n\n00:00:04,000 --> 00:00:05,000\nB\n",
    "1\n00:00:01,000 --> 00:00:03,000\nCome in\n\n00:00:04,000 --> 00:00:05,000\nB\n",
    # An empty line behind the times, within the text, between number and times.
    "1\n00:00:01,000 --> 00:00:03,000\n\nCome in\n\n2\n00:00:04,000 --> 00:00:05,000\nB\n",
    "1\n00:00:01,000 --> 00:00:03,000\nCome\n\nin\n\n\n2\n00:00:04,000 --> 00:00:05,000\nB\n",
    "1\n\n00:00:01,000 --> 00:00:03,000\nCome in\n\n2\n\n00:00:04,000 --> 00:00:05,000\nB",
    # No empty line between the cues.
    "1\n00:00:01,000 --> 00:00:03,000\nCome in\n2\n00:00:04,000 --> 00:00:05,000\nB\n",
    "00:00:01,000 --> 00:00:03,000\nCome in\n00:00:04,000 --> 00:00:05,000\nB\n",
    # Lines of one blank.
    "1\n00:00:01,000 --> 00:00:03,000\n \nCome in\n \n2\n00:00:04,000 --> 00:00:05,000\n \nB\n \n",
  ],
)
def test_subrip_of_many_programs_is_read(tmp_path, text):
  assert load(tmp_path, text, ".srt") == TWO


def test_numbers_and_arrows_may_be_said(tmp_path):
  text = (
    "1\n00:00:01,000 --> 00:00:03,000\nCounting:\n\n3\n\na --> b\n2 --> 1\n\n"
    "2\n00:00:04,000 --> 00:00:05,000\n42\n"
  )
  expected = (Cue(1.0, 3.0, "Counting: 3 a --> b 2 --> 1"), Cue(4.0, 5.0, "42"))
  assert load(tmp_path, text, ".srt") == expected


@pytest.mark.parametrize("tail", ["{}", "{}\nto go", "{}\n\n00:00:04,000 -> 00:00:05,000"])
def test_a_number_is_said_unless_it_is_next_in_turn(tmp_path, tail):
  text = "1\n00:00:01,000 --> 00:00:03,000\nA\n\n" + tail
  if "->" not in tail:
    said = " ".join(tail.format(7).split())
    assert load(tmp_path, text.format(7), ".srt") == (Cue(1.0, 3.0, f"A {said}"),)
  with pytest.raises(InputError, match=r"talk\.srt:[567]: (expected times|cue '2' ends before)"):
    load(tmp_path, text.format(2), ".srt")


def test_empty_lines_in_cues_of_webvtt_are_passed_over(tmp_path):
  text = (
    "WEBVTT\n\n00:00:01.000 --> 00:00:02.500 align:start position:0%\n\n"
    "good<00:00:01.400><c> night</c>\n\n"
    "00:00:02.500 --> 00:00:04.000 line:79%\n\na line\n\nand one more\n\n"
    "NOTE not this\n\nlast\n00:05.000 --> 00:06.000\n \nof all\n\nSTYLE\n::cue {}\n"
  )
  assert load(tmp_path, text, ".vtt") == (
    Cue(1.0, 2.5, "good night"),
    Cue(2.5, 4.0, "a line and one more"),
    Cue(5.0, 6.0, "of all"),
  )


def test_text_behind_a_note_is_of_no_cue(tmp_path):
  text = "WEBVTT\n\n00:01.000 --> 00:02.000\nA\n\nNOTE x\n\nlost\n"
  with pytest.raises(InputError, match=r"talk\.vtt:8: expected the times of a cue, found 'lost'"):
    load(tmp_path, text, ".vtt")


def test_sbv_is_read(tmp_path):
  text = "0:00:01.000,0:00:03.000\nCome[br]in\n\n0:00:04.000,0:00:05.000\n\nB\n"
  assert load(tmp_path, text, ".sbv") == TWO


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("Hi\n", ":1: expected the times of a cue, found 'Hi'"),
    ("0:00:01.000,0:00:03.000\nA\n\n0:00:04.000,0:5\nB\n", ":4: expected times like 0:00:01.000,"),
    ("0:00:03.000,0:00:01.000\nA\n", ":1: the cue ends before it starts"),
  ],
)
def test_bad_line_of_sbv_is_named(tmp_path, text, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, text, ".sbv")
  assert str(raised.value).startswith(f"{tmp_path / 'talk.sbv'}{told}")
