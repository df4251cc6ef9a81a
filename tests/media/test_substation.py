import pytest

from vsumjax.media import subtitles
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError

HEAD = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Style: Default,Arial,20,&HZZ

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def load(folder, text, suffix=".ass"):
  path = folder / f"talk{suffix}"
  path.write_text(text)
  return subtitles.load_transcript(path)


def test_dialogue_is_read_without_tags_comments_and_drawings(tmp_path):
  text = HEAD + (
    r"Dialogue: 0,0:00:01.50,0:00:03.00,Default,Ann,0,0,0,,{\an8\i1}Come, {\i0}come\Nin\h!"
    "\nComment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,a remark\n"
    r"Dialogue: 1,0:00:01.50,0:00:03.00,Default,Ann,0,0,0,,{\blur3}Come, come\Nin !"
    "\n"
    r"Dialogue: 0,100:00:00.00,100:00:01.00,Default,,0,0,0,,{\p1}m 0 0 l 9 9{\p0}B"
    "\n"
  )
  assert load(tmp_path, text) == (Cue(1.5, 3.0, "Come, come in !"), Cue(360_000.0, 360_001.0, "B"))


def test_format_says_the_columns(tmp_path):
  text = "[Events]\nFormat: Start, End, Text\nDialogue: 0:00:01.00,0:00:02.00,A, b\n"
  assert load(tmp_path, text, ".ssa") == (Cue(1.0, 2.0, "A, b"),)
  assert load(tmp_path, "") == ()


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("Hi\n", ":1: expected [Script Info] and [Events]"),
    ("[Events]\nFormat: Start, Text, End\n", ":2: expected a format with Start, End and"),
    ("[Events]\nDialogue: 0,0:00:01.00\n", ":2: expected 10 values with commas between, found 2"),
    (
      "[Events]\nDialogue: 0,0:00:01.00,2,D,,0,0,0,,A\n",
      ":2: end: expected a time like 0:00:01.50",
    ),
    ("[Events]\nDialogue: 0,0:00:02.00,0:00:01.00,D,,0,0,0,,A\n", ":2: the line ends before it"),
  ],
)
def test_bad_line_is_named(tmp_path, text, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, text)
  assert str(raised.value).startswith(f"{tmp_path / 'talk.ass'}{told}")
