import pytest

from vsumjax.media import rolling, subtitles
from vsumjax.media.rolling import Shown
from vsumjax.media.subtitles import Cue

ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.000 align:start position:0%
\x20
we<00:00:00.400><c> took</c><00:00:00.700><c> the</c><00:00:01.200><c> train</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
we took the train
\x20

00:00:02.010 --> 00:00:04.500 align:start position:0%
we took the train
down<00:00:02.600><c> to</c><00:00:03.000><c> the</c><00:00:03.400><c> sea</c>

00:00:04.500 --> 00:00:04.510 align:start position:0%
down to the sea
\x20
"""


def test_rolling_captions_are_told_once(tmp_path):
  path = tmp_path / "talk.vtt"
  path.write_text(ROLLING)
  expected = (Cue(0.0, 2.0, "we took the train"), Cue(2.01, 4.5, "down to the sea"))
  assert subtitles.load_transcript(path) == expected


def shown(*texts, step_s=2.0):
  """Cues that follow each other, with "/" between lines."""
  return [
    Shown(n * step_s, (n + 1) * step_s, tuple(text.split("/"))) for n, text in enumerate(texts)
  ]


@pytest.mark.parametrize(
  ("texts", "said"),
  [
    # Two lines that roll, and three.
    (("a", "a/b", "b/c", "c/d"), ("a", "b", "c", "d")),
    (("a/b/c", "b/c/d", "c/d/e"), ("a/b/c", "d", "e")),
    # A line that is said twice in a row.
    (("a", "a/la", "la/la", "la/b"), ("a", "la", "la", "b")),
    # Not rolling: one line of a song twice, an answer that repeats, a line again and again.
    (("a/b", "b/c", "d/e", "f/g", "h/i"), ("a/b", "b/c", "d/e", "f/g", "h/i")),
    (("no", "no/yes"), ("no", "no/yes")),
    (("no", "no", "no"), ("no", "no", "no")),
    ((), ()),
  ],
)
def test_what_rolls_is_told_from_what_is_repeated(texts, said):
  assert ["/".join(cue.lines) for cue in rolling.utterances(shown(*texts))] == list(said)


def test_lines_shown_again_after_a_pause_are_said_again():
  cues = shown("a", "a/b", "b/c", "c/d")
  late = Shown(20.0, 22.0, ("d", "e"))
  assert rolling.utterances([*cues, late])[-1] == late
