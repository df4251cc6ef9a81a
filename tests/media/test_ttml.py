import pytest

from vsumjax.media import subtitles
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError

NAMESPACES = 'xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"'


def load(folder, body, attributes=NAMESPACES):
  path = folder / "talk.ttml"
  path.write_text(
    f'<?xml version="1.0" encoding="UTF-8"?>\n<tt {attributes}><body><div>{body}</div></body></tt>'
  )
  return subtitles.load_transcript(path)


def test_paragraphs_are_read(tmp_path):
  body = """
    <p begin="00:00:01.500" end="00:00:03.000">Come,<br/>come
      <span><span>i</span>n</span> &amp; <metadata>no word</metadata>sit</p>
    <p begin="4s" dur="1500ms">B</p>
    <p begin="0.1m" end="0.01h"><span>  </span></p>
  """
  expected = (Cue(1.5, 3.0, "Come, come in & sit"), Cue(4.0, 5.5, "B"))
  assert load(tmp_path, body) == expected
  assert load(tmp_path, body, 'xmlns="http://www.w3.org/2006/10/ttaf1"') == expected


def test_times_count_from_the_element_around(tmp_path):
  body = (
    '<div begin="10s" end="20s"><p begin="1s" end="2s">A</p><p begin="3s">B</p>'
    '<p><span begin="4s" end="5s">c </span> <span begin="5s" end="6s">d</span></p></div>'
  )
  assert load(tmp_path, body) == (
    Cue(11.0, 12.0, "A"),
    Cue(13.0, 20.0, "B"),
    Cue(14.0, 15.0, "c"),
    Cue(15.0, 16.0, "d"),
  )


def test_frames_and_ticks_are_read(tmp_path):
  rates = 'ttp:frameRate="25" ttp:tickRate="1000"'
  body = '<p begin="00:00:01:05" end="50f">A</p><p begin="2500t" end="3s">B</p>'
  assert load(tmp_path, body, f"{NAMESPACES} {rates}") == (Cue(1.2, 2.0, "A"), Cue(2.5, 3.0, "B"))
  slowed = f'{NAMESPACES} ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"'
  (cue,) = load(tmp_path, '<p begin="0f" end="30f">A</p>', slowed)
  assert cue.end_s == pytest.approx(1.001)


@pytest.mark.parametrize(
  ("body", "told"),
  [
    ("<p>", ":2:"),
    ("<p>A</p>", ": p[0]: lacks the times `begin` and `end`"),
    ('<p begin="1s" end="2s">A</p><p begin="1s">B</p>', ": p[1]: lacks the times"),
    ('<p begin="soon" end="2s">A</p>', ": p[0].begin: expected a time like 00:00:01.500 or 1.5s"),
    ('<p begin="2s" end="1s">A</p>', ": p[0]: ends before it starts"),
    ('<p begin="999999999999h" end="1s">A</p>', ": p[0].begin: later than any time can be"),
    ('<p timeContainer="seq">A</p>', ": p[0].timeContainer: only 'par' is read"),
  ],
)
def test_bad_place_is_named(tmp_path, body, told):
  with pytest.raises(InputError) as raised:
    load(tmp_path, body)
  message = str(raised.value)
  assert message.startswith(f"{tmp_path / 'talk.ttml'}{told}") and "\n" not in message


@pytest.mark.parametrize("name", ["frameRate", "tickRate", "frameRateMultiplier"])
def test_a_bad_rate_is_named(tmp_path, name):
  with pytest.raises(InputError, match=rf"talk\.ttml: ttp:{name}: must be .*, is 'x'"):
    load(tmp_path, "", f'{NAMESPACES} ttp:{name}="x"')


def test_other_xml_is_refused(tmp_path):
  path = tmp_path / "talk.ttml"
  path.write_text("<html/>")
  with pytest.raises(InputError, match=r"talk\.ttml: expected <tt> as Timed Text begins, found <h"):
    subtitles.load_transcript(path)
