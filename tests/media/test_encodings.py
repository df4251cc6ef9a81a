import pytest

from vsumjax.media import encodings, subtitles
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError

TEXT = "1\n00:00:01,000 --> 00:00:03,000\nUn café, s'il vous plaît\n"
CUES = (Cue(1.0, 3.0, "Un café, s'il vous plaît"),)


def load(folder, data, name="talk.srt"):
  path = folder / name
  path.write_bytes(data)
  return subtitles.load_transcript(path)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
  "encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_a_mark_tells_the_encoding(tmp_path, capfd, encoding, ends):
  mark = "\ufeff" if encoding.startswith(("utf-16", "utf-32")) else ""
  assert load(tmp_path, (mark + TEXT.replace("\n", ends)).encode(encoding)) == CUES
  assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
  ("encoding", "said"),
  [
    ("cp1252", "Señor, ¿qué tal? Mañana iré a la playa con mi niño"),
    ("cp1252", "Un café"),
    ("cp1251", "Привет, как дела? Мы идём домой сегодня вечером"),
    ("cp932", "これは字幕のテストです。今日はいい天気ですね"),
    ("gb18030", "你好，今天天气很好，我们去公园吧"),
  ],
)
def test_an_older_encoding_is_guessed_and_told_in_one_line(tmp_path, capfd, encoding, said):
  text = f"1\n00:00:01,000 --> 00:00:03,000\n{said}\n"
  for _ in range(2):  # told once, however often it is read
    assert load(tmp_path, text.encode(encoding)) == (Cue(1.0, 3.0, said),)
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith(f"{tmp_path / 'talk.srt'}: not UTF-8; read as {encoding}, ")


def test_an_xml_declaration_goes_before_a_guess(tmp_path, capfd):
  text = (
    '<?xml version="1.0" encoding="iso-8859-5"?>\n<tt xmlns="http://www.w3.org/ns/ttml"><body><div>'
    '<p begin="1s" end="3s">Да</p></div></body></tt>'
  )
  assert load(tmp_path, text.encode("iso-8859-5"), "talk.ttml") == (Cue(1.0, 3.0, "Да"),)
  assert capfd.readouterr().err == ""
  with pytest.raises(InputError, match=r"talk\.ttml: no encoding is known as 'nonesuch'"):
    load(tmp_path, text.replace("iso-8859-5", "nonesuch").encode("iso-8859-5"), "talk.ttml")


def test_what_the_mark_says_must_be_so():
  data = b"\xff\xfe" + "a\nb".encode("utf-16-le") + b"\x00"
  with pytest.raises(InputError, match=r"^talk\.srt:2: not UTF-16, as its beginning says"):
    encodings.decode("talk.srt", data)
